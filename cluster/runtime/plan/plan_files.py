"""Drives the scans, and writes and reads a run's plan.

Decides how a plan lies in a store: `plan.parquet` has one row group per shard (row group i is shard i), `bad.parquet`
the rows that have no entity or no time, `lost.parquet`, where there are any, the files that cannot be read,
`partitions-0.parquet` and so on what a table says of its files, `plan.json` all else. `plan.json` is written last, so a
store that has it has a whole plan. Leaves the choice of shards to
`cluster.core.plan.shard_plan` and the question where scans run to its caller.
"""

from __future__ import annotations

import dataclasses
import json
import re
from base64 import b64decode, b64encode

import pyarrow as pa

from cluster.core.plan.file_list import TableValues
from cluster.core.plan.inventory import SourceFile
from cluster.core.plan.partitions import NO_PARTITIONS, Partitions
from cluster.core.plan.shard_plan import Plan, PlanHead, Shard, extent_schema
from cluster.run_errors import OVER_VALUES, RunFailed, StoreFault, first_line
from cluster.runtime.commit.commit import PLAN, SHUFFLE
from cluster.runtime.storage.parquet_tables import UNREADABLE, TableGroups, read_table, write_table
from cluster.runtime.storage.parquet_writer import ParquetOptions, parquet_writer
from cluster.runtime.storage.store import Store
from lstm_core.json_types import JsonObject

PLAN_FILE, BAD_FILE, HEAD_FILE = f"{PLAN}/plan.parquet", f"{PLAN}/bad.parquet", f"{PLAN}/plan.json"
LOST_FILE = f"{PLAN}/lost.parquet"
_FORMAT = 2
_BUCKET = re.compile(rf"{SHUFFLE}/[A-Za-z0-9_-][A-Za-z0-9._-]*")


def write_plan(store: Store, plan: Plan) -> None:
    """Write the plan into the store; a plan that is there is replaced. Raises StoreFault."""
    store.remove(HEAD_FILE)
    schema = extent_schema(plan.inventory.keys.schema)
    # Keys and places are different in every row: a dictionary of them would be built and thrown away.
    alike = ["file", "sorted", "fault"]
    options: ParquetOptions = {"compression": "zstd", "use_dictionary": alike, "write_statistics": False}
    with store.open_output(PLAN_FILE) as file, parquet_writer(file, schema, **options) as writer:
        for shard in plan.shards:
            extents = plan.extents(shard.index)
            writer.write_table(extents, row_group_size=extents.num_rows)
    write_table(store, BAD_FILE, plan.inventory.bad)
    if plan.inventory.lost is not None:
        write_table(store, LOST_FILE, plan.inventory.lost.table)
    told = _told(plan.head) | {"partitions": _write_partitions(store, plan.head.partitions or NO_PARTITIONS)}
    store.write(HEAD_FILE, json.dumps({"format": _FORMAT, **told}, indent=1).encode())


def has_plan(store: Store) -> bool:
    """True where there is a whole plan."""
    return store.exists(HEAD_FILE)


def read_plan(store: Store) -> PlanHead:
    """The plan in the store, without its extents. Raises RunFailed where there is no whole plan."""
    try:
        stored = json.loads(store.read(HEAD_FILE))
        partitions = _read_partitions(store, stored.pop("partitions", None))
        return dataclasses.replace(_head(stored), partitions=partitions)
    except (StoreFault, *OVER_VALUES, AttributeError, RecursionError) as error:
        raise RunFailed(
            f"{store.path(HEAD_FILE)} is no plan that can be read ({first_line(error)}): remove the folder "
            f"{store.path(PLAN)} and start again."
        ) from error


class Extents:
    """The plan's part about each shard."""

    def __init__(self, store: Store) -> None:
        self._store, self._groups = store, TableGroups(store, PLAN_FILE)

    def of(self, shard_index: int) -> pa.Table:
        """The extent table of one shard; see `shard_plan.extent_schema`. Raises RunFailed."""
        store = self._store
        try:
            return self._groups.read(shard_index)
        except UNREADABLE as error:
            raise RunFailed(
                f"Shard {shard_index} cannot be read from {store.path(PLAN_FILE)}: {first_line(error)}; run the same "
                f"command again, and if that does not help, remove the folder {store.path(PLAN)} first."
            ) from error


def read_bad(store: Store) -> pa.Table:
    """The rows without entity or time: key__ columns, reason, file, row. Raises RunFailed."""
    return _read_beside(store, BAD_FILE)


def read_lost(store: Store) -> pa.Table:
    """The files that cannot be read, of a plan that has any: key__ columns, file. Raises RunFailed."""
    return _read_beside(store, LOST_FILE)


def _read_beside(store: Store, name: str) -> pa.Table:
    try:
        return read_table(store, name)
    except UNREADABLE as error:
        raise RunFailed(
            f"{store.path(name)} cannot be read: remove the folder {store.path(PLAN)} and start again."
        ) from error


def _write_partitions(store: Store, partitions: Partitions) -> JsonObject:
    for index, values in enumerate(partitions.tables):
        write_table(store, _table_file(index), values.table)
    folders = {column: str(kind) for column, kind in partitions.types.items()}
    return {"folders": folders, "tables": len(partitions.tables)}


def _read_partitions(store: Store, stored: JsonObject | None) -> Partitions | None:
    if stored is None:
        return None
    types = {column: pa.type_for_alias(name) for column, name in stored["folders"].items()}
    return Partitions(types, tuple(TableValues(_read_beside(store, _table_file(i))) for i in range(stored["tables"])))


def _table_file(index: int) -> str:
    return f"{PLAN}/partitions-{index}.parquet"


def _told(head: PlanHead) -> JsonObject:
    """A head as JSON; its types, where it has any, as Arrow writes a schema."""
    told = dataclasses.asdict(dataclasses.replace(head, types=None, carry_types=None, partitions=None))
    return told | {"types": _text(head.types), "carry_types": _text(head.carry_types)}


def _text(types: pa.Schema | None) -> str | None:
    return None if types is None else b64encode(types.serialize()).decode()


def _schema(text: str | None) -> pa.Schema | None:
    return None if text is None else pa.ipc.read_schema(pa.py_buffer(b64decode(text)))


def _source_files(stored: list[JsonObject]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(**{**file, "row_group_rows": tuple(file["row_group_rows"])}) for file in stored)


def _head(stored: JsonObject) -> PlanHead:
    if stored.pop("format") != _FORMAT:
        raise ValueError("written by another version")
    files, sources = _source_files(stored.pop("files")), _source_files(stored.pop("sources"))
    if sources and not all(_BUCKET.fullmatch(file.path) for file in files):
        raise ValueError("its buckets are no files of a run")
    shards = tuple(Shard(**shard) for shard in stored.pop("shards"))
    entity, time = tuple(stored.pop("entity")), tuple(stored.pop("time"))
    types, carry = (_schema(stored.pop(name, None)) for name in ("types", "carry_types"))  # older plans have none
    stored |= {"entity": entity, "time": time, "types": types, "carry_types": carry}
    return PlanHead(files=files, sources=sources, shards=shards, **stored)
