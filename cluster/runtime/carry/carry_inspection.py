"""Looks into tables of carry-over: what one holds, how single entities stand, and which have moved between two.

It decides that an entity has moved where any column of its row differs, states included; tables are compared row group
by row group, so memory follows neither of them. It writes nothing.
"""

from __future__ import annotations

import os
from ast import literal_eval
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowColumn, ArrowLists, ArrowScalar
from cluster.core.carry import (
    CarryFile,
    CarrySchema,
    carried_choices,
    match,
    read_schema,
    types_beside,
)
from cluster.core.entity_keys import describe_entity
from cluster.core.plan.column_conversion import converted, holds_all
from cluster.core.plan.column_types import TypeChoice
from cluster.core.value_texts import text_of, texts_of
from cluster.run_errors import InputRefused, first_line
from cluster.runtime.carry.carry_table import CarryReader, groups_of, open_table, read_columns, read_keys, read_mark
from cluster.runtime.storage.parquet_tables import UNREADABLE
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools, Int32s, Ints

CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class Summary:
    """What a table holds."""

    model_fingerprint: str
    entities: int
    files: int
    rows_seen: int
    broken: int  # entities that are in quarantine
    earliest: str | None  # of the last times
    latest: str | None
    states: dict[str, int]  # column -> values


@dataclass(frozen=True)
class Difference:
    """Two tables, by entity; the lists hold the first ones of each kind."""

    entities: tuple[int, int]
    moved: int
    same: int
    gone: int  # in the first one only
    new: int  # in the second one only
    broke: int  # in quarantine in the second one, and not in the first
    mended: int
    names: dict[str, list[str]]  # kind -> entities


@dataclass(frozen=True)
class OpenTable:
    """A table to look into."""

    store: Store
    schema: CarrySchema
    files: tuple[CarryFile, ...]

    @staticmethod
    def of(store: Store) -> OpenTable:
        """The table in a store. Raises InputRefused where there is none, or only half of one."""
        read_mark(store, setting="")
        names = [name for name in store.list("") if name.endswith(".parquet")]
        schema = _schema(store, names[0]) if names else None
        if schema is None:
            raise InputRefused(f"{store.root} holds no carry-over: give the state.write of a finished run.")
        return OpenTable(store, schema, open_table(store, schema, setting=""))

    def column(self, name: str) -> ArrowColumn:
        """One column of all files."""
        return pa.concat_tables([read_columns(self.store, file, [name]) for file in self.files]).column(0)

    def keys(self) -> pa.Table:
        """The keys of all entities."""
        return read_keys(self.store, self.schema, self.files)

    def places(self) -> tuple[Ints, Ints]:
        """The file and the row in it of every entity."""
        rows = [file.rows for file in self.files]
        return np.repeat(np.arange(len(rows)), rows), np.concatenate([np.arange(count) for count in rows])

    def reader(self) -> CarryReader:
        """Rows by their places."""
        return CarryReader(self.store, self.files, self.schema, cache_bytes=CACHE_BYTES)


def _schema(store: Store, name: str) -> CarrySchema | None:
    try:
        with store.open_input(name) as file, pq.ParquetFile(file) as parquet:
            return read_schema(parquet.schema_arrow)
    except UNREADABLE as error:
        raise InputRefused(f"{store.path(name)} cannot be read ({first_line(error)}): put the file back.") from error


def summarize(table: OpenTable) -> Summary:
    """What a table holds."""
    last, broken = table.column(table.schema.last[0]), table.column(table.schema.broken[0])
    bounds = pc.min_max(last)
    return Summary(
        model_fingerprint=table.schema.fingerprint,
        entities=len(last),
        files=len(table.files),
        rows_seen=int(pc.sum(table.column(table.schema.seen)).as_py() or 0),
        broken=len(broken) - broken.null_count,
        earliest=_text(bounds["min"]),
        latest=_text(bounds["max"]),
        states={table.schema.state_column(state): state.shape[0] for state in table.schema.states},
    )


def _text(value: ArrowScalar) -> str | None:
    return text_of(value) if value.is_valid else None


def find_entities(table: OpenTable, values: Sequence[str]) -> pa.Table:
    """The rows of the entity whose columns have these values, as any text that says them. Raises InputRefused."""
    entity = table.schema.entity
    if len(values) != len(entity):
        raise InputRefused(
            f"An entity is named by {len(entity)} columns ({', '.join(entity)}), but {len(values)} values are given: "
            "repeat --entity once per column."
        )
    keys = table.keys()
    wanted = np.ones(keys.num_rows, np.bool_)
    for column, value in zip(keys.columns, values, strict=True):
        wanted &= _is_called(column, value)
    found = np.flatnonzero(wanted)
    if not len(found):
        raise InputRefused(f"{table.store.root} has no entity {', '.join(values)} among {keys.num_rows:,}.")
    file, row = table.places()
    return table.reader().take(file[found], row[found])


def _is_called(column: ArrowColumn, value: str) -> Bools:
    """Which keys (entity,) a text means: as columns show it, as sentences do, or bytes as hex or as a UUID."""
    content = os.fsencode(value)
    if content != value.encode("utf-8", "replace"):  # typed as bytes that are no UTF-8
        texts = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
        same = pc.equal(column.cast(pa.large_binary()), pa.scalar(content, pa.large_binary())) if texts else None
        return np.zeros(len(column), np.bool_) if same is None else same.fill_null(False).to_numpy()
    found = pc.equal(texts_of(column), pa.scalar(value)).fill_null(False).to_numpy().copy()
    for key in _keys_called(value, column.type):
        found |= pc.equal(column, key).fill_null(False).to_numpy()
    if not found.any() and pa.types.is_temporal(column.type):  # one by one: only sentences write times so
        return np.array([text_of(key) == value for key in column], np.bool_)
    return found


