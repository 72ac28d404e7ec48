"""The pre-pass: interleaved rows -> buckets by entity and time, in small memory, resumable, with every row's origin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan, shuffle_plan
from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import Inventory
from cluster.core.plan.shuffle_plan import ORIGIN_FILE, ORIGIN_ROW, by_keys, row_hashes
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.plan import input_scan
from cluster.runtime.shuffle import bucket_sort, bucket_split
from cluster.runtime.shuffle.shuffle import (
    keep_buckets,
    open_shuffle,
    scan_layout,
    shuffle_input,
    shuffle_where_needed,
    strip_buckets,
)
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from tests.inputs.series import (
    cut_anywhere,
    make_series,
    replace,
    settings_for,
    with_key_type,
    with_nulls,
    with_ties,
    with_time_type,
    write_cut,
)
from tests.unit.cluster.runtime.input.test_key_scan import KEY_TYPES, TIME_TYPES

KEY_KINDS = [*KEY_TYPES, pa.bool_(), pa.decimal128(12, 2), pa.uuid()]


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for a few rows only, so that small inputs take every road."""
    for module, name, value in (
        (shuffle_plan, "PIECE_BYTES", 3000),
        (shuffle_plan, "BUCKET_BYTES", 3000),
        (bucket_split, "ROUND_BYTES", 1000),
        (bucket_split, "BATCH_ROWS", 7),
        (bucket_sort, "SORT_BYTES", 900),
        (bucket_sort, "MERGE_BYTES", 500),
        (bucket_sort, "BATCH_ROWS_MIN", 3),
    ):
        monkeypatch.setattr(module, name, value)


def nothing() -> None:
    """For a driver that may always go on."""


def taken(settings: InputSettings, place: StoreSpec, rows_per_file: int) -> Inventory:
    """What a run takes an input for."""
    look = scan_layout(settings, list_files(settings), map, rows_per_file)
    return shuffle_where_needed(settings, place, map, nothing, look).inventory


def shuffled(table: Any, seed: int = 0) -> Any:
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


def numbered(table: Any) -> Any:
    """With a feature that is the row's number in the input."""
    return table.append_column("row", pa.array(np.arange(table.num_rows), pa.int64()))


def asked(folder: Path, **changes: Any) -> InputSettings:
    return settings_for(folder, features=(("rows", ("row",)),), **changes)


def take(folder: Path, check: Callable[[], None] = nothing, mapper: Any = map, **changes: Any) -> Inventory:
    settings = asked(folder / "in", **changes)
    files = FileList.of(map(str, (folder / "in").glob("*.parquet")))
    return shuffle_input(open_shuffle(settings, files, StoreSpec(str(folder / "out")), map), mapper, check)


def read_buckets(folder: Path, inventory: Inventory) -> list[Any]:
    return [pq.read_table(folder / "out" / file.path) for file in inventory.files]


def rows_in_order(folder: Path, inventory: Inventory) -> dict[Any, list[int]]:
    """Entity -> the numbers of its rows, as the inventory's extents name them."""
    tables, found = read_buckets(folder, inventory), {}
    names = inventory.keys.column(0).to_pylist()
    for entity, file, start, count in zip(
        inventory.extent_entity, inventory.extent_file, inventory.extent_start, inventory.extent_count, strict=True
    ):
        part = tables[file].slice(start, count)
        found.setdefault(names[entity], []).extend(part.column("row").to_pylist())
    return found


def wanted(table: Any) -> dict[Any, list[int]]:
    """Entity -> the numbers of its rows by time, equal times in the input's order."""
    rows = list(zip(table.column("entity").to_pylist(), table.column("time").to_pylist(), strict=True))
    order = sorted((row for row in range(len(rows)) if None not in rows[row]), key=lambda row: (rows[row][1], row))
    found: dict[Any, list[int]] = {}
    for row in order:
        found.setdefault(rows[row][0], []).append(row)
    return found


