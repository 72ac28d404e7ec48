"""What an earlier run has left of a shard's entities, and which of the shard's rows it leaves out.

What it decides: that a row which is not after the carried last time is *late*, and that an entity in quarantine stays
there until the row that put it there is in the input again. Both are known before a feature is looked at, so that a
block holds only rows that may be scored. Everything is one expression over all entities of the shard; rows are compared
only of the few that are late or broken. Where the table lies is the business of `carry.carry_table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowLists, ArrowListType, ArrowValues
from cluster.core.carry import CarrySchema
from cluster.core.plan.column_conversion import converted
from cluster.core.times import compare_tables
from cluster.runtime.commit.row_checksum import canonical_table
from cluster.runtime.rows.null_filling import LastKnown
from cluster.runtime.rows.word_codes import codes_of
from lstm_core.array_types import Array, Bools, Doubles, Ints

LATE = "the row is not after the last one that an earlier run has scored"


@dataclass(frozen=True)
class CarriedState:
    """The carry-over of one shard: a row for each of its entities that an earlier run has known."""

    schema: CarrySchema
    entity: Ints  # (known,) ordinals in the shard, rising
    rows: pa.Table  # (known, column) of `schema.arrow`, but for the states
    tensors: list[Array]  # per state tensor: (known, *state); whoever is given them leaves them as they are

    @staticmethod
    def of(schema: CarrySchema, entity: Ints, table: pa.Table) -> CarriedState:
        """Of rows of a table; states are copied, since slices of them would keep whole row groups."""
        names = [schema.state_column(state) for state in schema.states]
        tensors = [_copied(table.column(name), state.shape) for name, state in zip(names, schema.states, strict=True)]
        return CarriedState(schema, entity, table.drop_columns(names), tensors)

    def alone(self, entity: int) -> CarriedState:
        """What is known of one entity, as of the only one of its shard."""
        here = np.flatnonzero(self.entity == entity)
        tensors = [values[here] for values in self.tensors]
        return CarriedState(self.schema, np.zeros(len(here), np.int64), self.rows.take(here), tensors)

    def table(self, place: Ints) -> pa.Table:
        """Some of the rows as they stood in the table."""
        columns: dict[str, ArrowValues] = {name: self.rows.column(name).take(place) for name in self.rows.column_names}
        for state, values in zip(self.schema.states, self.tensors, strict=True):
            name = self.schema.state_column(state)
            columns[name] = as_lists(values[place], self.schema.arrow.field(name).type)
        return pa.table([columns[name] for name in self.schema.arrow.names], schema=self.schema.arrow)

    def place(self, entities: int) -> Ints:
        """For each of the shard's entities (entity,) its row here, -1 where it has none."""
        place = np.full(entities, -1, np.int64)
        place[self.entity] = np.arange(len(self.entity))
        return place

    def states(self, entities: int) -> tuple[Bools, list[Array]]:
        """(entity,) True where there is a state, and the states (entity, *state), zero elsewhere."""
        held = np.zeros(entities, np.bool_)
        held[self.entity] = self.seen > 0
        if len(self.entity) == entities:
            return held, self.tensors
        spread = []
        for known in self.tensors:
            values = np.zeros((entities, *known.shape[1:]), np.float32)
            values[self.entity] = known
            spread.append(values)
        return held, spread

    @property
    def seen(self) -> Ints:
        """Rows ever scored (known,)."""
        return np.asarray(self.rows.column(self.schema.seen).to_numpy(), np.int64)

    def last_known(self, entities: int, words: dict[str, pa.StringArray]) -> LastKnown:
        """The last known values as the arena holds them; `words` are the vocabularies by column."""
        values = {}
        for name in self.schema.previous:
            spread = np.full(entities, np.nan)
            spread[self.entity] = as_known(self.rows.column(self.schema.previous_column(name)), words.get(name))
            values[name] = spread
        return LastKnown(values)

    def times(self, names: tuple[str, ...]) -> pa.Table:
        """The columns of one moment (known, time columns), under the input's own names."""
        return self.rows.select(list(names)).rename_columns(list(self.schema.time))


