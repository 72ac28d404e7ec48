"""One bucket of all pieces -> a file by entity, time and place in the input.

Decides how a bucket that is larger than `SORT_BYTES`, because one of its entities is long, is sorted all the same: in
runs of that size, written down and merged a batch at a time, so memory follows neither the bucket nor the entity.
Equal times keep the order of the input: rows come in it, sorts are stable, and the merge prefers earlier runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.plan.shuffle_plan import next_in_merge, ready_in_merge, row_bytes, sort_columns, sorted_order
from cluster.core.settings import InputSettings
from cluster.core.times import Ordinals
from cluster.runtime.input.opened_types import empty_table
from cluster.runtime.shuffle.shuffle_files import Shuffle, open_shuffle_file, read_meta, writing
from cluster.runtime.storage.open_parquet import counted_batches, expect_rows
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools

SORT_BYTES = 96 << 20
MERGE_BYTES = 96 << 20  # of all runs' rows at hand together
BATCH_ROWS_MIN = 1024


def write_bucket(index: int, shuffle: Shuffle) -> None:
    """Writes a bucket, unless it is there; every piece must be. Raises RunFailed, StoreFault."""
    store = shuffle.store()
    if store.exists(shuffle.bucket(index)):
        return
    whole = _whole(index, shuffle, store)
    if whole is not None:
        _write(store, shuffle.bucket(index), shuffle, [whole])
        return
    names = _spill(index, shuffle, store, _runs(index, shuffle, store))
    with ExitStack() as stack:
        heads = [
            _Head(stack.enter_context(open_shuffle_file(store, name)), _batch_rows(shuffle, len(names)))
            for name in names
        ]
        _write(store, shuffle.bucket(index), shuffle, _merged(heads, shuffle.settings))
    for name in names:
        store.remove(name)


def _whole(bucket: int, shuffle: Shuffle, store: Store) -> pa.Table | None:
    """The bucket's rows, sorted, in one table; None where they are more than `SORT_BYTES`."""
    waiting, waiting_bytes = [empty_table(shuffle.schema)], 0
    for table in _groups(bucket, shuffle, store):
        waiting_bytes += table.nbytes
        if waiting_bytes > SORT_BYTES:
            return None  # they are read again: seldom, and cheaper than holding them beside the runs
        waiting.append(table)
    return _sorted(waiting, shuffle.settings)


def _runs(bucket: int, shuffle: Shuffle, store: Store) -> Iterator[pa.Table]:
    """The bucket's rows, sorted, in tables of at most about `SORT_BYTES`."""
    waiting: list[pa.Table] = []
    waiting_bytes = 0
    for table in _groups(bucket, shuffle, store):
        if waiting and waiting_bytes + table.nbytes > SORT_BYTES:
            yield _sorted(waiting, shuffle.settings)
            waiting_bytes = 0
        waiting.append(table)
        waiting_bytes += table.nbytes
    if waiting:
        yield _sorted(waiting, shuffle.settings)


def _groups(bucket: int, shuffle: Shuffle, store: Store) -> Iterator[pa.Table]:
    for index in range(len(shuffle.cuts.pieces)):
        with open_shuffle_file(store, shuffle.piece(index)) as parquet:
            meta = read_meta(parquet)
            for group in meta.of_bucket(bucket):
                table = parquet.read_row_group(group, use_threads=False)
                expect_rows(table.num_rows, meta.rows[group], f"row group {group}")
                yield table


def _sorted(tables: list[pa.Table], settings: InputSettings) -> pa.Table:
    """The tables' rows in order; the list is emptied, so that they are not held beside their copies."""
    table = pa.concat_tables(tables).combine_chunks()
    tables.clear()
    return table.take(sorted_order(_columns(table, settings)))


def _columns(table: pa.Table, settings: InputSettings) -> list[Ordinals]:
    return sort_columns(table.select(list(settings.entity)), table.select(list(settings.time)))


def _write(store: Store, name: str, shuffle: Shuffle, tables: Iterable[pa.Table]) -> None:
    with writing(store, name, shuffle.schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=shuffle.group_rows)


def _spill(bucket: int, shuffle: Shuffle, store: Store, tables: Iterator[pa.Table]) -> list[str]:
    names: list[str] = []
    for table in tables:
        names.append(shuffle.run(bucket, len(names)))
        with writing(store, names[-1], shuffle.schema) as writer:
            writer.write_table(table, row_group_size=shuffle.group_rows)
        del table  # before the next run is read
    return names


def _batch_rows(shuffle: Shuffle, runs: int) -> int:
    return max(BATCH_ROWS_MIN, min(shuffle.group_rows, MERGE_BYTES // (runs * row_bytes(shuffle.schema))))


@dataclass
class _Head:
    """A sorted run, and its rows at hand."""

    parquet: pq.ParquetFile
    batch_rows: int

    def __post_init__(self) -> None:
        self._batches = counted_batches(self.parquet, self.batch_rows)
        self.table = empty_table(self.parquet.schema_arrow)
        self.has_more = True
        self.fill()

    def fill(self) -> None:
        """Makes sure that there are rows at hand, unless the run is over."""
        if self.has_more and self.table.num_rows == 0:
            batch = next(self._batches, None)
            self.has_more = batch is not None
            self.table = pa.table(batch) if batch is not None else empty_table(self.table.schema)

    @property
    def over(self) -> bool:
        """True when nothing is left."""
        return self.table.num_rows == 0


def _merged(heads: list[_Head], settings: InputSettings) -> Iterator[pa.Table]:
    """Rows of sorted runs in order, in tables."""
    while True:
        for head in heads:
            head.fill()
        heads = [head for head in heads if not head.over]
        if not heads:
            return
        bound, taking = _bound(heads, settings)
        yield _take_up_to(bound, [head for head, wanted in zip(heads, taking, strict=True) if wanted], settings)


def _bound(heads: list[_Head], settings: InputSettings) -> tuple[_Head, Bools]:
    """The run that bounds what may go out now, and which runs have rows up to there."""
    ends = [head.table.slice(head.table.num_rows - 1, 1) for head in heads]
    columns = _columns(pa.concat_tables([*ends, *(head.table.slice(0, 1) for head in heads)]), settings)
    last, first = ([column[part] for column in columns] for part in (slice(len(heads)), slice(len(heads), None)))
    number, taking = next_in_merge(last, first)
    return heads[number], taking


def _take_up_to(bound: _Head, heads: list[_Head], settings: InputSettings) -> pa.Table:
    """Takes the rows that may go out from the runs' rows at hand."""
    sizes = np.array([head.table.num_rows for head in heads], np.int64)
    table = pa.concat_tables([head.table for head in heads]).combine_chunks()
    run = np.repeat(np.arange(len(heads)), sizes)
    number = next(index for index, head in enumerate(heads) if head is bound)
    columns = _columns(table, settings)
    ready = ready_in_merge(columns, run, (number, int(sizes[: number + 1].sum()) - 1))
    taken = np.bincount(run[ready], minlength=len(heads))  # of each run the first ones, as it is sorted
    for head, count in zip(heads, taken, strict=True):
        head.table = head.table.slice(int(count))
    rows = np.flatnonzero(ready)
    return table.take(rows[sorted_order([column[rows] for column in columns])])
