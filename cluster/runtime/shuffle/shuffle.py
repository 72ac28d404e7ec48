"""The pre-pass: interleaved input is clustered by entity into temporary Parquet, in tasks on the cluster.

Two rounds of tasks. The first reads the input in pieces and writes each piece's rows by bucket, a hash of the entity;
the second sorts each bucket by entity and time. What it decides: which tasks there are, when they are done, and what
is removed when. A finished piece or bucket is known by its name, so a broken pre-pass goes on where it stopped.
Memory is that of one task for each CPU, whatever the input's size. The plan is then made of the buckets like of any
clustered input; every row knows its place in the input, for quarantine and audit. A file that cannot be read ends the
run here, also where its entity is known: the buckets are to hold every file of the input.

Why pyarrow in tasks: 3 million rows of a text, a timestamp and eight float32 took 1.8 times a plain copy of them on
the same two cores, one sort by DuckDB 2.1 times, Ray Data's shuffle by hash, which leaves the time unsorted, 5.7 times
(`python -m tests.bench.shuffle`, beside other work). DuckDB is as quick on 10 million, but its sort is one task that
begins anew when it dies, and does not keep the input's order among equal times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from cluster.core.plan.column_types import LikeFiles, by_types, plain_schema
from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import (
    FileExtents,
    Inventory,
    SourceFile,
    build_inventory,
    join_bad,
)
from cluster.core.plan.partitions import NO_PARTITIONS, Partitions
from cluster.core.plan.shard_plan import CLUSTERED_REMEDY, choose_shard_rows, refuse_interleaved, why_shuffle
from cluster.core.settings import InputSettings
from cluster.run_errors import InputDamaged
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.input.column_checks import needed_columns
from cluster.runtime.input.column_values import types_of
from cluster.runtime.input.key_scan import describe_file, scan_file
from cluster.runtime.input.opened_types import opened_schema
from cluster.runtime.plan.input_scan import LightWork, Mapper, check_inventory, file_batches, make_inventory
from cluster.runtime.shuffle.bucket_sort import write_bucket
from cluster.runtime.shuffle.bucket_split import write_piece
from cluster.runtime.shuffle.shuffle_files import (
    GROUP_ROWS,
    Shuffle,
    is_finished,
    open_shuffle_file,
    read_counts,
    remove_files,
    unreadable,
    write_counts,
    writing,
)
from cluster.runtime.storage.open_parquet import counted_batches
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import UNREADABLE, read_table
from cluster.runtime.storage.store import Store

Described = tuple[tuple[SourceFile, ...], tuple[LikeFiles, ...]]  # files in order of path; the same, by their types


@dataclass(frozen=True)
class LayoutScan:
    """How an input lies."""

    files: FileList
    inventory: Inventory | None  # what they hold; None where they must be clustered first
    why: str  # it is read as it lies, or is not


@dataclass(frozen=True)
class ShuffledInput:
    """What the input holds, and the seconds that clustering it took."""

    inventory: Inventory
    shuffle_s: float = 0.0


def shuffle_where_needed(
    settings: InputSettings, place: StoreSpec, mapper: Mapper, check: Callable[[], None], look: LayoutScan
) -> ShuffledInput:
    """What the input holds: what `look` has found, or where that is nothing what it holds when it is clustered.

    Raises InputRefused, InputBroken, RunFailed, StoreFault.
    """
    if look.inventory is not None:
        return ShuffledInput(look.inventory)
    begin = time.perf_counter()
    clustered = shuffle_input(open_shuffle(settings, look.files, place, mapper), mapper, check)
    check_inventory(clustered, settings)
    return ShuffledInput(replace(clustered, reason=f"{look.why}; clustered first"), time.perf_counter() - begin)


def scan_layout(settings: InputSettings, files: FileList, mapper: Mapper, rows_per_file: int) -> LayoutScan:
    """Reads the files, or as many of them as tell that they must be clustered first.

    Raises InputRefused, InputBroken.
    """
    if settings.layout == "shuffle":
        return LayoutScan(files, None, 'input.layout is "shuffle"')
    inventory = make_inventory(settings, mapper, files, until_interleaved=settings.layout == "auto")
    if settings.layout == "clustered":
        refuse_interleaved(inventory, CLUSTERED_REMEDY)
        return LayoutScan(files, inventory, inventory.reason)
    shard_rows = choose_shard_rows(inventory.rows_in, rows_per_file=rows_per_file)
    why = why_shuffle(inventory, shard_rows=shard_rows)
    return LayoutScan(files, inventory, inventory.reason) if why is None else LayoutScan(files, None, why)


def open_shuffle(settings: InputSettings, files: FileList, place: StoreSpec, mapper: Mapper) -> Shuffle:
    """Reads the footers of the input's files. Raises InputRefused, InputBroken."""
    partitions = Partitions.of(files, settings)
    describe = partial(_describe_files, settings=settings, partitions=partitions)
    described = list(mapper(LightWork(describe), file_batches(files)))
    sources = tuple(source for sources_of, _ in described for source in sources_of)
    kinds = by_types(kind for _, kinds_of in described for kind in kinds_of)
    types = types_of(kinds, settings)
    if types is None:
        own = kinds[0].own
        columns = opened_schema(pa.schema([own.field(name) for name in needed_columns(settings)]))
        return Shuffle(place, settings, sources, columns, partitions)
    return Shuffle(place, settings, sources, types, partitions, differ=True)


