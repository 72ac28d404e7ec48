"""The plan's part about carry-over: where each of tonight's entities has its row, and which rows nobody wants tonight.

Decides what a run is asked for, as far as carry-over goes, and how the plan's part lies in a store: `carry.parquet` has
one row group per shard with the places of its known entities, `absent.parquet` one per file of the table with the
stretches that are handed on. Both are written before the plan's head, so a plan that is there has them whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.carry import CarrySchema, absent_rows, carried_choices, match
from cluster.core.entity_keys import describe_entity
from cluster.core.locations import Options
from cluster.core.plan.column_conversion import converted, holds_all
from cluster.core.plan.column_types import TypeChoice, is_sure
from cluster.core.plan.inventory import Inventory
from cluster.core.plan.shard_plan import Plan, Shard
from cluster.core.settings import InputSettings, StateSettings
from cluster.core.times import stored_type
from cluster.run_errors import InputRefused, RunFailed, first_line
from cluster.runtime.carry.carry_table import CarryReader, open_typed, read_columns, read_keys, read_mark
from cluster.runtime.commit.commit import PLAN
from cluster.runtime.commit.row_checksum import canonical_table
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.input.column_values import first_misfit
from cluster.runtime.rows.carried_state import CarriedState
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import UNREADABLE, TableGroups, read_table
from cluster.runtime.storage.parquet_writer import parquet_writer
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Ints

CARRY_FILE, ABSENT_FILE = f"{PLAN}/carry.parquet", f"{PLAN}/absent.parquet"
CACHE_BYTES = 64 << 20
_PLACES = pa.schema([("entity", pa.int64()), ("file", pa.int32()), ("row", pa.int64())])
_STRETCHES = pa.schema([("file", pa.int32()), ("start", pa.int64()), ("stop", pa.int64())])


def find_carry(settings: StateSettings, schema: CarrySchema, options: Options | None = None) -> CarryRequest | None:
    """What a run reads and writes of carry-over, None where it asks for none; `options` are those of the storage.

    Raises InputRefused where what is to be read is no whole table of this schema.
    """
    if settings.read is None and settings.write is None:
        return None
    read, write = (None if path is None else StoreSpec(path, options or {}) for path in (settings.read, settings.write))
    if read is None:
        return CarryRequest(schema, settings, write=write)
    store = open_store(read)
    (files, types), mark = open_typed(store, schema), read_mark(store)
    return CarryRequest(schema, settings, read, write, files, mark["checksum"], types)


def settle_types(carry: CarryRequest, inventory: Inventory, settings: InputSettings) -> CarryRequest:
    """The same with keys and times in types that hold those of the input and of the table that is read.

    Tonight's table is written in them. Raises InputRefused where there are none, InputBroken.
    """
    tonight = [pa.field(name, stored_type(inventory.columns.field(name).type)) for name in carry.schema.types.names]
    asked = carry.in_types(pa.schema(tonight))
    if carry.types is None or carry.types.equals(asked.schema.types):
        return asked
    table = _CarriedValues(carry, inventory, settings)
    choices = zip(carried_choices(asked.schema, carry.types), asked.schema.types, carry.types, strict=True)
    return asked.in_types(pa.schema([table.settled(*choice) for choice in choices]))


@dataclass(frozen=True)
class _CarriedValues:
    """Keys and times, of tonight and of the table that is read: looked at where types alone do not tell."""

    carry: CarryRequest
    inventory: Inventory
    settings: InputSettings

    def settled(self, choice: TypeChoice, tonight: ArrowField, carried: ArrowField) -> ArrowField:
        """The first type of a choice that holds all values. Raises InputRefused."""
        for number, field in enumerate(choice.fields):
            if (choice.sure and number == 0) or (self._fits_tonight(tonight, field) and self._fits_carried(field)):
                return field
        assert self.carry.read is not None, "nothing is read"
        raise InputRefused(
            f"state.read {self.carry.read.url}: its {tonight.name!r} is {carried.type}, and tonight's is "
            f"{tonight.type}, and no type holds the values of both: write tonight's column as {carried.type}, or leave "
            "the key out to start from zero state."
        )

    def _fits_tonight(self, tonight: ArrowField, wanted: ArrowField) -> bool:
        if is_sure(wanted.type, [(tonight.type, tonight.name in self.carry.schema.folders)]):
            return True
        if wanted.name in self.inventory.keys.column_names:
            return holds_all(self.inventory.keys.column(wanted.name), wanted.type)
        paths = [file.path for file in self.inventory.sources or self.inventory.files]
        return first_misfit(paths, wanted.name, wanted.type, self.settings) is None

    def _fits_carried(self, wanted: ArrowField) -> bool:
        schema, read = self.carry.schema, self.carry.read
        assert read is not None, "nothing is read"
        if wanted.name in schema.entity:
            names = [wanted.name]
        else:
            place = schema.time.index(wanted.name)
            names = [schema.last[place], schema.broken[place]]
        store = open_store(read)
        parts = (read_columns(store, file, names) for file in self.carry.files)
        return all(holds_all(column, wanted.type) for part in parts for column in part.columns)


def find_known(keys: pa.Table, carry: CarryRequest) -> Ints:
    """For each of tonight's entities (entity,) its row in the table that is read, counted over all files, or -1.

    Raises InputRefused and InputBroken.
    """
    assert carry.read is not None, "nothing is read"
    store = open_store(carry.read)
    keys = converted(canonical_table(keys, carry.schema.entity), carry.schema.keys)
    rows = match(keys, read_keys(store, carry.schema, carry.files))
    unknown = np.flatnonzero(rows < 0)
    if carry.settings.missing == "fail" and len(unknown):
        raise InputRefused(
            f"{len(unknown):,} of {len(rows):,} entities have no carry-over in state.read {store.root}, the first "
            f'is {describe_entity(keys, int(unknown[0]))}: expected all of them; set [state] missing = "reset" to let '
            "new entities start from zero state."
        )
    return rows


def write_carry_plan(store: Store, plan: Plan, carry: CarryRequest) -> None:
    """Finds tonight's entities in the table and writes where. Raises InputRefused, InputBroken and StoreFault."""
    rows = find_known(plan.inventory.keys, carry)
    ends = np.cumsum([0, *(file.rows for file in carry.files)])
    with store.open_output(CARRY_FILE) as file, parquet_writer(file, _PLACES, compression="zstd") as writer:
        for entities in plan.shard_entities:
            writer.write_table(_places(rows[entities], ends), row_group_size=max(1, len(entities)))
    with store.open_output(ABSENT_FILE) as file, parquet_writer(file, _STRETCHES, compression="zstd") as writer:
        found = np.sort(rows[rows >= 0])
        borders = np.searchsorted(found, ends)
        for number, known in enumerate(carry.files):
            here = found[borders[number] : borders[number + 1]] - ends[number]
            start, stop = absent_rows(here, known.rows).T
            table = pa.table([np.full(len(start), number, np.int32), start, stop], schema=_STRETCHES)
            writer.write_table(table, row_group_size=max(1, len(start)))


