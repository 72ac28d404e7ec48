"""One piece of interleaved input -> a file whose row groups each hold rows of one bucket.

Decides how much of a piece is in memory at once: about `ROUND_BYTES`, sorted by bucket and written, whatever the size
of the input's row groups. Rows keep the input's order within a bucket. Bad and skipped rows stop here, counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.core.clustering import ORIGIN_FILE, ORIGIN_ROW, Part, row_hashes
from cluster.core.times import as_plain
from cluster.runtime.judging import Judge
from cluster.runtime.shuffle_files import PieceMeta, Shuffle, write_meta, writing
from cluster.runtime.source import open_source, reading
from cluster.runtime.tables import write_table

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
    writer: Any
    waiting: list[Any] = field(default_factory=list)  # pa.Tables of good rows
    waiting_bytes: int = 0
    buckets: list[int] = field(default_factory=list)  # (row group,)
    rows: list[int] = field(default_factory=list)  # (row group,)
    bad: list[Any] = field(default_factory=list)
    skipped: int = 0

    @property
    def bad_rows(self) -> int:
        """Bad rows so far."""
        return sum(table.num_rows for table in self.bad)

    def read(self, part: Part) -> None:
        """Takes consecutive row groups of a file."""
        settings, row = self.shuffle.settings, part.first_row
        judge = Judge.of(_plain(self.shuffle.columns.empty_table()).schema, settings)
        for table in _batches(self.shuffle, part):
            keys, times = _plain(table.select(list(settings.entity))), _plain(table.select(list(settings.time)))
            verdict = judge.judge(keys, times, row)
            self.skipped += verdict.skipped
            if verdict.bad is not None:
                self.bad.append(self._placed(verdict.bad, part.file))
            self._add(_with_origin(table, part.file, row), verdict.good)
            row += table.num_rows

    def flush(self) -> None:
        """Writes what waits, a row group for each bucket."""
        if not self.waiting:
            return
        table = pa.concat_tables(self.waiting).combine_chunks()
        self.waiting, self.waiting_bytes = [], 0
        bucket = row_hashes(table.select(list(self.shuffle.settings.entity))) % np.uint64(self.shuffle.cuts.buckets)
        bucket = bucket.astype(np.uint16)  # NumPy sorts these by radix
        table = table.take(pa.array(np.argsort(bucket, kind="stable")))
        counts = np.bincount(bucket, minlength=self.shuffle.cuts.buckets)
        starts = np.cumsum(counts) - counts
        for number in np.flatnonzero(counts):
            rows = int(counts[number])
            self.writer.write_table(table.slice(int(starts[number]), rows), row_group_size=rows)
            self.buckets.append(int(number))
            self.rows.append(rows)

    def _add(self, table: Any, good: Any) -> None:
        self.waiting.append(table if good.all() else table.filter(pa.array(good)))
        self.waiting_bytes += self.waiting[-1].nbytes
        if self.waiting_bytes >= ROUND_BYTES:
            self.flush()

    def _placed(self, bad: Any, file: int) -> Any:
        path = pa.repeat(pa.scalar(self.shuffle.sources[file].path, pa.string()), bad.num_rows)
        return bad.add_column(bad.num_columns - 1, "file", path)


def _batches(shuffle: Shuffle, part: Part) -> Iterator[Any]:
    """The needed columns of a part, pa.Tables of the types of the whole input."""
    path = shuffle.sources[part.file].path
    names = shuffle.columns.names
    with open_source(path, shuffle.settings.storage) as parquet:
        own = [name for name in names if name in parquet.schema_arrow.names]
        groups = list(range(part.first_group, part.stop_group))
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=own, use_threads=False)
        while True:
            with reading(path):
                batch = next(batches, None)
                if batch is None:
                    return
                table = pa.table(shuffle.partitions.complete(batch, path, names)).select(names)
                table = table if table.schema.equals(shuffle.columns) else table.cast(shuffle.columns)
            yield table


def _with_origin(table: Any, file: int, row: int) -> Any:
    table = table.append_column(ORIGIN_FILE, pa.repeat(pa.scalar(file, pa.int32()), table.num_rows))
    return table.append_column(ORIGIN_ROW, pa.array(np.arange(row, row + table.num_rows), pa.int64()))


def _plain(table: Any) -> Any:
    return pa.table([as_plain(column) for column in table.columns], names=table.column_names)
