"""Packing: series of unequal length -> steps of `slots` x `chunk` in which no slot waits for its neighbours.

What it decides: which rows stand in which slot at which step, which slots are reset before their first row, and which
series end. A slot whose series ends takes the next waiting one at the very next step: longest first within what was
admitted together, earlier admissions first, lowest free slot first. The outcome is a function of the calls alone.

What it leaves alone: the rows themselves. A series is a stretch of an arena (consecutive row numbers); who fills the
arena, and when, is the caller's business. A series longer than memory comes in parts: each but the last is admitted
with `final=False` and holds its slot open, so that its state stays where it is.

A step may take several chunks where its series go on: it is then several steps in one, and hardly a slot of it waits.

Everything per step is one NumPy expression over all slots; nothing here loops over rows, chunks or series.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from lstm_core.array_types import Bools, Int32s, Ints
from lstm_core.packing.row_ranges import row_numbers, valid_mask

IDLE = -1

# Chunks to come of each busy slot, and how many could go into one step -> how many of these may.
Reach: TypeAlias = Callable[[Ints, int], int]

IDLE_SHARE_MAX = 1 / 16  # of the busy slots, that may wait for the others within such a step while series wait for them


def busy_first(lengths: Int32s, width: int) -> Ints:
    """The slots (width,) that a step of so many runs on, longest first, idle ones last; all of them as they stand.

    lengths: (slot,).
    """
    if width == len(lengths):
        return np.arange(width)
    busy = np.count_nonzero(lengths)
    assert busy <= width, f"{busy} slots have rows, and the step has {width}"
    return np.argsort(-lengths, kind="stable")[:width]


def seating(slots: Ints, count: int) -> tuple[Int32s, Int32s]:
    """Some of `count` slots, and for each of all (slot,) where among these it stands, or -1."""
    place = np.full(count, -1, np.int32)
    place[slots] = np.arange(len(slots), dtype=np.int32)
    return slots.astype(np.int32), place


@dataclass(frozen=True)
class Step:
    """One model call. A slot with length 0 is idle: nothing of it is read, its state stays as it was."""

    start: Ints  # (slot,) arena row of the slot's first row; IDLE where the slot is idle
    lengths: Int32s  # (slot,) valid rows, 0..chunk; rows behind them are padding
    reset: Bools  # (slot,) the slot's series begins here: zero its state before the first row
    ends: Bools  # (slot,) the slot's series ends with this step's last valid row
    admission: Ints  # (slot,) number of the admission that the rows came with; IDLE where the slot is idle
    exhausted: Bools  # (slot,) the last rows of that admission for this slot's series
    held: Bools  # (slot,) idle, but kept for an unfinished series whose next part is still to come

    @staticmethod
    def together(steps: Sequence[Step]) -> Step:
        """Steps that follow each other as one, (steps * slots,) in all.

        It is for what is done row by row: to the model they stay steps.
        """
        return Step(*(np.concatenate([getattr(step, part.name) for step in steps]) for part in fields(Step)))

    @property
    def row_count(self) -> int:
        """Valid rows of the step."""
        return int(self.lengths.sum())

    @property
    def busy_count(self) -> int:
        """Slots that carry an entity in this step."""
        return int(np.count_nonzero(self.lengths))

    def gather(self, chunk: int) -> Ints:
        """Arena rows to read, shape (slot, chunk): see `row_ranges.row_numbers`."""
        return row_numbers(self.start, self.lengths, chunk)

    def valid(self, chunk: int) -> Bools:
        """True where a row is real, shape (slot, chunk)."""
        return valid_mask(self.lengths, chunk)

    def last(self, chunk: int) -> Bools:
        """True at the last real row of each busy slot, shape (slot, chunk)."""
        return np.asarray(np.arange(chunk)[None, :] == self.lengths[:, None] - 1)


class Packer:
    """Series in, steps out.

    Invariants: a series is in at most one slot; its rows come in order and once; `left` of an idle slot is 0; a slot
    held open by an unfinished series is given to no other.
    """

    def __init__(self, *, slots: int, chunk: int) -> None:
        assert slots > 0, slots
        assert chunk > 0, chunk
        self.slots = slots
        self.chunk = chunk
        self._next_row = np.zeros(slots, np.int64)
        self._left = np.zeros(slots, np.int64)
        self._fresh = np.zeros(slots, np.bool_)  # first step of its series still to come
        self._final = np.ones(slots, np.bool_)  # the slot is free once `left` is 0
        self._admission = np.full(slots, IDLE, np.int64)
        self._stream = np.full(slots, IDLE, np.int64)  # the unfinished series that holds the slot
        self._waiting: deque[_Admitted] = deque()
        self._open: set[int] = set()  # unfinished series, waiting for a slot or in one
        self._held: dict[int, deque[_Part]] = {}  # parts of such a series that come after the one admitted
        self._admission_count = 0

    def admit(self, starts: Ints, lengths: Ints, urgent: Bools | None = None) -> int:
        """Adds whole series of `lengths[i]` rows, at least one, from arena row `starts[i]`; returns its number.

        The `urgent` ones, which have begun before, go ahead of the others.
        """
        starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
        urgent = np.zeros(lengths.shape, np.bool_) if urgent is None else urgent
        assert starts.shape == lengths.shape, (starts.shape, lengths.shape)
        assert (lengths > 0).all(), "a series without rows has nothing to score"
        number = self._number()
        order = np.lexsort((-lengths, ~urgent))
        if len(order):
            self._waiting.append(_Admitted(number, starts[order], lengths[order], IDLE, True))
        return number

    def admit_part(self, stream: int, start: int, length: int, *, final: bool) -> int:
        """Adds the next part of the series `stream`, which keeps its slot from the first part to the final one.

        A part that is not final must fill whole chunks: where a chunk is cut is part of a score's last bits. A final
        part without rows ends a series whose slot is held open.
        """
        assert length > 0 or final, "only a final part may have no rows"
        assert final or length % self.chunk == 0, f"part of {length} rows does not fill chunks of {self.chunk}"
        number = self._number()
        if stream in self._open:
            self._held.setdefault(stream, deque()).append(_Part(number, start, length, final))
        elif length > 0:
            self._waiting.append(_Admitted(number, np.array([start]), np.array([length]), stream, final))
            if not final:
                self._open.add(stream)
        return number

    @property
    def waiting_count(self) -> int:
        """Series that wait for a slot."""
        return sum(len(admitted.starts) - admitted.taken for admitted in self._waiting)

    @property
    def waiting_rows(self) -> int:
        """Rows of these."""
        return sum(int(admitted.lengths[admitted.taken :].sum()) for admitted in self._waiting)

    @property
    def waiting_admissions(self) -> int:
        """Admissions of which a series waits for a slot."""
        return len(self._waiting)

    @property
    def idle_count(self) -> int:
        """Slots that hold no entity now."""
        return int(np.count_nonzero((self._left == 0) & self._final))

    @property
    def free_count(self) -> int:
        """Slots that would be idle in the next step if nothing more were admitted."""
        self._continue_streams()
        idle = self.idle_count
        starving = int(np.count_nonzero(self._left == 0)) - idle
        return max(0, idle - self.waiting_count) + starving

    @property
    def starving(self) -> Ints:
        """The unfinished series whose next part has not been admitted though they need it now."""
        self._continue_streams()
        return np.asarray(self._stream[(self._left == 0) & ~self._final])

    def next_step(self, reach: Reach | None = None, *, more: bool = True) -> Step | None:
        """The next step, or None when no slot has a row.

        It takes one chunk of each series; with `reach` several, where nearly all go on. `more` is whether other series
        may still be admitted; where no more are to come, nothing is lost while a slot waits for the others.
        """
        self._continue_streams()
        self._fill_free_slots()
        chunks = 1 if reach is None else self._chunks(reach, refill=more or bool(self._waiting))
        lengths = np.minimum(self._left, chunks * self.chunk)
        busy = lengths > 0
        if not busy.any():
            return None
        exhausted = busy & (self._left == lengths)
        step = Step(
            start=np.where(busy, self._next_row, IDLE),
            lengths=lengths.astype(np.int32),
            reset=busy & self._fresh,
            ends=exhausted & self._final,
            admission=np.where(busy, self._admission, IDLE),
            exhausted=exhausted,
            held=~busy & ~self._final,
        )
        self._next_row += lengths
        self._left -= lengths
        self._fresh &= ~busy
        self._stream[step.ends] = IDLE
        return step

    def _chunks(self, reach: Reach, *, refill: bool) -> int:
        """How many chunks the next step takes."""
        busy = np.flatnonzero(self._left)
        if not len(busy):
            return 1
        left = -(-self._left[busy] // self.chunk)
        waiting = int(len(busy) * IDLE_SHARE_MAX) if refill else len(busy) - 1
        return reach(left, int(np.partition(left, waiting)[waiting]))

    def _number(self) -> int:
        self._admission_count += 1
        return self._admission_count - 1

    def _continue_streams(self) -> None:
        # Loops over the unfinished long series with a part at hand, of which there are few.
        for stream, parts in list(self._held.items()):
            slots = np.flatnonzero((self._stream == stream) & (self._left == 0))
            if len(slots):
                self._continue(int(slots[0]), stream, parts.popleft())
                if not parts:
                    del self._held[stream]

    def _continue(self, slot: int, stream: int, part: _Part) -> None:
        self._next_row[slot], self._left[slot] = part.start, part.length
        self._admission[slot], self._final[slot] = part.number, part.final
        if part.final:
            self._open.discard(stream)
        if not part.length:
            self._stream[slot] = IDLE

    def _fill_free_slots(self) -> None:
        free = np.flatnonzero((self._left == 0) & self._final)
        while len(free) and self._waiting:
            admitted = self._waiting[0]
            count = min(len(free), len(admitted.starts) - admitted.taken)
            slots, free = free[:count], free[count:]
            take = slice(admitted.taken, admitted.taken + count)
            self._next_row[slots], self._left[slots] = admitted.starts[take], admitted.lengths[take]
            self._fresh[slots], self._final[slots] = True, admitted.final
            self._admission[slots], self._stream[slots] = admitted.number, admitted.stream
            admitted.taken += count
            if admitted.taken == len(admitted.starts):
                self._waiting.popleft()


@dataclass
class _Admitted:
    number: int
    starts: Ints  # (series,) longest first
    lengths: Ints
    stream: int
    final: bool
    taken: int = 0


@dataclass(frozen=True)
class _Part:
    number: int
    start: int
    length: int
    final: bool


@dataclass(frozen=True)
class Prediction:
    """What packing would need, before anything is read."""

    steps: int
    occupancy: float  # share of slot-steps that carry an entity
    lower_bound_steps: int  # the longest series, or all rows on slots that are never idle, whichever is more


def predict(lengths: Ints, *, slots: int, chunk: int, replicas: int = 1) -> Prediction:
    """Steps that series of `lengths` rows take on `replicas` replicas of `slots` slots, longest first.

    The replicas are seen as one pool of slots that step together, which is what a scheduler that never lets a replica
    wait comes close to; `steps` is per replica.
    """
    chunks = np.sort(-(-np.asarray(lengths, np.int64) // chunk))[::-1]
    pool = slots * replicas
    total = int(chunks.sum())
    if total == 0:
        return Prediction(0, 0.0, 0)
    steps = _makespan(chunks, pool)
    bound = max(int(chunks[0]), -(-total // pool))
    return Prediction(steps, total / (steps * pool), bound)


def _makespan(chunks: Ints, pool: int) -> int:
    """Length of the list schedule of `chunks`, longest first, on `pool` slots (Graham's list scheduling)."""
    left = np.zeros(pool, np.int64)
    taken, clock = 0, 0
    while taken < len(chunks):
        free = np.flatnonzero(left == 0)
        count = min(len(free), len(chunks) - taken)
        left[free[:count]] = chunks[taken : taken + count]
        taken += count
        if taken < len(chunks):  # until the next slot is free nothing is decided, so time may jump there
            jump = int(left.min())
            left -= jump
            clock += jump
    return clock + int(left.max())
