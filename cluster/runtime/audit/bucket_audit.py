"""Whether the buckets of a pre-pass hold the input's rows: each at most once, with the keys and times it has there.

What it decides: rows are compared by sums of hashes, file by file, since neither side can be held in memory in the
other's order; two files with the same sum have the same rows but for one chance in 2**64. Memory is a byte for each
row of the input. What no bucket has is returned, and is for others to excuse.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from cluster.core.audit import Tally
from cluster.core.locations import Options
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.plan.shuffle_plan import Hashes
from cluster.runtime.audit.own_rows import OwnRows, access_of
from cluster.runtime.audit.own_values import hashes, moments_of, spelt_keys
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.parquet_tables import read_batches
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools, Ints


def audit_origins(tally: Tally, head: PlanHead, store: Store, reading: tuple[Options, bool]) -> Ints:
    """The stretches (file, first row, row behind) of the input that no bucket has. Raises InputBroken, OSError.

    `reading` is how the input is reached, and whether its pages' checksums are looked at.
    """
    seen = [np.zeros(file.rows, np.bool_) for file in head.sources]
    clustered = _sums_of_buckets(tally, head, store, seen, InputFiles.of(head, store, reading[0]).origin)
    for index, found in enumerate(_sums_of_input(head, seen, reading)):
        tally.count(int(seen[index].sum()))
        if found != clustered[index]:
            tally.fail(
                f"the keys or times of {head.sources[index].path} are not those that its rows had when the input was "
                "clustered"
            )
    return np.concatenate([_gaps(index, flags) for index, flags in enumerate(seen)])


def _sums_of_buckets(tally: Tally, head: PlanHead, store: Store, seen: list[Bools], origin: tuple[str, str]) -> Hashes:
    sums = np.zeros(len(seen), np.uint64)
    columns = (*head.entity, *head.time)
    for bucket in head.files:
        for batch in read_batches(store, bucket.path, (*columns, *origin)):
            source, row = origins(batch, origin)
            np.add.at(sums, source, _hashes(batch, head) * (row.astype(np.uint64) + np.uint64(1)))
            for index in np.unique(source).tolist():
                _mark(tally, head.sources[index].path, seen[index], row[source == index])
    return sums


def _mark(tally: Tally, path: str, seen: Bools, rows: Ints) -> None:
    again = len(rows) - len(np.unique(rows)) + int(seen[rows].sum())
    if again:
        tally.fail(f"{path} has rows that are in the buckets more than once", again)
    seen[rows] = True


def _sums_of_input(head: PlanHead, seen: list[Bools], reading: tuple[Options, bool]) -> Iterator[np.uint64]:
    columns = (*head.entity, *head.time)
    files = tuple(file.path for file in head.sources)
    reader = OwnRows(files, columns, access_of(head, reading[0], checksums=reading[1]))
    for index, flags in enumerate(seen):
        total, row = np.zeros(1, np.uint64), 0
        for found in reader.rows(index, 0, len(flags)):
            taken = flags[row : row + found.table.num_rows]
            weight = row + np.flatnonzero(taken).astype(np.uint64) + np.uint64(1)
            total += np.sum(_hashes(found.table.filter(pa.array(taken)), head) * weight, dtype=np.uint64)
            row += found.table.num_rows
        yield total[0]


def _hashes(table: pa.Table | pa.RecordBatch, head: PlanHead) -> Hashes:
    return hashes(spelt_keys(table, head.entity), moments_of(table, head.time))


def origins(batch: pa.RecordBatch | pa.Table, names: tuple[str, str]) -> tuple[Ints, Ints]:
    """Where the rows of a bucket stood in the input: files and rows (row,); one that was damaged has its complement.

    `names` are the columns that say so.
    """
    source, row = (batch.column(name).to_numpy().astype(np.int64) for name in names)
    return source, np.where(row < 0, -1 - row, row)


def _gaps(file: int, seen: Bools) -> Ints:
    steps = np.diff(np.concatenate([[1], seen.view(np.int8), [1]]))
    low, high = np.flatnonzero(steps < 0), np.flatnonzero(steps > 0)
    return np.stack([np.full(len(low), file), low, high], axis=1).astype(np.int64)
