"""One piece of interleaved input -> a file whose row groups each hold rows of one bucket.

Decides how much of a piece is in memory at once: about `ROUND_BYTES`, sorted by bucket and written, whatever the size
of the input's row groups. Rows keep the input's order within a bucket. Bad and skipped rows stop here, counted. Rows
whose data pages are damaged come with their keys and a mark, see `rows.damaged_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.plan.column_conversion import converted
from cluster.core.plan.shuffle_plan import Part, row_hashes
from cluster.core.times import as_plain
from cluster.run_errors import InputBroken
from cluster.runtime.input.opened_types import empty_table, opened
from cluster.runtime.input.row_checks import RowChecks
from cluster.runtime.input.source_files import input_faults, is_damage, open_source
from cluster.runtime.rows.damaged_rows import with_nulls
from cluster.runtime.shuffle.shuffle_files import PieceMeta, Shuffle, write_meta, writing
from cluster.runtime.storage.parquet_tables import write_table
from lstm_core.array_types import Bools

ROUND_BYTES = 48 << 20
BATCH_ROWS = 65_536


def write_piece(index: int, shuffle: Shuffle) -> None:
    """Writes a piece, unless it is there. Raises InputBroken where the input cannot be read, StoreFault."""
    store = shuffle.store()
    if store.exists(shuffle.piece(index)):
        return
    with writing(store, shuffle.piece(index), shuffle.schema) as writer:
        piece = _Piece(shuffle, writer)
        for part in shuffle.cuts.pieces[index]:
            piece.read(part)
        piece.flush()
        write_meta(writer, PieceMeta(tuple(piece.buckets), tuple(piece.rows), piece.skipped, piece.bad_rows))
        if piece.bad:  # before the piece gets its name
            write_table(store, shuffle.bad(index), pa.concat_tables(piece.bad))


@dataclass
class _Piece:
    """A piece under way."""

    shuffle: Shuffle
    writer: pq.ParquetWriter
    waiting: list[pa.Table] = field(default_factory=list)  # of good rows
    waiting_bytes: int = 0
    buckets: list[int] = field(default_factory=list)  # (row group,)
    rows: list[int] = field(default_factory=list)  # (row group,)
    bad: list[pa.Table] = field(default_factory=list)
    skipped: int = 0

    @property
    def bad_rows(self) -> int:
        """Bad rows so far."""
        return sum(table.num_rows for table in self.bad)

    def read(self, part: Part) -> None:
        """Takes consecutive row groups of a file."""
        settings, row = self.shuffle.settings, part.first_row
        judge = RowChecks.of(_plain(empty_table(self.shuffle.columns)).schema, settings)
        for table, lost in _batches(self.shuffle, part):
            keys, times = _plain(table.select(list(settings.entity))), _plain(table.select(list(settings.time)))
            verdict = judge.judge(keys, times, row)
            self.skipped += verdict.skipped
            if verdict.bad is not None:
                self.bad.append(self._placed(verdict.bad, part.file))
            self._add(self._with_origin(table, part.file, row, lost=lost), verdict.good)
            row += table.num_rows

    def flush(self) -> None:
        """Writes what waits, a row group for each bucket."""
        if not self.waiting:
            return
        table = pa.concat_tables(self.waiting).combine_chunks()
        self.waiting, self.waiting_bytes = [], 0
        bucket = row_hashes(table.select(list(self.shuffle.settings.entity))) % np.uint64(self.shuffle.cuts.buckets)
        bucket = bucket.astype(np.uint16)  # NumPy sorts these by radix
        table = table.take(np.argsort(bucket, kind="stable"))
        counts = np.bincount(bucket, minlength=self.shuffle.cuts.buckets)
        starts = np.cumsum(counts) - counts
        for number in np.flatnonzero(counts):
            rows = int(counts[number])
            self.writer.write_table(table.slice(int(starts[number]), rows), row_group_size=rows)
            self.buckets.append(int(number))
            self.rows.append(rows)

    def _add(self, table: pa.Table, good: Bools) -> None:
        self.waiting.append(table if good.all() else table.filter(pa.array(good)))
        self.waiting_bytes += self.waiting[-1].nbytes
        if self.waiting_bytes >= ROUND_BYTES:
            self.flush()

    def _with_origin(self, table: pa.Table, file: int, row: int, *, lost: bool) -> pa.Table:
        rows = np.arange(row, row + table.num_rows)
        files = pa.repeat(pa.scalar(file, pa.int32()), table.num_rows)
        columns = [*table.columns, files, pa.array(~rows if lost else rows, pa.int64())]
        return pa.table(columns, schema=self.shuffle.schema)

    def _placed(self, bad: pa.Table, file: int) -> pa.Table:
        path = pa.repeat(pa.scalar(self.shuffle.sources[file].path, pa.string()), bad.num_rows)
        return bad.add_column(bad.num_columns - 1, "file", path)


def _batches(shuffle: Shuffle, part: Part) -> Iterator[tuple[pa.Table, bool]]:
    """The needed columns of a part, in the types of the whole input; True where only the keys are left."""
    path, settings = shuffle.sources[part.file].path, shuffle.settings
    with open_source(path, settings.storage) as parquet:
        for group in range(part.first_group, part.stop_group):
            rows = 0
            try:
                for table in _of_group(shuffle, parquet, path, (group, shuffle.columns)):
                    yield table, False
                    rows += table.num_rows
            except InputBroken as broken:
                if settings.bad_entity == "fail" or not is_damage(broken.__cause__):
                    raise
                names = dict.fromkeys((*settings.entity, *settings.time))
                keys = pa.schema([shuffle.columns.field(name) for name in names])
                for table in _of_group(shuffle, parquet, path, (group, keys)):
                    left = table.slice(min(rows, table.num_rows))
                    rows -= table.num_rows - left.num_rows
                    yield with_nulls(left, shuffle.columns), True


def _of_group(
    shuffle: Shuffle, parquet: pq.ParquetFile, path: str, wanted: tuple[int, pa.Schema]
) -> Iterator[pa.Table]:
    """Some columns of one row group, a batch at a time. Raises `InputBroken`."""
    group, schema = wanted
    own = [name for name in schema.names if name in parquet.schema_arrow.names]
    batches = parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=own, use_threads=False)
    while True:
        with input_faults(path):
            batch = next(batches, None)
            if batch is None:
                return
            table = pa.table(shuffle.partitions.complete(batch, path, schema.names))
            table = table.select([name for name in schema.names if name in table.column_names])
            table = converted(opened(table), schema)
        yield table


def _plain(table: pa.Table) -> pa.Table:
    return pa.table([as_plain(column) for column in table.columns], names=table.column_names)