@pytest.mark.usefixtures("cramped")
@pytest.mark.parametrize("seed", range(6))
def test_rows_come_by_entity_and_time_whatever_their_order_and_the_files_cuts(tmp_path: Path, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 60, 8).tolist()
    table = numbered(shuffled(with_ties(make_series(lengths), [3, 4, 20, 21, 22]), seed))
    cut = cut_anywhere(table.num_rows, parts=5, seed=seed)
    write_cut(tmp_path / "in", table, cut, [17, 1, 40])
    inventory = take(tmp_path)
    assert rows_in_order(tmp_path, inventory) == wanted(table)
    assert len(inventory.files) > 1
    assert (inventory.layout, inventory.rows_in) == ("interleaved", table.num_rows)
    assert inventory.sorted.all()


@pytest.mark.usefixtures("cramped")
@pytest.mark.parametrize("key_type", [pa.string(), pa.int16(), pa.date32()], ids=str)
def test_entities_can_be_taken_in_order_of_their_keys_with_their_own_rows(tmp_path: Path, key_type: Any) -> None:
    table = with_key_type(numbered(shuffled(make_series([9, 30, 8, 25, 7, 60]))), key_type)
    table = replace(table, "entity", pc.negate(table.column("entity"))) if key_type == pa.int16() else table
    write_cut(tmp_path / "in", table, [70, 69], [17])
    found = by_keys(take(tmp_path))
    keys = found.keys.column(0).to_pylist()
    assert keys == sorted(wanted(table))
    assert rows_in_order(tmp_path, found) == wanted(table)
    assert found.entity_rows.tolist() == [len(wanted(table)[key]) for key in keys]
    assert found.extent_entity.tolist() == sorted(found.extent_entity)


@pytest.mark.usefixtures("cramped")
def test_one_long_entity_among_others_is_merged_from_runs(tmp_path: Path) -> None:
    table = numbered(shuffled(with_ties(make_series([900, 3, 2]), range(1, 900, 7))))
    write_cut(tmp_path / "in", table, [400, 505], [100])
    assert rows_in_order(tmp_path, take(tmp_path)) == wanted(table)
    assert [name for name in LocalStore(str(tmp_path / "out")).list(SHUFFLE) if "-run-" in name] == []


@pytest.mark.usefixtures("cramped")
def test_every_row_knows_its_place_in_the_input(tmp_path: Path) -> None:
    table = numbered(shuffled(make_series([30, 20, 10])))
    write_cut(tmp_path / "in", table, [25, 0, 35], [8])
    whole = pa.concat_tables(read_buckets(tmp_path, take(tmp_path)))
    first = np.array([0, 25, 25])
    place = first[whole.column(ORIGIN_FILE).to_numpy()] + whole.column(ORIGIN_ROW).to_numpy()
    assert place.tolist() == whole.column("row").to_pylist()


@pytest.mark.usefixtures("cramped")
@pytest.mark.parametrize("key_type", KEY_KINDS, ids=str)
def test_keys_of_every_type_are_clustered(tmp_path: Path, key_type: Any) -> None:
    table = shuffled(numbered(make_series([9, 8])))
    if pa.types.is_boolean(key_type) or pa.types.is_decimal(key_type):
        table = replace(table, "entity", with_key_type(table, pa.int32()).column("entity").cast(key_type))
    elif key_type == pa.uuid():
        table = replace(table, "entity", with_key_type(table, pa.binary(16)).column("entity").cast(key_type))
    else:
        table = with_key_type(table, key_type)
    write_cut(tmp_path / "in", table, [9, 8], [4])
    inventory = take(tmp_path)
    assert sorted(inventory.entity_rows.tolist()) == [8, 9]
    assert sum(len(rows) for rows in rows_in_order(tmp_path, inventory).values()) == 17


@pytest.mark.usefixtures("cramped")
@pytest.mark.parametrize("time_type", [*TIME_TYPES, pa.date32(), pa.timestamp("ns", "+05:30")], ids=str)
def test_times_of_every_type_are_put_in_order(tmp_path: Path, time_type: Any) -> None:
    table = with_time_type(numbered(shuffled(make_series([70, 8]))), time_type)
    write_cut(tmp_path / "in", table, [40, 38], [9])
    assert rows_in_order(tmp_path, take(tmp_path)) == wanted(table)


