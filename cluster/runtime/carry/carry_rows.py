"""What entities leave behind: rows of carry-over for the series that end with a cut.

What it decides: that a row says how the entity stands after its last scored row, wherever that was: in the block that
ends it, in an earlier block of a long entity, or in an earlier run. An entity of which tonight nothing was scored, and
nothing went wrong, keeps its row unchanged; one whose first rows do not fill a window gets one without a last time.
One expression per column over all series that end together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowValues
from cluster.core.carry import CarrySchema
from cluster.core.entity_keys import describe_entity
from cluster.core.plan.column_conversion import converted
from cluster.run_errors import InputUnfit
from cluster.runtime.commit.snapshots import Snapshot
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.carried_state import CarriedState, as_carried, as_column, as_lists
from cluster.runtime.rows.null_filling import LastKnown
from cluster.runtime.rows.placed_blocks import Cut, PlacedBlock
from lstm_core.array_types import Array, Bools, Ints


@dataclass(frozen=True)
class Standing:
    """How some entities stand after their last scored row, all of them in one order."""

    times: pa.Table  # (entity, time columns); null where no row was ever scored
    seen: Ints  # (entity,) rows ever scored
    states: list[Array]  # per state tensor: (entity, *state)
    known: LastKnown  # (entity,)


class CarryRows:
    """The rows of one attempt of one shard, taken cut by cut."""

    def __init__(self, schema: CarrySchema, words: dict[str, pa.StringArray]) -> None:
        self._schema = schema  # its states in the model's order
        self._words = words
        self._tail: Standing | None = None  # of a streamed entity, after the newest block

    def of(self, cut: Cut) -> pa.Table:
        """The rows of the series that end with a cut, in their order; none is there twice."""
        return self._of_stream(cut) if cut.placed.stream is not None else self._of_whole(cut)

    def of_lost(self, block: Block, snapshot: Snapshot | None) -> pa.Table:
        """The rows of all series of a shard that is given up, but those that have ended before `snapshot`.

        `block` is the shard's, or of a streamed one the first that is not scored.
        """
        count = len(block.starts)
        done, ended, under_way = np.zeros(count, np.int64), np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        if snapshot is not None:
            done = snapshot.rows_of(count) - block.rows_before
            ended[snapshot.entity[~snapshot.under_way]] = True
            under_way[snapshot.entity[snapshot.under_way]] = True
        lost, stays = np.flatnonzero(~ended & (block.lengths > done)), np.flatnonzero(~ended & (block.lengths == 0))
        standing = self._lost_standing(block, snapshot, lost, (done, under_way))
        at = block.starts[lost] + done[lost]
        broken = as_carried(block.table.select(list(self._schema.time)).take(at), self._schema.moments)
        rows = self.table(_keys(block, lost, self._schema), standing, broken)
        if not len(stays):
            return rows
        return _merged((lost, rows), (stays, self._kept(block, stays)))

    def _lost_standing(
        self, block: Block, snapshot: Snapshot | None, lost: Ints, known: tuple[Ints, Bools]
    ) -> Standing:
        """How series stood after their last scored row: as the snapshot says, or as before tonight."""
        before, (done, under_way) = self.before(block.carried, lost, len(block.starts)), known
        if snapshot is None:
            return before
        begun = np.flatnonzero(under_way[lost])  # among the lost ones
        place = np.searchsorted(snapshot.entity[snapshot.under_way], lost[begun])
        for values, kept in zip(before.states, snapshot.states, strict=True):
            values[begun] = kept[place]
        for name, values in before.known.values.items():
            values[begun] = snapshot.previous[name][place]
        last = block.time_before
        if last is None:
            rows = np.maximum(block.starts[lost] + done[lost] - 1, 0)
            last = as_carried(block.table.select(list(self._schema.time)).take(rows), self._schema.moments)
        both = pa.concat_tables([before.times, converted(last, self._schema.moments)])
        times = both.take(np.where(under_way[lost], len(lost), 0) + np.arange(len(lost)))
        seen = before.seen + np.where(under_way[lost], done[lost] + block.rows_before, 0)
        return Standing(times, seen, before.states, before.known)

    def _of_stream(self, cut: Cut) -> pa.Table:
        placed, block = cut.placed, cut.placed.block
        assert cut.ended is not None, "a cut without what has ended"
        if self._tail is None and block.rows_before:
            self._tail = _tail_of_resume(placed, self._schema)
        if len(cut.ended.series):
            self._tail = self._scored(cut, cut.ended.series)
        if not (cut.last and block.final):
            return self._schema.arrow.empty_table()
        one = np.zeros(1, np.int64)
        if self._tail is None:
            return self._unscored(placed, one)
        return self.table(_keys(block, one, self._schema), self._tail, _broken(block, one, self._schema))

    def _of_whole(self, cut: Cut) -> pa.Table:
        placed, block = cut.placed, cut.placed.block
        assert cut.ended is not None, "a cut without what has ended"
        scored = cut.ended.series
        rows = self._schema.arrow.empty_table()
        if len(scored):
            standing, broken = self._scored(cut, scored), _broken(block, scored, self._schema)
            rows = self.table(_keys(block, scored, self._schema), standing, broken)
        unscored = np.flatnonzero(block.lengths == 0) if cut.last and block.final else np.zeros(0, np.int64)
        if not len(unscored):
            return rows
        return _merged((scored, rows), (unscored, self._unscored(placed, unscored)))

    def _scored(self, cut: Cut, series: Ints) -> Standing:
        """Series that have a scored row in this block."""
        block, ended = cut.placed.block, cut.ended
        assert ended is not None
        assert np.array_equal(series, ended.series), "a state for each of them"
        last = block.starts[series] + block.lengths[series] - 1
        times = as_carried(block.table.select(list(self._schema.time)).take(last), self._schema.moments)
        seen = _seen_before(block)[series] + block.rows_before + block.lengths[series]
        return Standing(times, seen, ended.states, ended.known)

    def _unscored(self, placed: PlacedBlock, series: Ints) -> pa.Table:
        """Series of which nothing is scored tonight, in their order: those that break now or are new, and others."""
        block = placed.block
        known = np.zeros(len(block.starts), np.bool_)
        known[block.carried.entity if block.carried is not None else []] = True
        changes = ~known[series] | (_broken_at(block)[series] >= 0)
        breaks, stays = np.flatnonzero(changes), np.flatnonzero(~changes)
        broken = series[breaks]
        standing = self.before(block.carried, broken, len(block.starts))
        rows = self.table(_keys(block, broken, self._schema), standing, _broken(block, broken, self._schema))
        if not len(stays):
            return rows
        return _merged((breaks, rows), (stays, self._kept(block, series[stays])))

    def _kept(self, block: Block, series: Ints) -> pa.Table:
        """The carried rows of series, unchanged."""
        assert block.carried is not None, "an entity that was never known has no row to keep"
        place = block.carried.place(len(block.starts))[series]
        self._refuse_lost(block, series, place)
        return block.carried.table(place)

    def _refuse_lost(self, block: Block, series: Ints, place: Ints) -> None:
        """An entity with a file that cannot be read, and none but late rows beside it, would go on as if all were well.

        Raises InputUnfit: there is no row from which on it could be broken.
        """
        lost = [index for index, one in enumerate(series.tolist()) if one in block.faults] if block.faults else []
        if not lost:
            return
        assert block.carried is not None, "asked by the caller"
        broken = block.carried.rows.column(self._schema.broken[0]).is_valid().to_numpy()
        for index in lost:
            if not broken[place[index]]:
                name = describe_entity(block.carried.rows.select(list(self._schema.entity)), int(place[index]))
                raise InputUnfit(
                    f"{block.faults[int(series[index])]}; all other rows of entity {name} are late, so its carry-over "
                    "cannot say since when it is broken: write the file again or take it out of the input, and run this"
                    " again into new folders."
                )

    def before(self, carried: CarriedState | None, series: Ints, entities: int) -> Standing:
        """How some of a shard's entities stood before tonight: as carried over, or at zero."""
        schema = self._schema
        if carried is None:
            nobody = np.zeros(0, np.int64)
            carried = CarriedState.of(schema, nobody, schema.arrow.empty_table())
        place, seen = carried.place(entities)[series], np.zeros(entities, np.int64)
        seen[carried.entity] = carried.seen
        times = carried.times(schema.last).take(pa.array(np.maximum(place, 0), pa.int64(), mask=place < 0))
        states = [values[series] for values in carried.states(entities)[1]]
        known = carried.last_known(entities, self._words)
        return Standing(times, seen[series], states, LastKnown({name: v[series] for name, v in known.values.items()}))

    def table(self, keys: pa.Table, standing: Standing, broken: pa.Table) -> pa.Table:
        """Rows of carry-over from their parts, all (entity, ...); `broken` are times, null where all is well."""
        schema = self._schema
        columns: dict[str, ArrowValues] = dict(zip(schema.entity, keys.columns, strict=True))
        columns |= dict(zip(schema.last, standing.times.columns, strict=True)) | {schema.seen: pa.array(standing.seen)}
        columns |= dict(zip(schema.broken, broken.columns, strict=True))
        for name in schema.previous:
            column = schema.previous_column(name)
            kind = schema.arrow.field(column).type
            columns[column] = as_column(standing.known.values[name], self._words.get(name), kind)
        for state, values in zip(schema.states, standing.states, strict=True):
            column = schema.state_column(state)
            columns[column] = as_lists(values, schema.arrow.field(column).type)
        return pa.table([columns[name] for name in schema.arrow.names], schema=schema.arrow)


