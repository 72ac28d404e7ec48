"""One file -> its runs of keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.inventory import FileExtents
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.input import source_files
from cluster.runtime.input.key_scan import scan_file
from tests.inputs.series import make_series, replace, settings_for, with_key_type, with_nulls, with_ties, with_time_type

KEY_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
    pa.binary(),
    pa.binary_view(),
    pa.binary(8),
    pa.int8(),
    pa.uint16(),
    pa.int64(),
    pa.date32(),
]
TIME_TYPES = [
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("ns"),
    pa.timestamp("us", "Europe/Paris"),
    pa.int64(),
    pa.uint64(),
    pa.string(),
    pa.large_string(),
]


def scan(path: Path, table: Any, batch_rows: int = 1000, **settings: Any) -> FileExtents:
    """The runs of a table, which are the same whether text comes as it is or as places in a dictionary."""
    pq.write_table(table, path / "a.parquet", row_group_size=4)
    found = []
    for repeating_bytes in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source_files, "_REPEATING_BYTES", repeating_bytes)
            found.append(scan_file(str(path / "a.parquet"), settings_for(path, **settings), batch_rows))
    plain, by_dictionary = map(vars, found)
    for name, value in plain.items():
        same = value.equals if isinstance(value, pa.Table | pa.Schema) else partial(np.array_equal, value)
        assert same(by_dictionary[name]), name
    return found[0]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 5, 1000])
def test_runs_do_not_depend_on_where_batches_end(tmp_path: Path, batch_rows: int) -> None:
    runs = scan(tmp_path, make_series([3, 1, 7, 2]), batch_rows)
    assert runs.keys.column("entity").to_pylist() == ["e0000", "e0001", "e0002", "e0003"]
    assert runs.row_start.tolist() == [0, 3, 4, 11]
    assert runs.row_count.tolist() == [3, 1, 7, 2]
    assert runs.sorted.all()
    assert (runs.ties, runs.skipped, runs.bad) == (0, 0, None)


def test_first_and_last_are_the_times_of_a_runs_first_and_last_row(tmp_path: Path) -> None:
    table = make_series([3, 2])
    runs = scan(tmp_path, table, 2)
    times = table.column("time").to_pylist()
    assert runs.first.column("time").to_pylist() == [times[0], times[3]]
    assert runs.last.column("time").to_pylist() == [times[2], times[4]]


@pytest.mark.parametrize("key_type", KEY_TYPES, ids=str)
def test_every_key_type_gives_the_same_runs(tmp_path: Path, key_type: Any) -> None:
    runs = scan(tmp_path, with_key_type(with_nulls(make_series([3, 1, 7, 2]), "entity", [5]), key_type), 2)
    assert runs.row_start.tolist() == [0, 3, 4, 6, 11]
    assert runs.row_count.tolist() == [3, 1, 1, 5, 2]
    assert runs.bad is not None
    assert runs.bad.column("reason").to_pylist() == ["null_entity"]


@pytest.mark.parametrize("time_type", TIME_TYPES, ids=str)
def test_every_time_type_is_checked_for_order(tmp_path: Path, time_type: Any) -> None:
    table = make_series([3, 4])
    table = pa.concat_tables([table.slice(0, 4), table.slice(5, 1), table.slice(4, 1), table.slice(6)])
    runs = scan(tmp_path, with_nulls(with_time_type(table, time_type), "time", [1]), 2)
    assert runs.row_start.tolist() == [0, 2, 3]
    assert runs.sorted.tolist() == [True, True, False]
    assert runs.bad is not None
    assert runs.bad.column("reason").to_pylist() == ["null_time"]


def test_dates_order_rows_and_tie_within_a_day(tmp_path: Path) -> None:
    days = pa.array([0, 0, 1, 1, 0], pa.int32()).cast(pa.date32())
    runs = scan(tmp_path, replace(make_series([2, 3]), "time", days))
    assert (runs.ties, runs.sorted.tolist()) == (2, [True, False])


def test_uuid_extension_keys_are_read_as_their_bytes(tmp_path: Path) -> None:
    ids = [bytes([i]) * 16 for i in (1, 1, 2)]
    keys = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    assert scan(tmp_path, replace(make_series([3]), "entity", keys)).row_count.tolist() == [2, 1]


def test_a_composite_key_changes_where_any_column_changes(tmp_path: Path) -> None:
    table = make_series([6]).append_column("part", pa.array([1, 1, 2, 2, 1, 1]))
    runs = scan(tmp_path, table, 4, entity=("entity", "part"))
    assert runs.row_start.tolist() == [0, 2, 4]
    assert runs.keys.column_names == ["entity", "part"]


def test_a_sliced_and_chunked_column_keeps_its_borders(tmp_path: Path) -> None:
    whole = make_series([5, 5, 5])
    table = pa.concat_tables([whole.slice(3, 4), whole.slice(7, 5)])
    assert scan(tmp_path, table, 3).row_count.tolist() == [2, 5, 2]


def test_ties_are_counted_over_batch_borders_and_break_by_further_columns(tmp_path: Path) -> None:
    table = with_ties(make_series([8]), [2, 3, 6]).append_column("flight", pa.array([1, 1, 1, 1, 1, 1, 0, 2]))
    assert scan(tmp_path, table, 3).ties == 3
    finer = scan(tmp_path, table, 3, time=("time", "flight"))
    assert (finer.ties, finer.sorted.tolist()) == (2, [False])


def test_text_breaks_ties_by_its_bytes(tmp_path: Path) -> None:
    table = with_ties(make_series([4]), [1, 2, 3]).append_column("leg", pa.array(["a", "b", "b", "c"]))
    runs = scan(tmp_path, table, 2, time=("time", "leg"))
    assert (runs.ties, runs.sorted.tolist()) == (1, [True])


def test_bad_rows_are_named_and_split_a_run(tmp_path: Path) -> None:
    table = with_nulls(with_nulls(make_series([4, 4]), "entity", [1, 6]), "time", [2, 6])
    runs = scan(tmp_path, table, 3)
    assert runs.row_start.tolist() == [0, 3, 4, 7]
    assert runs.bad is not None
    assert runs.bad.to_pydict() == {
        "key__entity": [None, "e0000", None],
        "reason": ["null_entity", "null_time", "null_entity"],
        "row": [1, 2, 6],
    }


def test_text_that_is_no_time_is_bad(tmp_path: Path) -> None:
    texts = ["2026-01-01", "2026-01-01T01:00:00Z", "", "2026-02-30", "soon", "2026-03-01 00:00:00.5"]
    runs = scan(tmp_path, replace(make_series([6]), "time", pa.array(texts)))
    assert runs.bad is not None
    assert runs.bad.column("row").to_pylist() == [2, 3, 4]
    assert set(runs.bad.column("reason").to_pylist()) == {"bad_time"}
    assert runs.row_count.tolist() == [2, 1]


def test_text_with_zones_is_ordered_by_the_moment(tmp_path: Path) -> None:
    texts = ["2026-01-01T02:00:00+02:00", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00"]
    assert scan(tmp_path, replace(make_series([3]), "time", pa.array(texts))).sorted.tolist() == [True]


@pytest.mark.parametrize(
    ("time_type", "since", "until"),
    [
        (pa.timestamp("us"), "2026-01-01T00:10:00", "2026-01-01T00:20:00"),
        (pa.timestamp("s"), "2026-01-01 00:09:59.5", "2026-01-01T00:19:59.000001"),
        (pa.timestamp("ns", "UTC"), "2026-01-01T01:10:00+01:00", "2026-01-01T00:20:00"),
        (pa.timestamp("ms", "Asia/Tokyo"), "2026-01-01T09:10:00", "2026-01-01T00:20:00+00:00"),
        (pa.timestamp("ms", "+09:00"), "2026-01-01T09:10:00", "2026-01-01T09:20:00"),
        (pa.string(), "2026-01-01T00:10:00", "2026-01-01T00:20:00Z"),
        (pa.int64(), "1767226200000000", "1767226800000000"),
        (pa.uint64(), "1767226200000000", "1767226800000000"),
    ],
    ids=str,
)
def test_since_is_inclusive_and_until_exclusive(tmp_path: Path, time_type: Any, since: str, until: str) -> None:
    minutes = pa.array([9, 10, 19, 20], pa.int64())
    times = pa.array(np.datetime64("2026-01-01", "us") + minutes.to_numpy() * np.timedelta64(60_000_000, "us"))
    table = with_time_type(replace(make_series([4]), "time", times), time_type)
    runs = scan(tmp_path, table, since=since, until=until)
    assert (runs.row_start.tolist(), runs.row_count.tolist(), runs.skipped) == ([1], [2], 2)


def test_dates_are_bounded_by_whole_days(tmp_path: Path) -> None:
    days = pa.array([0, 1, 2, 3], pa.int32()).cast(pa.date32())
    runs = scan(tmp_path, replace(make_series([4]), "time", days), since="1970-01-02", until="1970-01-03T00:00:00")
    assert (runs.row_start.tolist(), runs.row_count.tolist()) == ([1], [1])


def test_a_row_outside_the_bounds_is_skipped_even_without_an_entity(tmp_path: Path) -> None:
    runs = scan(tmp_path, with_nulls(make_series([4]), "entity", [0, 3]), until="2026-01-01T00:00:00")
    assert (runs.skipped, runs.bad, len(runs.row_start)) == (4, None, 0)


@pytest.mark.parametrize(
    ("time_type", "since", "says"),
    [
        (pa.timestamp("us"), "yesterday", "ISO 8601"),
        (pa.timestamp("us"), "2026-01-01T00:00:00Z", "without one"),
        (pa.int64(), "2026-01-01", "whole number"),
        (pa.string(), "x", "is text"),
        (pa.timestamp("us", "Mars/Base"), "2026-01-01", "tzdata"),
    ],
    ids=str,
)
def test_a_bound_that_does_not_fit_the_time_column_is_refused(
    tmp_path: Path, time_type: Any, since: str, says: str
) -> None:
    table = with_time_type(make_series([2]), pa.timestamp("us"))
    table = replace(table, "time", table.column("time").cast(pa.int64()).cast(time_type))
    with pytest.raises(InputRefused, match=says) as caught:
        scan(tmp_path, table, since=since)
    assert "input.since" in str(caught.value) or says == "tzdata"


def test_an_empty_file_has_no_runs(tmp_path: Path) -> None:
    runs = scan(tmp_path, make_series([]))
    assert (runs.file.rows, len(runs.row_start), runs.keys.num_rows) == (0, 0, 0)


def test_a_file_of_bad_rows_only_has_no_runs(tmp_path: Path) -> None:
    runs = scan(tmp_path, with_nulls(make_series([3]), "entity", [0, 1, 2]))
    assert runs.bad is not None
    assert (len(runs.row_start), runs.bad.num_rows) == (0, 3)


def test_the_footer_is_told(tmp_path: Path) -> None:
    file = scan(tmp_path, make_series([5, 5])).file
    assert (file.rows, file.row_group_rows) == (10, (4, 4, 2))
    assert file.size_bytes == Path(file.path).stat().st_size


@pytest.mark.parametrize("spoil", ["cut the end", "no pages", "text", "empty", "gone"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(make_series([2000], features=1), path, compression="none")
    content = path.read_bytes()
    if spoil == "gone":
        path.unlink()
    else:
        no_pages = content[:4] + bytes(400) + content[404:]
        spoilt = {"cut the end": content[:-20], "no pages": no_pages, "text": b"a,b\n", "empty": b""}
        path.write_bytes(spoilt[spoil])
    with pytest.raises(InputBroken, match=r"a\.parquet"):
        scan_file(str(path), settings_for(path, columns=1))


def test_names_with_dots_slashes_quotes_and_umlauts_work(tmp_path: Path) -> None:
    names = ["a.b", "zeit/ünd", 'it\'s "f0"']
    table = make_series([2, 2], features=1).rename_columns(names)
    runs = scan(tmp_path, table, entity=(names[0],), time=(names[1],), features=(("x", (names[2],)),))
    assert runs.row_count.tolist() == [2, 2]
