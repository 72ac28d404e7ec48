"""Scored blocks -> staged fragments: what a file holds, where it ends, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.commit import STAGED, Fragment
from cluster.core.settings import OutputSettings
from cluster.runtime.commit.row_checksum import RowChecksum
from cluster.runtime.commit.snapshots import Snapshot
from cluster.runtime.replica.fragment_writer import Attempt, Destination, FragmentWriter
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.placed_blocks import Cut, PlacedBlock
from cluster.runtime.storage.local_store import LocalStore
from tests.inputs.laid import Laid, lay
from tests.inputs.series import make_series, replace, with_nulls

LENGTHS = [5, 1, 9, 3]


def blocks_of(folder: Path, table: Any, *, shard_rows: int = 1000, **settings: Any) -> list[Block]:
    laid: Laid = lay(folder / "in", table, shard_rows=shard_rows, **settings)
    return [block for shard in laid.plan.shards for block, _ in laid.encoded(shard)]


def writer_of(
    folder: Path, names: tuple[str, ...] = ("score",), attempt: Attempt | None = None, **settings: Any
) -> FragmentWriter:
    store, output = LocalStore(str(folder)), OutputSettings(str(folder), names, **settings)
    return FragmentWriter(Destination(store, output, "time", "run"), attempt or Attempt(3, 1))


def write(writer: FragmentWriter, blocks: Sequence[Block], values: int = 1) -> list[Fragment]:
    """Each block as one cut; its scores are 0, 1, ... over all rows, in every column 1000 more."""
    found, row = [], 0
    for block in blocks:
        mask = block.scored_mask()
        rows = np.ones(block.rows, np.bool_) if mask is None else mask
        placed = PlacedBlock(block, 0)
        scores = np.arange(row, row + block.rows, dtype=np.float32)[:, None] + 1000 * np.arange(
            values, dtype=np.float32
        )
        found.append(
            writer.write(Cut(placed, rows, None if block.final else _snapshot(row + block.rows), last=True), scores)
        )
        row += block.rows
    return [fragment for fragment in found if fragment is not None]


def _snapshot(rows: int) -> Snapshot:
    return Snapshot(np.array([0]), np.array([rows]), np.array([True]), [np.zeros((1, 1), np.float32)])


def staged(folder: Path, fragment: Fragment) -> Any:
    return pq.read_table(folder / STAGED / (fragment.staged or ""), partitioning=None)


def series(lengths: Sequence[int] = LENGTHS, bad: Sequence[int] = ()) -> Any:
    return with_nulls(make_series(lengths, extra=True), "row", bad)


def test_a_file_has_keys_times_kept_columns_and_scores_in_this_order(tmp_path: Path) -> None:
    table = series()
    (block,) = blocks_of(tmp_path, table, keep=("unused", "row"))
    (fragment,) = write(writer_of(tmp_path, ("a", "b")), [block], values=2)
    found = staged(tmp_path, fragment)
    assert found.column_names == ["entity", "time", "unused", "row", "a", "b"]
    assert found.schema.types == [
        *(table.schema.field(n).type for n in found.column_names[:4]),
        pa.float32(),
        pa.float32(),
    ]
    assert found.column("row").to_pylist() == list(range(18))
    assert found.column("b").to_pylist() == [1000 + row for row in range(18)]


def test_a_fragment_tells_what_is_in_its_file(tmp_path: Path) -> None:
    table = series()
    (block,) = blocks_of(tmp_path, table)
    (fragment,) = write(writer_of(tmp_path), [block])
    times = table.column("time").to_pylist()
    assert (fragment.shard, fragment.index, fragment.attempt, fragment.final) == (3, 0, 1, True)
    assert (fragment.rows, fragment.entities, fragment.rows_quarantined, fragment.quarantine_file) == (18, 4, 0, None)
    assert (fragment.time_min, fragment.time_max) == (str(min(times)), str(max(times)))


def test_the_staged_name_has_the_attempt_and_the_last_name_has_not(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series())
    (one,) = write(writer_of(tmp_path, attempt=Attempt(3, 1)), [block])
    (two,) = write(writer_of(tmp_path, attempt=Attempt(3, 2)), [block])
    (other,) = write(writer_of(tmp_path, attempt=Attempt(3, 2, fence=7)), [block])
    assert one.file == two.file == other.file == "part-000003-00000-run.parquet"
    assert len({one.staged, two.staged, other.staged}) == 3
    assert one.checksum == two.checksum == other.checksum


def test_an_attempt_goes_on_with_the_next_number(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series())
    (fragment,) = write(writer_of(tmp_path, attempt=Attempt(3, 2, fragments=4)), [block])
    assert (fragment.index, fragment.file) == (4, "part-000003-00004-run.parquet")


def test_nothing_shows_outside_the_staging_folder(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series(bad=[2]))
    write(writer_of(tmp_path), [block])
    assert list(tmp_path.glob("*.parquet")) == []
    assert len(list((tmp_path / STAGED).iterdir())) == 2


def test_the_compression_asked_for_is_used(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series())
    (fragment,) = write(writer_of(tmp_path, compression="gzip"), [block])
    footer = pq.read_metadata(tmp_path / STAGED / (fragment.staged or ""))
    assert footer.row_group(0).column(0).compression == "GZIP"


# ---- checksums


def test_the_checksum_is_that_of_the_file_read_back(tmp_path: Path) -> None:
    for number, kind in enumerate((pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))):
        folder = tmp_path / str(number)
        table = replace(series(), "unused", series().column("unused").combine_chunks().cast(pa.string()).cast(kind))
        (block,) = blocks_of(folder, table, keep=("unused", "row", "nested"))
        (fragment,) = write(writer_of(folder), [block])
        again = RowChecksum()
        again.add(staged(folder, fragment))
        assert again.hexdigest() == fragment.checksum


def test_the_checksum_does_not_depend_on_where_blocks_were_cut(tmp_path: Path) -> None:
    table = series([45])
    whole = write(writer_of(tmp_path / "a"), blocks_of(tmp_path / "a", table))
    pieces = write(writer_of(tmp_path / "b"), blocks_of(tmp_path / "b", table, shard_rows=20))
    assert (len(whole), len(pieces)) == (1, 1)
    assert whole[0].checksum == pieces[0].checksum


def test_another_score_is_another_checksum(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series())
    placed, rows = PlacedBlock(block, 0), np.ones(block.rows, np.bool_)
    scores = np.zeros((block.rows, 1), np.float32)
    one = writer_of(tmp_path).write(Cut(placed, rows), scores)
    scores[17] = np.nextafter(np.float32(0), np.float32(1))
    two = writer_of(tmp_path).write(Cut(placed, rows), scores)
    assert one is not None
    assert two is not None
    assert one.checksum != two.checksum


# ---- long entities


@pytest.mark.parametrize(
    ("rows_per_file", "rows"), [(1000, [45]), (40, [40, 5]), (16, [16, 16, 13]), (15, [16, 16, 13]), (8, [8] * 5 + [5])]
)
def test_a_long_entity_is_cut_into_files_between_pieces(tmp_path: Path, rows_per_file: int, rows: list[int]) -> None:
    parts = write(writer_of(tmp_path, rows_per_file=rows_per_file), blocks_of(tmp_path, series([45]), shard_rows=20))
    assert [part.rows for part in parts] == rows
    assert [part.index for part in parts] == list(range(len(rows)))
    assert [part.final for part in parts] == [False] * (len(rows) - 1) + [True]
    assert [part.entities for part in parts] == [1] + [0] * (len(rows) - 1)
    assert [part.snapshot is None for part in parts] == [part.final for part in parts]
    scores = pa.concat_tables([staged(tmp_path, part) for part in parts]).column("score").to_pylist()
    assert scores == list(range(45))


def test_files_of_a_long_entity_follow_each_other_in_time(tmp_path: Path) -> None:
    parts = write(writer_of(tmp_path, rows_per_file=16), blocks_of(tmp_path, series([45]), shard_rows=20))
    bounds = [text for part in parts for text in (part.time_min, part.time_max)]
    assert bounds == sorted(bounds, key=str)


@pytest.mark.parametrize(("bad", "rows"), [(0, [0]), (8, [8, 0]), (20, [8, 8, 4])])
def test_a_long_entity_that_turns_bad_ends_with_a_final_fragment(tmp_path: Path, bad: int, rows: list[int]) -> None:
    blocks = blocks_of(tmp_path, series([45], bad=[bad]), shard_rows=20)
    parts = write(writer_of(tmp_path, rows_per_file=8), blocks)
    assert [part.rows for part in parts] == rows
    assert [part.file is None for part in parts] == [count == 0 for count in rows]
    assert (parts[-1].final, parts[-1].rows_quarantined, parts[-1].entities_quarantined) == (True, 45 - bad, 1)
    assert [part.rows_quarantined for part in parts[:-1]] == [0] * (len(rows) - 1)


# ---- bad rows and types


def test_bad_rows_go_into_a_quarantine_file_of_their_own(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series(bad=[2, 5]), keep=("row",))
    (fragment,) = write(writer_of(tmp_path), [block])
    assert (fragment.rows, fragment.entities) == (2 + 9 + 3, 3)
    assert (fragment.rows_quarantined, fragment.entities_quarantined) == (3 + 1, 2)
    assert staged(tmp_path, fragment).column("row").to_pylist() == [0, 1, *range(6, 18)]
    found = pq.read_table(tmp_path / STAGED / (fragment.quarantine_staged or ""), partitioning=None)
    assert found.column_names == ["entity", "reason", "rows", "file", "row", "time"]
    assert found.column("entity").to_pylist() == ["e0000", "e0001"]
    assert found.column("rows").to_pylist() == [3, 1]


def test_a_shard_without_a_good_row_has_no_score_file(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, series([2], bad=[0]))
    (fragment,) = write(writer_of(tmp_path), [block])
    assert (fragment.file, fragment.staged, fragment.rows, fragment.time_min) == (None, None, 0, None)
    assert fragment.quarantine_file == "part-000003-00000-run.parquet"
    assert fragment.final


TIMES = [
    pa.timestamp("ns"),
    pa.timestamp("s", "Europe/Paris"),
    pa.int64(),
    pa.string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", TIMES, ids=str)
def test_times_of_every_type_are_written_and_bounded(tmp_path: Path, kind: Any) -> None:
    table = series()
    times = table.column("time").combine_chunks()
    if pa.types.is_dictionary(kind):
        column = times.cast(pa.string()).dictionary_encode()
    else:
        column = times.cast(pa.string() if "string" in str(kind) else kind, safe=False).cast(kind)
    (block,) = blocks_of(tmp_path, replace(table, "time", column))
    (fragment,) = write(writer_of(tmp_path), [block])
    assert fragment.time_min is not None
    assert fragment.time_min < (fragment.time_max or "")
    assert staged(tmp_path, fragment).num_rows == 18


KEPT = [pa.time64("us"), pa.date32(), pa.decimal128(21, 2), pa.bool_(), pa.binary(), pa.duration("s"), pa.float16()]


@pytest.mark.parametrize("kind", KEPT, ids=str)
def test_kept_columns_of_any_type_have_one_checksum(tmp_path: Path, kind: Any) -> None:
    numbers = pa.array([None if row == 4 else row for row in range(18)], pa.int64())
    through = {pa.time64("us"): pa.int64(), pa.date32(): pa.int32(), pa.bool_(): pa.bool_(), pa.binary(): pa.string()}
    column = numbers.cast(through.get(kind, pa.float64() if kind == pa.float16() else pa.int64()))
    checksums = set()
    for number in range(2):
        folder = tmp_path / str(number)
        (block,) = blocks_of(folder, replace(series(), "unused", column.cast(kind)), keep=("unused",))
        (fragment,) = write(writer_of(folder), [block])
        again = RowChecksum()
        again.add(staged(folder, fragment))
        checksums |= {fragment.checksum, again.hexdigest()}
    assert len(checksums) == 1
