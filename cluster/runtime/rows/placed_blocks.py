"""Placed blocks: blocks at their places in the arena, how far each is scored, and what of it is written.

What it decides: where a shard's series begin, which rows a fragment takes, and what must be kept after those rows: a
snapshot of the series under way, the final states of those that end. A placed block is scored row by row through the
arena's flags; nothing here is done per step but the look-up of who sits in which slot, and whose state is final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cluster.runtime.commit.snapshots import Snapshot
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.carried_state import CarriedState
from cluster.runtime.rows.null_filling import LastKnown
from lstm_core.array_types import Array, Bools, Ints
from lstm_core.packing.arena import Arena
from lstm_core.packing.packer import Step


@dataclass
class Initial:
    """What the series of a placed block begin with, where they do not begin at zero."""

    rows_done: Ints  # (series,) rows that earlier attempts have committed
    held: Bools  # (series,) True where there is a state, of an earlier attempt or an earlier run
    states: list[Array]  # per state tensor: (series, *state)

    @property
    def begun(self) -> Bools:
        """(series,) True where an earlier attempt has begun the series."""
        return self.rows_done > 0


def initial_of(
    entities: int, resume: Snapshot | None, carried: CarriedState | None, *, streamed: bool
) -> Initial | None:
    """Where the entities of a shard begin: from a snapshot where there is one of them, else from the carry-over.

    A streamed entity is read from its first row that is not committed, so none of what is read is done.
    """
    if resume is None and carried is None:
        return None
    done = np.zeros(entities, np.int64) if resume is None or streamed else resume.rows_of(entities)
    if resume is None:
        assert carried is not None
        return Initial(done, *carried.states(entities))
    held, states = resume.states_of(entities)
    if carried is not None:
        known, before = carried.states(entities)
        begun = resume.rows_of(entities) > 0
        for values, older in zip(states, before, strict=True):
            values[~begun] = older[~begun]
        held |= known & ~begun
    return Initial(done, held, states)


@dataclass(frozen=True)
class Ended:
    """Series whose last row is scored, and what an entity leaves behind it."""

    series: Ints  # (ended,) rising
    states: list[Array]  # per state tensor: (ended, *state)
    known: LastKnown  # values (ended,)


@dataclass
class PlacedBlock:
    """A block in the arena, until all its rows are scored and written."""

    block: Block
    start: int
    stream: Any = None  # the feed's own note, where the block is one of a long entity
    number: int = 0  # its number of the block within its shard
    series_left: int = 0
    initial: Initial | None = None
    known_before: LastKnown | None = None  # last known values before the block's first row
    written: Bools | None = None  # (row,) rows that a fragment has; None where none has
    final_states: list[Array] | None = None  # per state tensor: (series, *state), where the block's last row is scored
    ended: Bools | None = None  # (series,) True where `final_states` holds the state and no cut has taken it

    @property
    def rows(self) -> slice:
        """The block's rows in the arena."""
        return slice(self.start, self.start + self.block.rows)

    def is_ripe(self, arena: Arena) -> bool:
        """True when a scored row is in no fragment yet, and a fragment may end here.

        It may not while a series that an earlier attempt has begun still waits for a slot: that series' rows would
        skip a fragment, and are to stand in consecutive ones.
        """
        scored = arena.scored[self.rows]
        fresh = scored if self.written is None else scored & ~self.written
        return bool(fresh.any()) and not self._is_held_up(scored)

    def _is_held_up(self, scored: Bools) -> bool:
        if self.initial is None:
            return False
        begun_before = self.initial.begun & (self.initial.rows_done < self.block.lengths)
        return bool((begun_before & (counts_by_series(scored, self.block) == self.initial.rows_done)).any())

    def series_at(self, rows: Ints) -> Ints:
        """The series that rows of the arena belong to."""
        return np.asarray(np.searchsorted(self.block.starts, rows - self.start, side="right") - 1)

    def keep_states(self, series: Ints, states: Sequence[Array]) -> None:
        """Keeps the states after the last row that the block has of some series: one (len(series), *state) each."""
        if self.final_states is None:
            count = len(self.block.starts)
            self.final_states = [np.zeros((count, *values.shape[1:]), np.float32) for values in states]
            self.ended = np.zeros(count, np.bool_)
        assert self.ended is not None
        for kept, values in zip(self.final_states, states, strict=True):
            kept[series] = values
        self.ended[series] = True

    def take_ended(self) -> tuple[Ints, list[Array]]:
        """The series that have ended since this was last asked, and their states."""
        if self.ended is None or self.final_states is None:
            return np.zeros(0, np.int64), []
        series = np.flatnonzero(self.ended)
        self.ended[series] = False
        return series, [values[series] for values in self.final_states]

    def unwritten(self, arena: Arena) -> Bools:
        """(row,) True where a row is scored and in no fragment yet; from now on it counts as written."""
        scored = arena.scored[self.rows].copy()
        fresh = scored if self.written is None else scored & ~self.written
        self.written = scored
        return fresh