@pytest.mark.usefixtures("cramped")
def test_further_columns_break_ties_by_their_own_order(tmp_path: Path) -> None:
    table = with_ties(numbered(make_series([60])), range(1, 60))
    letters = pa.array([f"{number * 7 % 60:02d}" for number in range(60)])
    write_cut(tmp_path / "in", table.append_column("leg", letters), [30, 30], [7])
    (rows,) = rows_in_order(tmp_path, take(tmp_path, time=("time", "leg"))).values()
    keys = [(table.column("time")[row].as_py(), letters[row].as_py()) for row in rows]
    assert keys == sorted(keys)


@pytest.mark.usefixtures("cramped")
def test_bad_and_skipped_rows_are_counted_and_named(tmp_path: Path) -> None:
    table = with_nulls(with_nulls(make_series([20, 20]), "entity", [3, 30]), "time", [5])
    write_cut(tmp_path / "in", numbered(table), [25, 15], [6])
    inventory = take(tmp_path, since="2026-01-01T00:10:00")
    outside = sum(time is not None and time.minute < 10 for time in table.column("time").to_pylist())
    assert inventory.skipped == outside
    found = zip(*(inventory.bad.column(name).to_pylist() for name in ("file", "row", "reason")), strict=True)
    assert [(Path(path).name, row, reason) for path, row, reason in found] == [
        ("part-000.parquet", 5, "null_time"),
        ("part-001.parquet", 5, "null_entity"),
    ]
    assert int(inventory.entity_rows.sum()) + inventory.skipped + inventory.bad.num_rows == 40


@pytest.mark.usefixtures("cramped")
def test_a_broken_pre_pass_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    table = numbered(shuffled(make_series([60, 50, 40, 30])))
    write_cut(tmp_path / "in", table, [90, 90], [20])
    store = LocalStore(str(tmp_path / "out"))
    made: dict[str, int] = {}
    for tasks in range(1, 40):
        try:
            inventory = take(tmp_path, check=_failing_after(tasks))
        except RuntimeError:
            for name in store.list(SHUFFLE):
                found = (tmp_path / "out" / SHUFFLE / name).stat().st_ino
                assert made.setdefault(name, found) == found, f"{name} was written again"
            continue
        break
    assert tasks > 3
    assert rows_in_order(tmp_path, inventory) == wanted(table)


def _failing_after(tasks: int) -> Callable[[], None]:
    left = iter(range(tasks))

    def check() -> None:
        if next(left, None) is None:
            raise RuntimeError("the driver is gone")

    return check


@pytest.mark.usefixtures("cramped")
def test_what_other_settings_or_other_files_left_is_not_taken_and_goes(tmp_path: Path) -> None:
    table = numbered(shuffled(make_series([20, 20])))
    write_cut(tmp_path / "in", table, None, [20])
    take(tmp_path)
    before = LocalStore(str(tmp_path / "out")).list(SHUFFLE)
    inventory = take(tmp_path, until="2026-01-01T00:10:00")
    after = LocalStore(str(tmp_path / "out")).list(SHUFFLE)
    assert inventory.skipped
    assert not set(before) & set(after)