def _keys_called(value: str, kind: pa.DataType) -> Iterator[ArrowScalar]:
    spelt: list[str | bytes] = [value]
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        with suppress(ValueError):
            spelt.append(bytes.fromhex(value.replace("-", "")))
        with suppress(ValueError, SyntaxError):
            told = literal_eval(value)
            spelt += [told] if isinstance(told, bytes) else []
    for one in spelt:
        with suppress(pa.ArrowException, OverflowError):
            yield pa.scalar(one).cast(kind)


def compare_carry(before: OpenTable, after: OpenTable, names_max: int) -> Difference:
    """Which entities differ. Raises InputRefused where the two tables cannot be compared."""
    if not before.schema.arrow.equals(after.schema.arrow):
        before, after = _in_one_spelling(before, after)
    ours, theirs = before.keys(), after.keys()
    place = match(ours, theirs)
    tally = _Tally(names_max)
    begin = 0
    for left, right, known in _pairs(before, after, place):
        rows = ours.slice(begin, len(known))
        begin += len(known)
        tally.note("gone", rows.filter(pa.array(~known)))
        mine = rows.filter(pa.array(known))
        moved = _differs(left, right)
        tally.note("moved", mine.filter(pa.array(moved)))
        was, is_now = (table.column(after.schema.broken[0]).is_valid().to_numpy() for table in (left, right))
        tally.note("broke", mine.filter(pa.array(~was & is_now)))
        tally.note("mended", mine.filter(pa.array(was & ~is_now)))
    new = np.ones(theirs.num_rows, np.bool_)
    new[place[place >= 0]] = False
    tally.note("new", theirs.filter(pa.array(new)))
    counts = tally.counts
    same = ours.num_rows - counts["gone"] - counts["moved"]
    return Difference((ours.num_rows, theirs.num_rows), same=same, names=tally.names, **counts)


def _in_one_spelling(before: OpenTable, after: OpenTable) -> tuple[OpenTable, OpenTable]:
    """Two tables with keys and times in types that hold those of both. Raises InputRefused where more differs."""
    wanted = replace(after.schema, folders=frozenset(after.schema.entity))  # a key that is text now may have been one
    types = None
    if before.schema.arrow.names == wanted.arrow.names:
        types = _types_of_both(carried_choices(wanted, types_beside(wanted, before.schema.arrow)), before, after)
    if types is not None:
        tables = [replace(table, schema=table.schema.in_types(types)) for table in (before, after)]
        if tables[0].schema.arrow.equals(tables[1].schema.arrow):
            return tables[0], tables[1]
    raise InputRefused(
        f"{before.store.root} and {after.store.root} are of different models or settings: their columns are not "
        "the same, so their states cannot be compared."
    )


def _types_of_both(choices: Sequence[TypeChoice], before: OpenTable, after: OpenTable) -> pa.Schema | None:
    """The first types that hold the values of both tables; None where a column has none."""
    schema, fields = after.schema, []
    columns = [*((name,) for name in schema.entity), *zip(schema.last, schema.broken, strict=True)]
    for choice, names in zip(choices, columns, strict=True):
        values = [table.column(name) for table in (before, after) for name in names]
        fields += [field for field in choice.fields if all(holds_all(column, field.type) for column in values)][:1]
    return pa.schema(fields) if len(fields) == len(columns) else None


def _pairs(before: OpenTable, after: OpenTable, place: Ints) -> Iterator[tuple[pa.Table, pa.Table, Bools]]:
    """For each row group of the first table: its rows that both have, those of the second one, and which these are."""
    file, row = after.places()
    reader, begin = after.reader(), 0
    for name in before.files:
        for table in groups_of(before.store, name):
            own = place[begin : begin + table.num_rows]
            begin += table.num_rows
            known = own >= 0
            right = reader.take(file[own[known]], row[own[known]])
            left = converted(table.select(right.column_names), before.schema.arrow)
            yield left.filter(pa.array(known)), right, known


def _differs(left: pa.Table, right: pa.Table) -> Bools:
    differs = np.zeros(left.num_rows, np.bool_)
    for ours, theirs in zip(left.columns, right.columns, strict=True):
        if pa.types.is_fixed_size_list(ours.type):
            pair = [_bits(column) for column in (ours, theirs)]
            differs |= (pair[0] != pair[1]).reshape(-1, ours.type.list_size).any(axis=1)
        else:
            same = pc.if_else(pc.is_null(ours), pc.is_null(theirs), pc.equal(ours, theirs).fill_null(False))
            differs |= ~same.to_numpy()
    return differs


def _bits(states: ArrowColumn) -> Int32s:
    """What a column of states holds, all lists one after the other, as bits: a NaN is the same as itself."""
    lists = cast(ArrowLists, states.combine_chunks())
    return lists.flatten().to_numpy(zero_copy_only=False).view(np.int32)


class _Tally:
    """Counts of each kind of difference, with the first entities of it."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self.counts = dict.fromkeys(("moved", "gone", "new", "broke", "mended"), 0)
        self.names: dict[str, list[str]] = {kind: [] for kind in self.counts}

    def note(self, kind: str, keys: pa.Table) -> None:
        """Entities of a kind."""
        self.counts[kind] += keys.num_rows
        room = min(keys.num_rows, self._names_max - len(self.names[kind]))
        self.names[kind] += [describe_entity(keys, row) for row in range(room)]