def _merged(first: tuple[Ints, pa.Table], second: tuple[Ints, pa.Table]) -> pa.Table:
    """Two tables as one, in the order of the series that belong to their rows."""
    order = np.argsort(np.append(first[0], second[0]), kind="stable")
    return pa.concat_tables([first[1], second[1]]).take(order)


def _tail_of_resume(placed: PlacedBlock, schema: CarrySchema) -> Standing:
    """A long entity whose rows before this block were scored by an earlier attempt."""
    assert placed.initial is not None, "rows before the block, and no state of them"
    assert placed.known_before is not None
    block = placed.block
    assert block.time_before is not None, "rows before the block, and no time of the last of them"
    seen = _seen_before(block) + block.rows_before
    times = converted(block.time_before, schema.moments)
    return Standing(times, seen, placed.initial.states, placed.known_before)


def _seen_before(block: Block) -> Ints:
    """Rows (series,) that earlier runs have scored."""
    seen = np.zeros(len(block.starts), np.int64)
    if block.carried is not None:
        seen[block.carried.entity] = block.carried.seen
    return seen


def _keys(block: Block, series: Ints, schema: CarrySchema) -> pa.Table:
    return as_carried(block.table.select(list(schema.entity)).take(block.starts[series]), schema.keys)


def _broken_at(block: Block) -> Ints:
    return block.broken_at if block.broken_at is not None else np.full(len(block.starts), -1, np.int64)


def _broken(block: Block, series: Ints, schema: CarrySchema) -> pa.Table:
    """The times (series, time columns) of the rows that put them into quarantine; null where none did."""
    at = _broken_at(block)[series]
    rows = pa.array(np.maximum(at, 0), pa.int64(), mask=at < 0)
    return as_carried(block.table.select(list(schema.time)).take(rows), schema.moments)
