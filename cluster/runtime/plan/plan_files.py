"""Drives the scans, and writes and reads a run's plan.

Decides how a plan lies in a store: `plan.parquet` has one row group per shard (row group i is shard i), `bad.parquet`
the rows that have no entity or no time, `lost.parquet`, where there are any, the files that cannot be read, `plan.json`
all else. `plan.json` is written last, so a store that has it has a whole plan. Leaves the choice of shards to
`cluster.core.plan.shard_plan` and the question where scans run to its caller.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from cluster.core.plan.inventory import Inventory, JoinedRuns, SourceFile, inventory_of, join_files
from cluster.core.plan.lost_files import LostFile, refuse_lost, with_lost
from cluster.core.plan.shard_plan import Plan, PlanHead, Shard, segment_schema
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, InputRefused, RunFailed, StoreFault, first_line
from cluster.runtime.commit.commit import PLAN
from cluster.runtime.input.column_checks import needed_columns
from cluster.runtime.input.file_listing import list_files
from cluster.runtime.input.hive_partitions import Partitions
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.input.unreadable_files import lost_file
from cluster.runtime.storage.parquet_tables import UNREADABLE, TableGroups, read_table, write_table
from cluster.runtime.storage.store import Store

PLAN_FILE, BAD_FILE, HEAD_FILE = f"{PLAN}/plan.parquet", f"{PLAN}/bad.parquet", f"{PLAN}/plan.json"
LOST_FILE = f"{PLAN}/lost.parquet"
_FORMAT = 2

# A task answers with one table for its files: so many lists of files at least, as long as that is possible, and so many
# files in a list at most, since their runs are in memory together.
BATCHES_MIN = 256
BATCH_FILES_MAX = 256

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]  # called like `map`, over items


@dataclass(frozen=True)
class Light:
    """A function that takes little time and memory for most items, so that a few need no worker."""

    function: Callable[[Any], Any]

    def __call__(self, item: Any) -> Any:
        return self.function(item)


@dataclass(frozen=True)
class Scanned:
    """What was found in some neighbouring files."""

    runs: JoinedRuns | None  # of those that can be read; None where none can
    lost: tuple[LostFile, ...]


def make_inventory(
    settings: InputSettings, mapper: Mapper, files: Sequence[str] | None = None, *, until_torn: bool = False
) -> Inventory:
    """Scan the input's files (listed here unless given) through `mapper`, which is called like `map`.

    With `until_torn` an input of which one file is interleaved is scanned no further: of it only the layout is known.
    Raises InputRefused for an input without rows and for columns that do not fit, InputBroken for a broken file whose
    entity nobody knows, and where no file can be read.
    """
    files = sorted(list_files(settings) if files is None else files)
    partitions = Partitions.of(files)
    scan = partial(scan_files, settings=settings, partitions=partitions, until_torn=until_torn)
    scans: list[JoinedRuns] = []
    lost: list[LostFile] = []
    for found in mapper(Light(scan), batches(files)):
        lost += found.lost
        if found.runs is not None:
            scans.append(found.runs)
            if until_torn and found.runs.torn:
                return inventory_of(scans)
    if not scans:
        raise InputBroken(lost[0].fault)
    inventory = with_lost(inventory_of(scans), lost)
    _check_partitions(inventory, settings, partitions)
    check_inventory(inventory, settings)
    return inventory


def batches(files: Sequence[str]) -> list[Sequence[str]]:
    """Neighbours in order of path, to be scanned together."""
    size = min(BATCH_FILES_MAX, max(1, len(files) // BATCHES_MIN))
    return [files[start : start + size] for start in range(0, len(files), size)]


def scan_files(paths: Sequence[str], settings: InputSettings, partitions: Partitions, until_torn: bool) -> Scanned:
    """The runs of some files as one; with `until_torn` of those up to the first that is seen to be interleaved."""
    scans, lost = [], []
    for path in paths:
        try:
            scans.append(scan_file(path, settings, partitions=partitions, until_torn=until_torn))
        except InputBroken as broken:
            found = lost_file(path, broken, settings, partitions)
            if found is None:
                raise
            lost.append(found)
            continue
        if until_torn and scans[-1].torn:
            break
    return Scanned(join_files(scans) if scans else None, tuple(lost))


def _check_partitions(inventory: Inventory, settings: InputSettings, partitions: Partitions) -> None:
    """A column of folders' names must not owe its type to a lost file: whoever reads a plan's files sees only these."""
    if inventory.lost is None:
        return
    readable = Partitions.of([file.path for file in inventory.files]).types
    if any(
        readable.get(name, kind) != kind for name, kind in partitions.types.items() if name in needed_columns(settings)
    ):
        refuse_lost(inventory)


def check_inventory(inventory: Inventory, settings: InputSettings) -> None:
    """Raises InputRefused for an input without rows, and for ties where they are not wanted."""
    if inventory.rows_in == 0:
        refuse_lost(inventory)
        count = len(inventory.sources or inventory.files)
        raise InputRefused(f"input.path: {', '.join(map(repr, settings.path))} has no rows in {count:,} files.")
    if settings.ties == "fail" and inventory.ties:
        raise InputRefused(
            f"{inventory.ties:,} rows have the same {', '.join(settings.time)} as the row of their entity before "
            'them: add a column to input.time that breaks ties, or set faults.ties = "keep".'
        )


def write_plan(store: Store, plan: Plan) -> None:
    """Write the plan into the store; a plan that is there is replaced. Raises StoreFault."""
    store.remove(HEAD_FILE)
    schema = segment_schema(plan.inventory.keys.schema)
    # Keys and places are different in every row: a dictionary of them would be built and thrown away.
    options = {"compression": "zstd", "use_dictionary": ["file", "sorted", "fault"], "write_statistics": False}
    with store.open_output(PLAN_FILE) as file, pq.ParquetWriter(file, schema, **options) as writer:
        for shard in plan.shards:
            segments = plan.segments(shard.index)
            writer.write_table(segments, row_group_size=segments.num_rows)
    write_table(store, BAD_FILE, plan.inventory.bad)
    if plan.inventory.lost is not None:
        write_table(store, LOST_FILE, plan.inventory.lost.table)
    store.write(HEAD_FILE, json.dumps({"format": _FORMAT, **dataclasses.asdict(plan.head)}, indent=1).encode())


def has_plan(store: Store) -> bool:
    """True where there is a whole plan."""
    return store.exists(HEAD_FILE)


def read_plan(store: Store) -> PlanHead:
    """The plan in the store, without its segments. Raises RunFailed where there is no whole plan."""
    try:
        return _head(json.loads(store.read(HEAD_FILE)))
    except (StoreFault, ValueError, KeyError, TypeError) as error:
        raise RunFailed(
            f"{store.path(HEAD_FILE)} is no plan that can be read ({first_line(error)}): remove the folder "
            f"{store.path(PLAN)} and start again."
        ) from error


class Segments:
    """The plan's part about each shard."""

    def __init__(self, store: Store) -> None:
        self._store, self._groups = store, TableGroups(store, PLAN_FILE)

    def of(self, shard_index: int) -> Any:
        """The segment table (pa.Table) of one shard; see `shard_plan.segment_schema`. Raises RunFailed."""
        store = self._store
        try:
            return self._groups.read(shard_index)
        except UNREADABLE as error:
            raise RunFailed(
                f"Shard {shard_index} cannot be read from {store.path(PLAN_FILE)}: {first_line(error)}; run the same "
                f"command again, and if that does not help, remove the folder {store.path(PLAN)} first."
            ) from error


