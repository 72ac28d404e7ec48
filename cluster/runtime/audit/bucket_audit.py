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
from cluster.core.plan.shuffle_plan import Hashes, place_of, row_hashes
from cluster.runtime.commit.row_checksum import canonical_table
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.parquet_tables import BATCH_ROWS, read_batches
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools, Ints

CACHE_BYTES = 64 << 20


def audit_origins(tally: Tally, head: PlanHead, store: Store, storage: Options) -> Ints:
    """The stretches (file, first row, row behind) of the input that no bucket has. Raises InputBroken, OSError."""
    seen = [np.zeros(file.rows, np.bool_) for file in head.sources]
    buckets = InputFiles.of(head, store, storage)
    clustered = _sums_of_buckets(tally, head, store, seen, buckets.origin)
    kinds = buckets.open((*head.entity, *head.time), cache_bytes=0).schema
    for index, found in enumerate(_sums_of_input(head, seen, storage, kinds)):
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
            source, row = (batch.column(name).to_numpy() for name in origin)
            row = place_of(row)
            np.add.at(
                sums, source, row_hashes(canonical_table(batch, columns)) * (row.astype(np.uint64) + np.uint64(1))
            )
            for index in np.unique(source).tolist():
                _mark(tally, head.sources[index].path, seen[index], row[source == index])
    return sums


def _mark(tally: Tally, path: str, seen: Bools, rows: Ints) -> None:
    again = len(rows) - len(np.unique(rows)) + int(seen[rows].sum())
    if again:
        tally.fail(f"{path} has rows that are in the buckets more than once", again)
    seen[rows] = True


def _sums_of_input(head: PlanHead, seen: list[Bools], storage: Options, kinds: pa.Schema) -> Iterator[np.uint64]:
    """In the types of the buckets, which an earlier version may have made with times of another unit."""
    columns = (*head.entity, *head.time)
    files = tuple(file.path for file in head.sources)
    groups = RowGroups(files, columns, cache_bytes=CACHE_BYTES, storage=storage)
    for index, flags in enumerate(seen):
        total = np.zeros(1, np.uint64)
        for low in range(0, len(flags), BATCH_ROWS):
            rows = low + np.flatnonzero(flags[low : low + BATCH_ROWS])
            if len(rows):
                table = groups.rows(index, low, min(low + BATCH_ROWS, len(flags))).take(rows - low).select(kinds.names)
                table = table if table.schema.equals(kinds) else table.cast(kinds)
                weight = rows.astype(np.uint64) + np.uint64(1)
                total += np.sum(row_hashes(canonical_table(table, columns)) * weight, dtype=np.uint64)
        yield total[0]


def _gaps(file: int, seen: Bools) -> Ints:
    steps = np.diff(np.concatenate([[1], seen.view(np.int8), [1]]))
    low, high = np.flatnonzero(steps < 0), np.flatnonzero(steps > 0)
    return np.stack([np.full(len(low), file), low, high], axis=1).astype(np.int64)
