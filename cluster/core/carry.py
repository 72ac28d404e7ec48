"""Carry-over as data: the table of states that one run leaves for the next.

Decides its columns, what makes a table the right one, and which of its rows belong to which entity of tonight. There is
one row per entity: its keys, the time of its last scored row, how many rows were ever scored, the time of its first bad
row where it is broken, the last known values of what is filled with "previous", and its state, a fixed-size list per
tensor. Further time columns, which break ties, have columns of their own. A column of the entity keeps its name; ours
stand apart from it (`own_columns`), and only then the metadata name the entity's. Leaves files and models alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import pyarrow as pa

from cluster.core.entity_keys import describe_entity
from cluster.core.own_columns import apart, own_name
from cluster.core.plan.column_types import TypeChoice, is_of_folders, is_sure, together
from cluster.core.row_accounting import number_entities
from cluster.core.settings import InputSettings
from cluster.core.times import stored_type
from cluster.run_errors import InputRefused
from lstm_core.array_types import Ints
from lstm_core.contract.model_contract import ModelContract
from lstm_core.json_types import JsonObject

LAST, BROKEN, SEEN = "last_time", "broken_since", "rows_seen"
PREVIOUS, STATE = "previous__", "state__"
METADATA = b"slotcar.carry_over"
_FORMAT = 1


@dataclass(frozen=True)
class StateColumn:
    """One state tensor of one recurrent layer."""

    layer: str  # path of the layer
    index: int  # position among the layer's states, flattened
    shape: tuple[int, ...]  # without the slot axis

    @property
    def name(self) -> str:
        """The column that holds it, where no column of the entity is called so."""
        return f"{STATE}{self.layer}__{self.index}"


@dataclass(frozen=True)
class CarrySchema:
    """What a table of carry-over holds."""

    fingerprint: str  # of the model
    earlier_fingerprint: str  # which earlier versions of this project have written in its place
    entity: tuple[str, ...]
    time: tuple[str, ...]
    previous: tuple[str, ...]  # feature columns that are filled with "previous", or the same in all rows of an entity
    states: tuple[StateColumn, ...]
    arrow: pa.Schema  # with `fingerprint` in its metadata
    folders: frozenset[str] = frozenset()  # entity columns that are made of the names of tonight's folders

    @property
    def last(self) -> tuple[str, ...]:
        """The columns of the last scored row's time, one per time column."""
        return tuple(self._own(name) for name in time_columns(LAST, self.time))

    @property
    def broken(self) -> tuple[str, ...]:
        """The columns of the first bad row's time."""
        return tuple(self._own(name) for name in time_columns(BROKEN, self.time))

    @property
    def seen(self) -> str:
        """The column of the rows ever scored."""
        return seen_column(self.entity)

    def previous_column(self, feature: str) -> str:
        """The column of a feature's last known value."""
        return self._own(PREVIOUS + feature)

    def state_column(self, state: StateColumn) -> str:
        """The column of a state tensor."""
        return self._own(state.name)

    def _own(self, name: str) -> str:
        return apart(name, self.entity)

    @cached_property
    def keys(self) -> pa.Schema:
        """The entity columns."""
        return pa.schema([self.arrow.field(name) for name in self.entity])

    @cached_property
    def moments(self) -> pa.Schema:
        """The columns of one moment, under the input's own names."""
        fields = zip(self.time, self.last, strict=True)
        return pa.schema([pa.field(name, self.arrow.field(column).type) for name, column in fields])

    @property
    def types(self) -> pa.Schema:
        """Of keys and times, one after the other, under the input's own names."""
        return types_beside(self, self.arrow)

    def in_types(self, types: pa.Schema) -> CarrySchema:
        """The same with keys and times in other types, given as by `types`."""
        kinds = types.types[: len(self.entity)]
        times = types.types[len(self.entity) :]
        wanted = dict(zip((*self.entity, *self.last, *self.broken), (*kinds, *times, *times), strict=True))
        fields = [field.with_type(wanted.get(field.name, field.type)) for field in self.arrow]
        return replace(self, arrow=pa.schema(fields).with_metadata(self.arrow.metadata or {}))

    @property
    def keys_and_times(self) -> list[str]:
        """Every column but the states and the last known values."""
        return [*self.entity, *self.last, self.seen, *self.broken]

    @property
    def state_bytes(self) -> int:
        """Bytes of one entity's state."""
        return 4 * sum(prod(state.shape) for state in self.states)

    def ordered_as(self, states: Sequence[tuple[str, int]]) -> CarrySchema:
        """The same with its states in the order in which a model hands them out, given by (layer, index)."""
        known = {(state.layer, state.index): state for state in self.states}
        assert known.keys() == set(states), f"the model has the states {states}, the table {sorted(known)}"
        return replace(self, states=tuple(known[place] for place in states))


