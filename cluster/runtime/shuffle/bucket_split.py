"""One piece of interleaved input -> a file whose row groups each hold rows of one bucket.

Decides how much of a piece is in memory at once: about `ROUND_BYTES`, sorted by bucket and written, whatever the size
of the input's row groups. Rows keep the input's order within a bucket. Bad and skipped rows stop here, counted. The
rows of a row group that is damaged come with their keys and a mark, all of them, see `rows.damaged_rows`. Where some of
them are written before the damage is met, as of a row group that is larger than `HELD_BYTES`, the piece begins again.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.plan.column_conversion import converted
from cluster.core.plan.shuffle_plan import Part, row_hashes
from cluster.core.times import as_plain
from cluster.run_errors import InputDamaged
from cluster.runtime.input.opened_types import empty_table, opened
from cluster.runtime.input.row_checks import RowChecks
from cluster.runtime.input.source_faults import input_faults, value_faults
from cluster.runtime.input.source_files import InputParquet, group_batches, open_source
from cluster.runtime.rows.damaged_rows import with_nulls
from cluster.runtime.shuffle.shuffle_files import PieceMeta, Shuffle, write_meta, writing
from cluster.runtime.storage.parquet_tables import write_table
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools
from lstm_core.shown_text import utf8

ROUND_BYTES = 48 << 20
HELD_BYTES = 16 << 20  # of a row group, until it is known to be whole
BATCH_ROWS = 65_536


def write_piece(index: int, shuffle: Shuffle) -> None:
    """Writes a piece, unless it is there. Raises InputBroken where the input cannot be read, StoreFault."""
    store = shuffle.store()
    lost: set[tuple[int, int]] = set()
    written = store.exists(shuffle.piece(index))
    while not written:
        try:
            _write(index, shuffle, store, lost)
            written = True
        except _GroupLost as found:
            lost.add(found.place)


class _GroupLost(Exception):
    """A row group was found damaged when some of its rows were taken already."""

    def __init__(self, file: int, group: int) -> None:
        super().__init__(file, group)
        self.place = (file, group)


def _write(index: int, shuffle: Shuffle, store: Store, lost: Set[tuple[int, int]]) -> None:
    """Writes a piece; `lost` are row groups (file, row group) of which only the keys are read."""
    with writing(store, shuffle.piece(index), shuffle.schema) as writer:
        piece = _Piece(shuffle, writer, lost)
        for part in shuffle.cuts.pieces[index]:
            with value_faults(shuffle.sources[part.file].path):
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
    lost: Set[tuple[int, int]]
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
        for table, lost in _batches(self.shuffle, part, self.lost):
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
        path = pa.repeat(pa.scalar(utf8(self.shuffle.sources[file].path), pa.string()), bad.num_rows)
        return bad.add_column(bad.num_columns - 1, "file", path)


def _batches(shuffle: Shuffle, part: Part, lost: Set[tuple[int, int]]) -> Iterator[tuple[pa.Table, bool]]:
    """The needed columns of a part, in the types of the whole input; True where only the keys are left."""
    path, settings = shuffle.sources[part.file].path, shuffle.settings
    with open_source(path, settings.storage, checksums=settings.page_checksums) as parquet:
        for group in range(part.first_group, part.stop_group):
            known, held = (part.file, group) in lost, _Held()
            try:
                for table in () if known else _of_group(shuffle, parquet, path, (group, shuffle.columns)):
                    yield from ((whole, False) for whole in held.add(table))
            except InputDamaged as broken:
                if settings.bad_entity == "fail":
                    raise
                if held.passed_on:
                    raise _GroupLost(part.file, group) from broken
                known = True
            yield from _keys(shuffle, parquet, path, group) if known else ((whole, False) for whole in held.tables)


@dataclass
class _Held:
    """Rows of a row group, kept back until all are there or they are too many."""

    tables: list[pa.Table] = field(default_factory=list)
    bytes: int = 0
    passed_on: bool = False

    def add(self, table: pa.Table) -> list[pa.Table]:
        """Takes rows; gives back those that are to be passed on."""
        self.tables.append(table)
        self.bytes += table.nbytes
        if self.bytes <= HELD_BYTES:
            return []
        self.passed_on = True
        given, self.tables = self.tables, []
        return given


def _keys(shuffle: Shuffle, parquet: InputParquet, path: str, group: int) -> Iterator[tuple[pa.Table, bool]]:
    """The keys of a row group that is lost. Raises InputBroken where these are, too."""
    names = dict.fromkeys((*shuffle.settings.entity, *shuffle.settings.time))
    keys = pa.schema([shuffle.columns.field(name) for name in names])
    for table in _of_group(shuffle, parquet, path, (group, keys)):
        yield with_nulls(table, shuffle.columns), True


def _of_group(shuffle: Shuffle, parquet: InputParquet, path: str, wanted: tuple[int, pa.Schema]) -> Iterator[pa.Table]:
    """Some columns of one row group, a batch at a time. Raises `InputBroken`."""
    group, schema = wanted
    own = [name for name in schema.names if name in parquet.schema_arrow.names]
    for batch in group_batches(parquet, path, group, own, batch_rows=BATCH_ROWS):
        with input_faults(path, parquet.storage):
            table = pa.table(shuffle.partitions.complete(batch, path, schema.names))
            table = table.select([name for name in schema.names if name in table.column_names])
            table = converted(opened(table), schema)
        yield table


def _plain(table: pa.Table) -> pa.Table:
    return pa.table([as_plain(column) for column in table.columns], names=table.column_names)