def _places(rows: Ints, ends: Ints) -> pa.Table:
    known = np.flatnonzero(rows >= 0)
    file = np.searchsorted(ends, rows[known], side="right") - 1
    return pa.table([known, file.astype(np.int32), rows[known] - ends[file]], schema=_PLACES)


def absent_counts(store: Store, files: int) -> list[int]:
    """Absent entities of each file of the table. Raises RunFailed."""
    try:
        table = read_table(store, ABSENT_FILE)
    except UNREADABLE as error:
        raise _unreadable(store, ABSENT_FILE, error) from error
    rows = table.column("stop").to_numpy() - table.column("start").to_numpy()
    return [int(count) for count in np.bincount(table.column("file").to_numpy(), rows, minlength=files)]


class ShardCarry:
    """What the table knows of each shard."""

    def __init__(self, plan: Store, carry: CarryRequest, schema: CarrySchema) -> None:
        """`schema` has the states in the order in which the model hands them out."""
        assert carry.read is not None, "nothing is read"
        self._plan, self._schema = plan, schema
        self._places = TableGroups(plan, CARRY_FILE)
        self._reader = CarryReader(open_store(carry.read), carry.files, schema, cache_bytes=CACHE_BYTES)

    def of(self, shard: Shard) -> CarriedState:
        """The rows of a shard's entities. Raises InputBroken and RunFailed."""
        try:
            places = self._places.read(shard.index)
        except UNREADABLE as error:
            raise _unreadable(self._plan, CARRY_FILE, error) from error
        entity, file, row = (places.column(name).to_numpy() for name in _PLACES.names)
        return CarriedState.of(self._schema, entity, self._reader.take(file.astype(np.int64), row))


def _unreadable(store: Store, name: str, error: BaseException) -> RunFailed:
    return RunFailed(
        f"{store.path(name)} cannot be read ({first_line(error)}): remove the folder {store.path(PLAN)} and run the "
        "same command again."
    )