def _describe_files(paths: Sequence[str], settings: InputSettings, partitions: Partitions) -> Described:
    found = [describe_file(path, settings, partitions) for path in paths]
    return tuple(file for file, _ in found), by_types(types for _, types in found)


def shuffle_input(shuffle: Shuffle, mapper: Mapper, check: Callable[[], None]) -> Inventory:
    """Clusters the whole input and returns its inventory, whose files are the buckets, by their names in the store.

    `check` is called after each task, and raises where this driver must not go on. Raises InputBroken, RunFailed,
    StoreFault; the same call again goes on.
    """
    store = shuffle.store()
    remove_files(store, keep=[shuffle.digest])
    if not is_finished(shuffle, store):
        for write, count in ((write_piece, len(shuffle.cuts.pieces)), (write_bucket, shuffle.cuts.buckets)):
            for _ in mapper(partial(write, shuffle=shuffle), range(count)):
                check()
    return read_buckets(shuffle, mapper)


def read_buckets(shuffle: Shuffle, mapper: Mapper, *, until: str | None = None) -> Inventory:
    """What the buckets hold, all of which are there; rows from `until` on are skipped. Raises InputRefused."""
    scan = partial(_scan_bucket, shuffle=shuffle, until=until)
    buckets = build_inventory(list(mapper(scan, range(shuffle.cuts.buckets))))
    return _inventory(shuffle, shuffle.store(), buckets)


def drop_pieces(shuffle: Shuffle) -> None:
    """Leaves the buckets, to be read by session after session, and what the pieces count. Raises StoreFault."""
    store = shuffle.store()
    if not is_finished(shuffle, store):
        write_counts(shuffle, store)
    names = [shuffle.counts, *map(shuffle.bucket, range(shuffle.cuts.buckets)), f"{SHUFFLE}/{shuffle.digest}-bad-"]
    remove_files(store, keep=[name.removeprefix(f"{SHUFFLE}/") for name in names])


def keep_buckets(store: Store, inventory: Inventory) -> None:
    """Removes what is of no use once the plan is written: all of an earlier input, and everything but the buckets."""
    remove_files(store, keep=[file.path.removeprefix(f"{SHUFFLE}/") for file in inventory.files if inventory.sources])


def strip_buckets(place: StoreSpec, files: Sequence[str], settings: InputSettings, mapper: Mapper) -> None:
    """Leaves of the buckets what an audit needs: the keys, and each row's place in the input. May be done again."""
    for _ in mapper(partial(_cut_down, place=place, settings=settings), files):
        pass
    remove_files(open_store(place), keep=[name.removeprefix(f"{SHUFFLE}/") for name in files])


def _scan_bucket(index: int, shuffle: Shuffle, until: str | None) -> FileExtents:
    """A bucket's runs of keys; its rows are good and asked for, all of them before `until`."""
    settings, name = replace(shuffle.settings, since=None, until=until), shuffle.bucket(index)
    try:
        found = scan_file(shuffle.store().path(name), settings, partitions=NO_PARTITIONS)
    except InputDamaged as damage:
        raise unreadable(shuffle.store(), name, damage.__cause__ or damage) from damage
    return replace(found, file=replace(found.file, path=name))


def _inventory(shuffle: Shuffle, store: Store, buckets: Inventory) -> Inventory:
    assert buckets.layout == "clustered", f"buckets are not clustered: {buckets.reason}"
    assert buckets.sorted.all(), "a bucket is not in order of time"
    counts = read_counts(shuffle, store)
    bad = [_read_bad(store, shuffle.bad(index)) for index in counts.bad]
    inventory = replace(
        buckets,
        sources=shuffle.sources,
        partitions=shuffle.partitions,
        columns=plain_schema(shuffle.columns) if shuffle.differ else buckets.columns,
        types=shuffle.columns if shuffle.differ else None,
        layout="interleaved",
        skipped=buckets.skipped + counts.skipped,
        bad=join_bad(buckets.keys.schema, bad),
    )
    counted = int(inventory.entity_rows.sum()) + inventory.skipped + inventory.bad.num_rows
    assert counted == inventory.rows_in, f"{inventory.rows_in} rows in, {counted} accounted for"
    return inventory


def _read_bad(store: Store, name: str) -> pa.Table:
    try:
        return read_table(store, name)
    except UNREADABLE as error:
        raise unreadable(store, name, error) from error


def _cut_down(name: str, place: StoreSpec, settings: InputSettings) -> None:
    store = open_store(place)
    with open_shuffle_file(store, name) as parquet:
        wanted = [*settings.entity, *settings.time, *parquet.schema_arrow.names[-2:]]
        if parquet.schema_arrow.names == wanted:
            return
        schema = pa.schema([parquet.schema_arrow.field(column) for column in wanted])
        with writing(store, name, schema) as writer:
            for batch in counted_batches(parquet, GROUP_ROWS, wanted):
                writer.write_table(pa.table(batch).select(wanted), row_group_size=GROUP_ROWS)