def time_columns(prefix: str, time: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold one moment: `prefix` for the first time column, `prefix__name` for the others."""
    return (prefix, *(f"{prefix}__{name}" for name in time[1:]))


def seen_column(entity: Sequence[str]) -> str:
    """The column of the rows ever scored, beside the columns of an entity."""
    return apart(SEEN, entity)


def carry_schema(columns: pa.Schema, settings: InputSettings, contract: ModelContract) -> CarrySchema:
    """The table that a run writes; `columns` are the input's columns in plain types."""
    static = {name for spec in contract.inputs if spec.static for name in dict(settings.features)[spec.name]}
    previous = tuple(name for name in settings.feature_columns if name in static or _is_previous(settings, name))
    states = tuple(_states(contract))
    moments = [stored_type(columns.field(name).type) for name in settings.time]
    own = [
        *map(pa.field, time_columns(LAST, settings.time), moments),
        pa.field(SEEN, pa.int64()),
        *map(pa.field, time_columns(BROKEN, settings.time), moments),
        *(pa.field(PREVIOUS + name, _previous_type(name, settings, contract)) for name in previous),
        *(pa.field(state.name, pa.list_(pa.float32(), prod(state.shape))) for state in states),
    ]
    apart_from = [field.with_name(apart(field.name, settings.entity)) for field in own]
    told: JsonObject = {"format": _FORMAT, "model_fingerprint": contract.fingerprint}
    if apart_from != own:
        told["entity"] = list(settings.entity)
    keys = [pa.field(name, stored_type(columns.field(name).type)) for name in settings.entity]
    schema = pa.schema([*keys, *apart_from], {METADATA: json.dumps(told, sort_keys=True)})
    folders = frozenset(name for name in settings.entity if is_of_folders(columns.field(name)))
    known = (contract.fingerprint, contract.earlier_fingerprint)
    return CarrySchema(*known, settings.entity, settings.time, previous, states, schema, folders)


def types_beside(wanted: CarrySchema, found: pa.Schema) -> pa.Schema:
    """The types that a table's keys and times have, of the columns that a run wants, under the input's own names."""
    names = zip((*wanted.entity, *wanted.time), (*wanted.entity, *wanted.last), strict=True)
    return pa.schema([pa.field(name, found.field(column).type) for name, column in names])


def carried_choices(wanted: CarrySchema, found: pa.Schema) -> list[TypeChoice]:
    """In which types tonight's keys and times are compared with those of a table that is read, given by their types.

    Both are written in them. Where one has no fields, the two cannot be compared.
    """
    choices = []
    for tonight, carried in zip(wanted.types, found, strict=True):
        kinds = [(tonight.type, tonight.name in wanted.folders), (carried.type, False)]
        fits = [stored_type(kind) for kind in together(kinds)]
        fields = [pa.field(tonight.name, kind) for kind in fits]
        if tonight.name in wanted.time:
            fields = [field for field in fields if not pa.types.is_decimal(field.type)]
        choices.append(TypeChoice(tuple(fields), sure=bool(fields) and is_sure(fields[0].type, kinds)))
    return choices


def _is_previous(settings: InputSettings, column: str) -> bool:
    return column in settings.fill and settings.fill[column].previous


def _states(contract: ModelContract) -> Iterator[StateColumn]:
    for layer in contract.recurrent:
        for index, shape in enumerate(layer.state_shapes):
            yield StateColumn(layer.name, index, tuple(shape))


def _previous_type(column: str, settings: InputSettings, contract: ModelContract) -> pa.DataType:
    """A word as itself, since codes change with the vocabulary; a code as int32, a number as float32."""
    if column in settings.vocabulary:
        return pa.large_string()
    uses = {name for name, columns in settings.features if column in columns}
    codes = any(spec.kind == "categorical" for spec in contract.inputs if spec.name in uses)
    return pa.int32() if codes else pa.float32()


def read_schema(found: pa.Schema) -> CarrySchema | None:
    """The table that a file's schema tells of itself, its states flat; None where it tells none."""
    told = json.loads((found.metadata or {}).get(METADATA, b"{}"))
    if told.get("format") != _FORMAT:
        return None
    entity = tuple(told.get("entity") or found.names[: found.names.index(LAST)])
    own = {own_name(name, entity): found.field(name).type for name in found.names[len(entity) :]}
    states = []
    for name, kind in own.items():
        if name.startswith(STATE):
            layer, _, index = name.removeprefix(STATE).rpartition("__")
            states.append(StateColumn(layer, int(index), (kind.list_size,)))
    return CarrySchema(
        fingerprint=told["model_fingerprint"],
        earlier_fingerprint="",
        entity=entity,
        time=("time", *_behind(f"{LAST}__", own)),
        previous=_behind(PREVIOUS, own),
        states=tuple(states),
        arrow=found,
    )


def _behind(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def difference(wanted: CarrySchema, found: pa.Schema) -> str | None:
    """How the schema of a file differs from the table that the run needs, in words; None where it fits."""
    told = json.loads((found.metadata or {}).get(METADATA, b"{}"))
    if told.get("format") != _FORMAT:
        return "it was not written by slotcar score with state.write"
    if told["model_fingerprint"] not in (wanted.fingerprint, wanted.earlier_fingerprint):
        return (
            f"it is of the model {told['model_fingerprint'][:12]}, and tonight's is {wanted.fingerprint[:12]}: "
            "another architecture or other weights"
        )
    for field in wanted.arrow:
        if field.name not in found.names:
            return f"it has no column {field.name!r}, which tonight's settings ask for"
    compared = {*wanted.entity, *wanted.last, *wanted.broken}
    for field in wanted.arrow:
        if field.name not in compared and found.field(field.name).type != field.type:
            return f"its column {field.name!r} is {found.field(field.name).type}, and tonight's is {field.type}"
    choices = carried_choices(wanted, types_beside(wanted, found))
    for name, mine, choice in zip((*wanted.entity, *wanted.last), wanted.types, choices, strict=True):
        if not choice.fields:
            kinds = f"is {found.field(name).type}, and tonight's is {mine.type}"
            return f"its column {name!r} {kinds}, which cannot be compared"
    return None


def match(keys: pa.Table, carried: pa.Table) -> Ints:
    """For each entity of tonight (entity,) its row in the carry-over, -1 where it has none.

    `keys` and `carried` are entity columns with one schema. Raises InputRefused where the carry-over has
    an entity twice.
    """
    numbers = number_entities(carried, pa.concat_tables([carried, keys]))
    own = numbers[: carried.num_rows]
    twice = np.flatnonzero(own != np.arange(carried.num_rows))
    if len(twice):
        raise InputRefused(
            f"state.read has the entity {describe_entity(carried, int(twice[0]))} twice: expected one row per entity; "
            "give a carry-over that slotcar score has written, unchanged."
        )
    return numbers[carried.num_rows :]


def absent_rows(matched: Ints, rows: int) -> Ints:
    """The stretches (stretch, 2) from start to stop of a table's `rows` rows that `matched` (entity,) does not name."""
    here = np.zeros(rows + 2, np.int8)
    here[1:-1] = 1
    here[matched[matched >= 0] + 1] = 0
    borders = np.flatnonzero(np.diff(here))
    return np.asarray(borders.reshape(-1, 2), np.int64)


@dataclass(frozen=True)
class CarryFile:
    """One file of a table."""

    name: str
    group_rows: tuple[int, ...]  # rows of each row group
    sums: tuple[tuple[str, tuple[str, ...]], ...] = ()  # column -> checksum of each row group; () where there are none

    @property
    def rows(self) -> int:
        """Its entities."""
        return sum(self.group_rows)