@dataclass
class Cut:
    """The part of a placed block that goes into a fragment now."""

    placed: PlacedBlock
    rows: Bools  # (row,)
    snapshot: Snapshot | None = None  # what a fragment that ends here must keep; None where the shard is done
    close: bool = False  # end the fragment here, whatever its size
    last: bool = False  # nothing of the block is left: it is released
    ended: Ended | None = None  # the series that end with it; None where no carry-over is written


@dataclass
class Seats:
    """Who sits in which slot after the last collected step."""

    slots: int
    next_row: Ints = field(init=False)  # (slot,) arena row behind the last scored one; -1 where nobody sits
    states: Sequence[ArrayLike] = ()  # per state tensor (slot, *state), after the last collected step

    def __post_init__(self) -> None:
        self.next_row = np.full(self.slots, -1, np.int64)

    def move(self, step: Step, states: Sequence[ArrayLike]) -> None:
        """After a step: busy slots moved on; who ended has left."""
        busy = step.lengths > 0
        self.next_row[busy] = (step.start + step.lengths)[busy]
        # A long entity whose last block has no good row ends without a step of its own; its slot is idle and not held.
        self.next_row[step.ends | ~(busy | step.held)] = -1
        self.states = states

    def within(self, placed: PlacedBlock) -> Ints:
        """The slots whose last scored row lies in the placed block."""
        inside = (self.next_row > placed.start) & (self.next_row <= placed.start + placed.block.rows)
        return np.flatnonzero(inside)


def snapshot_of(placed: PlacedBlock, arena: Arena, seats: Seats) -> Snapshot:
    """How far a placed block's series have come, with the state of those under way."""
    block = placed.block
    done = counts_by_series(arena.scored[placed.rows], block)
    begun = np.flatnonzero(done)
    under_way = (done < block.lengths)[begun]
    if block.rows_after:  # a block of a long entity: the entity goes on behind it
        under_way[:] = True
    held = _held_states(placed, seats, begun[under_way])
    return Snapshot(begun, done[begun] + block.rows_before, under_way, held)


def counts_by_series(flags: Bools, block: Block) -> Ints:
    """Per series, how many of its rows are flagged; a series may have none, so no `reduceat`."""
    counted = np.append(0, np.cumsum(flags, dtype=np.int64))
    return np.asarray(counted[block.starts + block.sizes] - counted[block.starts])


def _held_states(placed: PlacedBlock, seats: Seats, series: Ints) -> list[Array]:
    """States of the given series: from their slots, or as they came where they still wait for one."""
    slots = seats.within(placed)
    sitting = placed.series_at(seats.next_row[slots] - 1)
    slot_of = np.full(len(placed.block.starts), -1, np.int64)
    slot_of[sitting] = slots
    found, states = slot_of[series], []
    for index, tensor in enumerate(seats.states):
        values = np.asarray(tensor)[np.maximum(found, 0)]
        if (found < 0).any():
            assert placed.initial is not None, "a series is under way, but in no slot"
            values[found < 0] = placed.initial.states[index][series[found < 0]]
        states.append(values)
    return states


def skip_committed(placed: PlacedBlock, arena: Arena) -> None:
    """Marks the rows that earlier attempts have committed: scored, and written."""
    flags = np.zeros(placed.block.rows, np.bool_)
    if placed.initial is not None:
        flags = placed.block.positions < np.repeat(placed.initial.rows_done, placed.block.sizes)
        placed.written = flags
    arena.scored[placed.rows] = flags
