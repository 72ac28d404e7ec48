"""Runs of keys -> entities, extents, layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.plan.inventory import Inventory, build_inventory
from cluster.run_errors import InputRefused
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.plan.input_scan import make_inventory
from tests.inputs.series import make_series, settings_for, with_nulls, with_ties, with_time_type, write_cut


def take(folder: Path, table: Any, file_rows: Sequence[int] | None = None, **settings: Any) -> Inventory:
    paths = write_cut(folder, table, file_rows, [3, 2])
    return build_inventory([scan_file(str(path), settings_for(folder, **settings)) for path in paths])


def places(inventory: Inventory) -> list[tuple[int, int, int, int]]:
    arrays = (inventory.extent_entity, inventory.extent_file, inventory.extent_start, inventory.extent_count)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


def pick(table: Any, rows: Sequence[int]) -> Any:
    return table.take(pa.array(rows))


def test_tidy_input_is_clustered_and_sorted(tmp_path: Path) -> None:
    inventory = take(tmp_path, make_series([3, 1, 4]))
    assert inventory.layout == "clustered"
    assert inventory.reason == "every entity's rows lie together and in order of time"
    assert inventory.entity_rows.tolist() == [3, 1, 4]
    assert inventory.keys.column("entity").to_pylist() == ["e0000", "e0001", "e0002"]
    assert places(inventory) == [(0, 0, 0, 3), (1, 0, 3, 1), (2, 0, 4, 4)]


def test_an_entity_goes_on_over_files(tmp_path: Path) -> None:
    inventory = take(tmp_path, make_series([3, 1, 7]), [2, 0, 4, 3, 2])
    assert inventory.layout == "clustered"
    assert inventory.entity_rows.tolist() == [3, 1, 7]
    assert places(inventory) == [(0, 0, 0, 2), (0, 2, 0, 1), (1, 2, 1, 1), (2, 2, 2, 2), (2, 3, 0, 3), (2, 4, 0, 2)]


def test_the_order_of_scans_does_not_matter(tmp_path: Path) -> None:
    paths = write_cut(tmp_path, make_series([5, 5, 5]), [4, 4, 7])
    scans = [scan_file(str(path), settings_for(tmp_path)) for path in paths]
    ordered, reversed_ = build_inventory(scans), build_inventory(scans[::-1])
    assert places(ordered) == places(reversed_)
    assert ordered.files == reversed_.files


def test_files_of_later_times_may_hold_the_same_entities(tmp_path: Path) -> None:
    table = make_series([4, 4])
    inventory = take(tmp_path, pick(table, [0, 1, 4, 5, 2, 3, 6, 7]), [4, 4])
    assert inventory.layout == "clustered"
    assert "2 of 2 go on in others, later" in inventory.reason
    assert places(inventory) == [(0, 0, 0, 2), (0, 1, 0, 2), (1, 0, 2, 2), (1, 1, 2, 2)]


def test_extents_follow_time_where_file_names_do_not(tmp_path: Path) -> None:
    table = make_series([4, 4])
    inventory = take(tmp_path, pick(table, [2, 3, 6, 7, 0, 1, 4, 5]), [4, 4])
    assert inventory.layout == "clustered"
    assert places(inventory) == [(0, 1, 0, 2), (0, 0, 0, 2), (1, 1, 2, 2), (1, 0, 2, 2)]
    assert inventory.sorted.all()


def test_text_times_order_extents_too(tmp_path: Path) -> None:
    table = with_time_type(make_series([4, 4]), pa.string())
    inventory = take(tmp_path, pick(table, [2, 3, 6, 7, 0, 1, 4, 5]), [4, 4])
    assert [file for _, file, _, _ in places(inventory)] == [1, 0, 1, 0]


def test_rows_of_another_entity_in_between_are_interleaved(tmp_path: Path) -> None:
    inventory = take(tmp_path, pick(make_series([4, 2]), [0, 1, 4, 2, 3, 5]))
    assert inventory.layout == "interleaved"
    assert "entity='e0000' has rows 0 to 1 of" in inventory.reason
    assert "and rows 3 to 4 of" in inventory.reason
    assert "1 of the others" in inventory.reason


def test_files_that_overlap_in_time_are_interleaved(tmp_path: Path) -> None:
    inventory = take(tmp_path, pick(make_series([4, 4]), [0, 2, 4, 5, 1, 3, 6, 7]), [4, 4])
    assert inventory.layout == "interleaved"
    assert "overlap" in inventory.reason


def test_bad_and_skipped_rows_do_not_interleave(tmp_path: Path) -> None:
    table = with_nulls(make_series([9]), "entity", [2, 5])
    inventory = take(tmp_path, table, since="2026-01-01T00:03:00")
    assert inventory.layout == "clustered"
    assert inventory.entity_rows.sum() + inventory.skipped + inventory.bad.num_rows == 9


def test_an_entity_out_of_order_is_clustered_and_marked(tmp_path: Path) -> None:
    inventory = take(tmp_path, pick(make_series([3, 3]), [0, 1, 2, 4, 3, 5]))
    assert inventory.layout == "clustered"
    assert inventory.sorted.tolist() == [True, False]
    assert "1 of 2 are not in order of time" in inventory.reason


@pytest.mark.parametrize("cut", range(7))
def test_an_entity_out_of_order_keeps_file_order_wherever_it_is_cut(tmp_path: Path, cut: int) -> None:
    inventory = take(tmp_path, pick(make_series([6]), [3, 4, 5, 0, 1, 2]), [cut, 6 - cut])
    assert inventory.layout == "clustered"
    whole = [(0, 0, 0, 6)] if cut in (0, 6) else [(0, 0, 0, cut), (0, 1, 0, 6 - cut)]
    if cut == 3:  # both halves are in order, and so is the whole when the second file comes first
        assert inventory.sorted.all()
        whole = whole[::-1]
    elif cut == 0:
        whole = [(0, 1, 0, 6)]
    assert places(inventory) == whole


def test_ties_over_a_files_border_are_counted(tmp_path: Path) -> None:
    inventory = take(tmp_path, with_ties(make_series([6]), [2, 4]), [2, 4])
    assert inventory.ties == 2
    assert inventory.sorted.all()


def test_equal_times_keep_file_order(tmp_path: Path) -> None:
    tied = with_ties(make_series([4]), [2])  # minutes a b b c: the second b is in the first file
    inventory = take(tmp_path, pick(tied, [2, 3, 0, 1]), [2, 2])
    assert inventory.layout == "clustered"
    assert not inventory.sorted.any()
    assert [file for _, file, _, _ in places(inventory)] == [0, 1]


def test_bad_rows_are_placed(tmp_path: Path) -> None:
    inventory = take(tmp_path, with_nulls(make_series([4, 4]), "time", [1, 6]), [4, 4])
    assert inventory.bad.column_names == ["key__entity", "reason", "file", "row"]
    assert inventory.bad.column("row").to_pylist() == [1, 2]
    assert [Path(path).name for path in inventory.bad.column("file").to_pylist()] == [
        "part-000.parquet",
        "part-001.parquet",
    ]


def test_composite_keys_are_told_apart(tmp_path: Path) -> None:
    table = make_series([2, 2, 2, 2]).append_column("part", pa.array([1, 1, 1, 1, 2, 2, 2, 2]))
    table = table.set_column(0, "entity", pa.array(["a", "a", "b", "b", "a", "a", "b", "b"]))
    table = table.append_column("third", pa.array([True] * 8))
    inventory = take(tmp_path, table, entity=("entity", "part", "third"))
    assert inventory.keys.to_pydict() == {"entity": ["a", "b", "a", "b"], "part": [1, 1, 2, 2], "third": [True] * 4}
    assert inventory.entity_rows.tolist() == [2, 2, 2, 2]
    assert inventory.layout == "clustered"


def test_times_that_cannot_be_compared_with_those_of_another_file_are_refused(tmp_path: Path) -> None:
    write_cut(tmp_path / "a", make_series([2]))
    write_cut(tmp_path / "b", with_time_type(make_series([2]), pa.timestamp("ms", "UTC")))
    with pytest.raises(InputRefused, match=r"'time' is timestamp\[ms, tz=UTC\] in .*b/part-000.* but timestamp\[us\]"):
        make_inventory(settings_for(tmp_path), map)


def test_text_encodings_and_number_widths_may_differ_between_files(tmp_path: Path) -> None:
    table = make_series([2])
    (first,) = write_cut(tmp_path / "a", table)
    other = table.set_column(0, "entity", table.column("entity").dictionary_encode())
    (second,) = write_cut(tmp_path / "b", other.set_column(2, "f0", pa.array([1, 2], pa.int16())))
    inventory = build_inventory([scan_file(str(path), settings_for(tmp_path)) for path in (first, second)])
    assert inventory.entity_rows.tolist() == [4]


def test_no_good_row_at_all_is_an_empty_inventory(tmp_path: Path) -> None:
    inventory = take(tmp_path, with_nulls(make_series([3]), "entity", [0, 1, 2]))
    assert (len(inventory.entity_rows), inventory.bad.num_rows, inventory.layout) == (0, 3, "clustered")


def test_many_short_entities_are_counted_exactly(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).integers(1, 5, 3000)
    inventory = take(tmp_path, make_series(lengths.tolist(), features=3), [100, int(lengths.sum()) - 100])
    assert inventory.entity_rows.tolist() == lengths.tolist()