def as_carried(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Keys or times of tonight's rows as a table of carry-over has them."""
    return converted(canonical_table(table, columns.names), columns)


def as_known(column: ArrowColumn, words: pa.StringArray | None) -> Doubles:
    """A column of last known values as the arena holds them: words as their codes, unknown values as NaN."""
    if words is None:
        return np.asarray(column.cast(pa.float64()).to_numpy())
    return np.asarray(codes_of(column, words).cast(pa.float64()).to_numpy())


def as_column(values: Doubles, words: pa.StringArray | None, kind: pa.DataType) -> ArrowArray:
    """The other way: values (series,) as the arena holds them -> the column; the code 0 is the empty word."""
    missing = np.isnan(values)
    if words is None:
        return pa.array(np.where(missing, 0, values), mask=missing).cast(kind)
    spelt = pa.concat_arrays([pa.array([""], kind), words.cast(kind)])
    return spelt.take(pa.array(np.where(missing, 0, values).astype(np.int64), pa.int64(), mask=missing))


def as_lists(values: Array, kind: ArrowListType) -> ArrowLists:
    """States (entity, *state) as a column of lists of a fixed size."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def _copied(column: ArrowColumn, shape: tuple[int, ...]) -> Array:
    """The other way."""
    chunks = cast(list[ArrowLists], column.chunks)
    flat = [np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), np.float32) for chunk in chunks]
    return np.concatenate([np.zeros(0, np.float32), *flat]).reshape(len(column), *shape)


@dataclass(frozen=True)
class UnscoredRows:
    """Rows of a shard that its carry-over keeps from being scored."""

    late: Ints  # (series,) leading rows that are late
    broken: Bools  # (series,) all rows behind them stay in quarantine


def unscored_rows(carried: CarriedState, times: pa.Table, starts: Ints) -> UnscoredRows:
    """What is left out of whole series, in order of time: `times` (row, time columns), `starts` (series,)."""
    times = as_carried(times, carried.schema.moments)
    sizes = np.diff(np.append(starts, times.num_rows))
    place = carried.place(len(starts))
    late = _late(carried, times, starts, sizes, place)
    return UnscoredRows(late, _broken(carried, times, (starts + late, sizes - late), place))


def _late(carried: CarriedState, times: pa.Table, starts: Ints, sizes: Ints, place: Ints) -> Ints:
    late = np.zeros(len(starts), np.int64)
    last = carried.times(carried.schema.last)
    known = np.flatnonzero((place >= 0) & (sizes > 0))
    known = known[last.column(0).is_valid().to_numpy()[place[known]]]
    first = times.take(starts[known])
    behind = known[~_is_after(first, last.take(place[known]))]
    if len(behind):
        rows, series = _rows_of(starts[behind], sizes[behind])
        after = _is_after(times.take(rows), last.take(place[behind][series]))
        late[behind] = np.bincount(series[~after], minlength=len(behind))
    return late


def _is_after(left: pa.Table, right: pa.Table) -> Bools:
    less, equal = compare_tables(left, right)
    return np.asarray(~less & ~equal)


def _broken(carried: CarriedState, times: pa.Table, rest: tuple[Ints, Ints], place: Ints) -> Bools:
    """Which series stay in quarantine: broken, and the row that broke them is not among the rest of their rows."""
    starts, sizes = rest
    since = carried.times(carried.schema.broken)
    known = np.flatnonzero(place >= 0)
    broken = known[since.column(0).is_valid().to_numpy()[place[known]]]
    stays = np.zeros(len(starts), np.bool_)
    stays[broken] = True
    rows, series = _rows_of(starts[broken], sizes[broken])
    _, again = compare_tables(times.take(rows), since.take(place[broken][series]))
    stays[broken[series[again]]] = False
    return stays


def _rows_of(starts: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """The rows of stretches one after the other (row,), and the number of each one's stretch."""
    series = np.repeat(np.arange(len(starts)), sizes)
    inside = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return starts[series] + inside, series


def broken_reason(since: str) -> str:
    """Why an entity stays in quarantine; `since` is the time of its first bad row."""
    return f"the entity is in quarantine since {since}, and the input does not hold that row again"