@pytest.mark.usefixtures("cramped")
def test_buckets_alone_are_kept_and_cut_down_to_what_an_audit_needs(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", numbered(shuffled(make_series([20, 20]))), None, [20])
    inventory, store = take(tmp_path), LocalStore(str(tmp_path / "out"))
    names = [file.path for file in inventory.files]
    keys = pa.concat_tables(read_buckets(tmp_path, inventory)).drop_columns("row")
    keep_buckets(store, inventory)
    assert [f"{SHUFFLE}/{name}" for name in store.list(SHUFFLE)] == names
    for _ in range(2):
        strip_buckets(StoreSpec(store.root), names, asked(tmp_path), map)
        assert pa.concat_tables(read_buckets(tmp_path, inventory)).equals(keys)


def test_a_file_that_cannot_be_read_is_named_and_leaves_no_piece(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", numbered(make_series([400])), [200, 200])
    path = tmp_path / "in" / "part-001.parquet"
    content = bytearray(path.read_bytes())
    content[4:900] = bytes(896)
    path.write_bytes(content)
    with pytest.raises(InputBroken, match=r"part-001\.parquet is damaged"):
        take(tmp_path)
    assert LocalStore(str(tmp_path / "out")).list(SHUFFLE) == []


def test_clustered_input_is_left_as_it_is_unless_the_layout_says_otherwise(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", numbered(make_series([4, 3])))
    place = StoreSpec(str(tmp_path / "out"))
    plain = taken(asked(tmp_path / "in"), place, 10)
    assert (plain.layout, plain.sources) == ("clustered", ())
    forced = taken(asked(tmp_path / "in", layout="shuffle"), place, 10)
    assert forced.reason == 'input.layout is "shuffle"; clustered first'
    assert [len(rows) for rows in rows_in_order(tmp_path, forced).values()] == [4, 3]


def test_a_hash_is_of_the_value_and_not_of_how_it_is_held() -> None:
    texts = ["", "a", "b", "ab", "ba", "ü/'", None]
    kinds = [pa.string(), pa.large_string(), pa.string_view()]
    plain = [row_hashes(pa.table([pa.array(texts, kind)], names=["x"])) for kind in kinds]
    plain.append(row_hashes(pa.table([pa.array(texts).dictionary_encode()], names=["x"])))
    plain.append(row_hashes(pa.table([pa.array(["z", *texts]).slice(1)], names=["x"])))
    assert all((other == plain[0]).all() for other in plain)
    assert len(set(plain[0].tolist())) == len(texts)


def test_hashes_spread_entities_evenly() -> None:
    for column in (pa.array(range(10_000)), pa.array([f"e{i}" for i in range(10_000)])):
        counts = np.bincount((row_hashes(pa.table([column], names=["x"])) % np.uint64(16)).astype(int))
        assert counts.min() > 500


def test_a_long_entity_out_of_order_is_clustered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_plan, "SHARD_ROWS_MIN", 8)
    place = StoreSpec(str(tmp_path / "out"))
    table = numbered(make_series([9, 3]))
    write_cut(tmp_path / "in", table.take(pa.array([1, 0, *range(2, 12)])))
    found = taken(asked(tmp_path / "in"), place, 100)
    assert "entity='e0000' has 9 rows that are not in order of time" in found.reason
    assert list(rows_in_order(tmp_path, found).values()) == [[*range(9)], [9, 10, 11]]
    write_cut(tmp_path / "in", table.take(pa.array([*range(9), 10, 9, 11])))
    assert taken(asked(tmp_path / "in"), place, 100).sources == ()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_footers_are_read_alike_however_files_are_batched(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cut(tmp_path / "in", numbered(make_series([5, 3, 9])), [4, 0, 6, 1, 6])
    settings, place = asked(tmp_path / "in"), StoreSpec(str(tmp_path / "out"))
    files = sorted(str(path) for path in (tmp_path / "in").iterdir())
    monkeypatch.setattr(input_scan, "BATCHES_MIN", 1)
    monkeypatch.setattr(input_scan, "BATCH_FILES_MAX", size)
    shuffle = open_shuffle(settings, FileList.of(files[::-1]), place, map)
    assert [(source.path, source.rows) for source in shuffle.sources] == list(zip(files, [4, 0, 6, 1, 6], strict=True))
    assert shuffle.columns.names == ["entity", "time", "row"]
    other = make_series([3])
    pq.write_table(numbered(other.set_column(0, "entity", pa.array([1, 2, 3]))), files[3])
    with pytest.raises(InputRefused, match=r"'entity' is int64 in .*003\.parquet but (large_)?string in"):
        open_shuffle(settings, FileList.of(files), place, map)