def read_bad(store: Store) -> Any:
    """The rows without entity or time (pa.Table): key__ columns, reason, file, row. Raises RunFailed."""
    return _read_beside(store, BAD_FILE)


def read_lost(store: Store) -> Any:
    """The files that cannot be read (pa.Table), of a plan that has any: key__ columns, file. Raises RunFailed."""
    return _read_beside(store, LOST_FILE)


def _read_beside(store: Store, name: str) -> Any:
    try:
        return read_table(store, name)
    except UNREADABLE as error:
        raise RunFailed(
            f"{store.path(name)} cannot be read: remove the folder {store.path(PLAN)} and start again."
        ) from error


def _source_files(stored: list[dict[str, Any]]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(**{**file, "row_group_rows": tuple(file["row_group_rows"])}) for file in stored)


def _head(stored: dict[str, Any]) -> PlanHead:
    if stored.pop("format") != _FORMAT:
        raise ValueError("written by another version")
    files, sources = _source_files(stored.pop("files")), _source_files(stored.pop("sources"))
    shards = tuple(Shard(**shard) for shard in stored.pop("shards"))
    entity, time = tuple(stored.pop("entity")), tuple(stored.pop("time"))
    return PlanHead(files=files, sources=sources, shards=shards, entity=entity, time=time, **stored)
