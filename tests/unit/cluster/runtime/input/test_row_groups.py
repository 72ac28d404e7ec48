"""Rows of a file by number, whatever its row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.partitions import NO_PARTITIONS
from cluster.run_errors import InputBroken, InputDamaged, InputUnfit, first_line
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.storage import open_parquet
from tests.inputs.series import write_cut, write_groups


def numbered(rows: int) -> Any:
    return pa.table({"row": list(range(rows)), "text": [str(i) for i in range(rows)]})


def groups_of(paths: list[Path], cache_bytes: int = 1 << 20) -> RowGroups:
    return RowGroups(tuple(str(path) for path in paths), ("row",), NO_PARTITIONS, cache_bytes=cache_bytes)


@pytest.mark.parametrize("group_rows", [[12], [1], [3, 1, 4], [5, 7]], ids=str)
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_every_range_gives_its_rows_in_order(tmp_path: Path, group_rows: list[int], cache_bytes: int) -> None:
    groups = groups_of(write_cut(tmp_path, numbered(12), None, group_rows), cache_bytes)
    for start in range(12):
        for stop in range(start + 1, 13):
            assert groups.rows(0, start, stop).column("row").to_pylist() == list(range(start, stop))


def test_empty_row_groups_are_passed_over(tmp_path: Path) -> None:
    table = numbered(4)
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for start, count in ((0, 0), (0, 2), (2, 0), (2, 0), (2, 2), (4, 0)):
            writer.write_batch(table.slice(start, count).to_batches()[0] if count else _nothing(table.schema))
    groups = groups_of([tmp_path / "a.parquet"])
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2
    assert groups.rows(0, 1, 3).column("row").to_pylist() == [1, 2]
    assert groups.rows(0, 2, 4).column("row").to_pylist() == [2, 3]


def _nothing(schema: Any) -> Any:
    return pa.RecordBatch.from_pylist([], schema=schema)


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    assert groups_of(write_cut(tmp_path, numbered(3))).rows(0, 0, 3).column_names == ["row"]


def test_views_of_text_and_bytes_become_plain_columns(tmp_path: Path) -> None:
    table = pa.table({"row": pa.array(["a", "b"], pa.string_view()), "more": pa.array([b"c", b"d"], pa.binary_view())})
    (path,) = write_cut(tmp_path, table)
    found = RowGroups((str(path),), ("row", "more"), NO_PARTITIONS, cache_bytes=0).rows(0, 0, 2)
    assert found.schema.types == [pa.string(), pa.binary()]
    assert found.take(pa.array([1, 0])).to_pylist() == [{"row": "b", "more": b"d"}, {"row": "a", "more": b"c"}]


def test_files_are_told_apart_by_their_number(tmp_path: Path) -> None:
    groups = groups_of(write_cut(tmp_path, numbered(9), [4, 5], [2]))
    assert groups.rows(1, 0, 3).column("row").to_pylist() == [4, 5, 6]
    assert groups.rows(0, 1, 4).column("row").to_pylist() == [1, 2, 3]
    assert groups.rows(1, 4, 5).column("row").to_pylist() == [8]


def test_more_files_than_may_be_open_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_parquet, "OPEN_FILES_MAX", 2)
    groups = groups_of(write_cut(tmp_path, numbered(10), [2] * 5), cache_bytes=0)
    for file in (0, 1, 2, 3, 4, 0, 3, 1):
        assert groups.rows(file, 0, 2).column("row").to_pylist() == [2 * file, 2 * file + 1]


def test_a_row_group_at_hand_is_not_read_again(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, numbered(6), None, [3])
    groups = groups_of([path])
    groups.rows(0, 0, 2)
    path.write_bytes(b"gone")
    assert groups.rows(0, 1, 2).column("row").to_pylist() == [1]


def test_the_cache_keeps_the_groups_used_last_and_within_its_bytes(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, numbered(9), None, [3])
    group_bytes = groups_of([path]).rows(0, 0, 3).nbytes
    groups = groups_of([path], cache_bytes=2 * group_bytes)
    for start, stop in ((0, 2), (3, 5), (0, 1), (6, 8)):  # group 1, not used for longest, makes room in the end
        groups.rows(0, start, stop)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert groups.rows(0, 0, 2).column("row").to_pylist() == [0, 1]
    assert groups.rows(0, 6, 8).column("row").to_pylist() == [6, 7]
    with pytest.raises(InputBroken):
        groups.rows(0, 3, 5)


def test_a_group_that_is_read_to_its_end_is_not_kept(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, numbered(6), None, [3])
    groups = groups_of([path])
    assert groups.rows(0, 1, 5).column("row").to_pylist() == [1, 2, 3, 4]
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert groups.rows(0, 4, 6).column("row").to_pylist() == [4, 5], "group 1 was not at its end"
    for start in (0, 4):
        with pytest.raises(InputBroken):
            groups.rows(0, start, start + 1)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"], ids=["empty", "truncated"])
def test_a_file_that_is_no_parquet_is_named_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(
        InputDamaged, match=r"a\.parquet is damaged at rows 0 to 2 \(.*\): write the file again"
    ) as caught:
        groups_of([tmp_path / "a.parquet"]).rows(0, 0, 3)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputBroken, match=r"a\.parquet cannot be read at rows .*, and the same command goes on"):
        groups_of([tmp_path / "a.parquet"]).rows(0, 0, 3)


def test_a_file_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    write_groups(tmp_path / "a.parquet", numbered(2))
    with pytest.raises(InputUnfit, match=r"a\.parquet has 2 rows, but the run was planned with 3 or more: put"):
        groups_of([tmp_path / "a.parquet"]).rows(0, 1, 3)


@pytest.mark.parametrize(
    ("error", "line"), [(OSError("one\ntwo"), "one"), (OSError("full stop."), "full stop"), (OSError(), "OSError")]
)
def test_foreign_errors_are_told_by_their_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
