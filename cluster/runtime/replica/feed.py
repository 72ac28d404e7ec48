"""The feed: assigned shards in, batches for the step out.

What it decides: when a shard is read (streams that need their next block first, then shards in the order of their
assignment), that nothing is read for which the arena has no room, nor a shard while as many rows as it has wait for
slots already, and that no step leaves a slot empty while a row for it can still be read. So the steps are a function of
the order of assignments, not of how fast a disk is; how many of them share a call is not.

Limits: a stream (one entity longer than a shard) holds two ranges of `block_rows` for its whole life, so that it can
never starve behind shards that wait for the slot it holds. It leaves alone: the model, and the writing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import Demand
from cluster.runtime.commit.snapshots import Snapshot
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.block_reader import BlockReader
from cluster.runtime.rows.carried_state import CarriedState
from cluster.runtime.rows.null_filling import LastKnown
from cluster.runtime.rows.placed_blocks import PlacedBlock, initial_of, skip_committed
from lstm_core.array_types import Array, Int32s, Ints
from lstm_core.packing.arena import Arena
from lstm_core.packing.packer import Packer, Reach, Step, busy_first

Fit = Callable[[Int32s], tuple[int, int]]  # rows of each slot -> slots and timesteps that they are brought in


@dataclass(frozen=True)
class Restore:
    """Slots whose series do not begin at zero."""

    slots: Ints  # or places, in a group of steps
    states: list[Array]  # per state tensor: (len(slots), *state)


@dataclass(frozen=True)
class Batch:
    """The rows of one call of the model: of one step, or of the steps of a group, each with all slots.

    A step that takes several chunks counts as so many.
    """

    steps: tuple[Step, ...]
    step: Step  # all of them together
    rows: list[Array]  # per model input: (slot, step, feature) or (slot, step), of `busy_first` where not of all slots
    starts: Ints  # (slot,) of `rows`: the arena row of the first
    lengths: Int32s  # (slot,) of `rows`: how many there are
    chunk: int
    restores: tuple[Restore, ...] = ()

    @property
    def step_count(self) -> int:
        """Steps of one chunk that it stands for."""
        return len(self.steps) if len(self.steps) > 1 else int(self._chunks.max())

    @property
    def busy_count(self) -> int:
        """Slots that carry an entity, over these steps."""
        return int(self._chunks.sum())

    @property
    def _chunks(self) -> Int32s:
        return np.asarray(-(-self.step.lengths // self.chunk))


@dataclass
class _Stream:
    shard: Shard
    blocks: Iterator[Block]
    free: list[int]  # starts of its ranges that hold nothing
    carried: CarriedState | None
    last_known: LastKnown = field(default_factory=LastKnown)
    pieces_at_hand: int = 0
    blocks_read: int = 0
    ended: bool = False


class Feed:
    """Reads ahead in a thread of its own, or, with `threaded=False`, only when a slot is free."""

    def __init__(
        self,
        reader: BlockReader,
        extents: Callable[[Shard], tuple[pa.Table, CarriedState | None]],
        arena: Arena,
        packer: Packer,
        *,
        threaded: bool = True,
    ) -> None:
        """`extents` gives a shard's part of the plan, and with it what the carry-over knows of its entities."""
        self._reader, self._extents, self._arena, self._packer = reader, extents, arena, packer
        self.fit: Fit = lambda lengths: (packer.slots, packer.chunk)  # a model may know smaller ones
        self.reach: Reach | None = None  # a model may take several chunks in one step
        self.group = (1, packer.chunk)  # most steps of a batch, and the timesteps of each where there are several
        self._block_rows = reader.block_rows
        self.slots = packer.slots
        self._inbox: deque[Shard] = deque()
        self._resumes: dict[int, Snapshot] = {}  # of the shards in the inbox
        self._streams: list[_Stream] = []
        self._ready: deque[PlacedBlock] = deque()
        self._admitted: dict[int, PlacedBlock] = {}  # admission number -> placed with rows still to score
        self._finished: deque[PlacedBlock] = deque()  # those without a row to score
        self._kept_back: Step | None = None  # that was packed, and goes into no call with those before it
        self._changed = threading.Condition()
        self._reading: Shard | None = None
        self._reader_can_go_on = True
        self._reader_is_ahead = False  # of the slots, so that the next shard is not read yet
        self._reader_ended = False
        self._closed = False
        self._error: BaseException | None = None
        self.read_s = 0.0
        self.pack_s = 0.0
        self._thread = threading.Thread(target=self._read_loop, name="reader", daemon=True) if threaded else None
        if self._thread:
            self._thread.start()

    def assign(self, shard: Shard, resume: Snapshot | None = None) -> None:
        """Adds a shard to what is to be scored; with `resume` from where an earlier attempt has left it."""
        with self._changed:
            self._inbox.append(shard)
            if resume is not None:
                self._resumes[shard.index] = resume
            self._reader_can_go_on = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be assigned: `next_batch` returns None when the last row is out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Closed, and every assigned row is out."""
        with self._changed:
            return self._closed and not (self._is_more_to_come() or self._kept_back)

    def demand(self) -> Demand:
        """What the slots need to stay fed, and what there is room for."""
        with self._changed:
            unread = [*self._inbox, *([self._reading] if self._reading else [])]
            ready = sum(map(len, self._ready_lengths()))
            queued = sum(shard.entities for shard in unread) + ready
            wanted = self._packer.idle_count + self.slots - self._packer.waiting_count - queued
            taken = sum(self._room(shard) for shard in self._inbox)  # what is being read has its range
            free = self._arena.capacity - self._arena.used_rows - taken
            return Demand(wanted, self._ahead(), free, 2 * self._block_rows)

    @property
    def is_empty(self) -> bool:
        """No row that was assigned is still to be scored."""
        with self._changed:
            return not (self._is_more_to_come() or self._admitted)

    def _is_more_to_come(self) -> bool:
        """Whether a row that was assigned is not admitted yet."""
        return bool(self._inbox or self._streams or self._reading or self._ready)

    @property
    def shards_ahead(self) -> int:
        """As in `Demand`."""
        with self._changed:
            return self._ahead()

    def _ahead(self) -> int:
        unread = len(self._inbox) + (self._reading is not None)
        return unread + len(self._ready) + self._packer.waiting_admissions

    def next_batch(self) -> Batch | None:
        """The next step's rows; None when the feed is closed and empty. Waits for rows, never for free slots."""
        with self._changed:
            first = self._next_step()
            if first is None:
                return None
            size = self.fit(first.lengths)
            steps = (first, *self._more_steps(first)) if self._goes_in_groups(first, size) else (first,)
            step, restores = self._restored(Step.together(steps) if len(steps) > 1 else first)
        begin = time.perf_counter()
        width, length = (len(step.lengths), self.group[1]) if len(steps) > 1 else size
        assert step.lengths.max() <= length, f"a step of {step.lengths.max()} timesteps, of {length} at most"
        starts, lengths = step.start, step.lengths
        if width < len(lengths):
            slots = busy_first(lengths, width)
            starts, lengths = starts[slots], lengths[slots]
        rows = self._arena.gather(starts, lengths, length)
        batch = Batch(steps, step, rows, starts, lengths, self._packer.chunk, restores)
        self.pack_s += time.perf_counter() - begin
        return batch

    def collect(self, batch: Batch) -> list[PlacedBlock]:
        """The placed blocks all of whose rows are scored now that `batch` is."""
        with self._changed:
            placed_blocks = list(self._finished)
            self._finished.clear()
            for number, count in _counted(batch.step.admission[batch.step.exhausted]):
                placed = self._admitted[number]
                placed.series_left -= count
                if placed.series_left == 0:
                    placed_blocks.append(self._admitted.pop(number))
            return placed_blocks

    def last_known(self, rows: Ints) -> LastKnown:
        """The last known values behind scored rows of the arena."""
        return self._reader.last_known(self._arena.inputs, rows)

    def keep_states(self, batch: Batch, states: Sequence[ArrayLike]) -> None:
        """Keeps the states of the series whose block has no row left after `batch`; `states` are those after it."""
        step = batch.step
        numbers = step.admission[step.exhausted]
        found = [np.asarray(tensor) for tensor in states]
        for number, _ in _counted(numbers):
            with self._changed:
                placed = self._admitted[number]
            slots = np.flatnonzero(step.exhausted & (step.admission == number))
            rows = step.start[slots] + step.lengths[slots] - 1
            placed.keep_states(placed.series_at(rows), [values.take(slots, axis=0) for values in found])

    def under_way(self) -> list[PlacedBlock]:
        """The placed blocks that have rows still to score."""
        with self._changed:
            return list(self._admitted.values())

    def drain(self) -> list[PlacedBlock]:
        """The placed blocks that had no row to score; `collect` gives them too."""
        with self._changed:
            placed_blocks = list(self._finished)
            self._finished.clear()
            return placed_blocks

    def release(self, placed: PlacedBlock) -> None:
        """Gives a placed block's rows back to the arena."""
        with self._changed:
            stream = placed.stream
            if stream is None:
                self._arena.release(placed.start)
            else:
                stream.free.append(placed.start)
                self._end_if_done(stream)
            self._reader_can_go_on = True
            self._changed.notify_all()

    def _goes_in_groups(self, step: Step, size: tuple[int, int]) -> bool:
        """Whether a step for which this size is best may share a call with others like it."""
        return size == (self.slots, self._packer.chunk) and bool(step.lengths.max() <= self.group[1])

    def _more_steps(self, step: Step) -> Iterator[Step]:
        """The steps behind a first one that go into one call with it: no row for their slots can still be read.

        None behind the last row of a block of a long series: what a snapshot keeps of it is the state after the call.
        """
        for _ in range(1, self.group[0]):
            self._admit_ready()
            if (step.exhausted & ~step.ends).any() or (self._packer.free_count and self._may_read()):
                return
            following = self._packed()
            if following is None:
                return
            if not self._goes_in_groups(following, self.fit(following.lengths)):
                self._kept_back = following
                return
            step = following
            yield step

    def _next_step(self) -> Step | None:
        if self._kept_back is not None:
            kept_back, self._kept_back = self._kept_back, None
            return kept_back
        while True:
            if self._error:
                raise self._error
            self._admit_ready()
            if self._packer.free_count and self._read_more():
                continue
            step = self._packed()
            if step is not None:
                return step
            if self._closed and not self._is_more_to_come():
                return None
            if self._finished:
                return None
            self._changed.wait()

    def _packed(self) -> Step | None:
        step = self._packer.next_step(self.reach, more=self._may_read())
        if self._reader_is_ahead and not self._is_ahead_of(self._inbox[0]):
            self._reader_is_ahead, self._reader_can_go_on = False, True
            self._changed.notify_all()
        return step

    def _restored(self, step: Step) -> tuple[Step, tuple[Restore, ...]]:
        """The step, with series that bring a state along set to it instead of being reset."""
        restores, reset = [], step.reset.copy()
        for number, _ in _counted(step.admission[step.reset]):
            initial = self._admitted[number].initial
            if initial is None:
                continue
            slots = np.flatnonzero(step.reset & (step.admission == number))
            series = self._admitted[number].series_at(step.start[slots])
            held = initial.held[series]
            slots, series = slots[held], series[held]
            reset[slots] = False
            if len(slots):
                restores.append(Restore(slots, [values.take(series, axis=0) for values in initial.states]))
        return (replace(step, reset=reset), tuple(restores)) if restores else (step, ())

    def _read_more(self) -> bool:
        """True when there is, or may soon be, a block to admit."""
        if self._thread is None:
            work = self._choose()
            if work:
                self._read(work)
            return work is not None
        if self._ready:
            return True
        if not self._may_read():
            return False
        self._changed.wait()
        return True

    def _may_read(self) -> bool:
        """Whether rows are under way, or may soon be."""
        return not self._reader_ended and bool(self._reader_can_go_on or self._reading)

    def _admit_ready(self) -> None:
        while self._ready:
            placed = self._ready.popleft()
            block = placed.block
            if placed.stream:
                length, final = int(block.lengths[0]), block.final
                number = self._packer.admit_part(placed.stream.shard.index, placed.start, length, final=final)
                placed.series_left = 1 if length else 0
            else:
                done = placed.initial.rows_done if placed.initial else np.zeros_like(block.lengths)
                left = block.lengths > done
                starts, lengths = (placed.start + block.starts + done)[left], (block.lengths - done)[left]
                urgent = placed.initial.begun[left] if placed.initial else None
                number = self._packer.admit(starts, lengths, urgent)
                placed.series_left = len(starts)
            if placed.series_left:
                self._admitted[number] = placed
            else:
                self._finished.append(placed)

    def _read_loop(self) -> None:
        try:
            while True:
                with self._changed:
                    work = self._choose()
                    while work is None:
                        self._reader_can_go_on = False
                        self._changed.notify_all()
                        if self._closed and not self._inbox and not self._streams:
                            self._reader_ended = True
                            return
                        self._changed.wait()
                        work = self._choose()
                self._read(work)
        except BaseException as error:  # handed to the thread that waits for the rows, which ends the replica's work
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _choose(self) -> _Work | None:
        for stream in self._streams:
            if not stream.ended and stream.free and stream.pieces_at_hand < 2:
                return _Work(stream.shard, stream, stream.free.pop())
        self._reader_is_ahead = bool(self._inbox) and self._is_ahead_of(self._inbox[0])
        if not self._inbox or self._reader_is_ahead:
            return None
        shard = self._inbox[0]
        start = self._arena.allocate(self._room(shard))
        if start is None:
            return None
        self._reading = self._inbox.popleft()
        return _Work(shard, None, start)

    def _is_ahead_of(self, shard: Shard) -> bool:
        """Whether as many rows wait for busy slots as the shard has: it is time enough to read it when fewer do."""
        ready = self._ready_lengths()
        if self._packer.waiting_count + sum(map(len, ready)) <= self._packer.idle_count:
            return False
        return self._packer.waiting_rows + sum(int(lengths.sum()) for lengths in ready) >= shard.rows

    def _ready_lengths(self) -> list[Ints]:
        """Of what is read, the series of each block that have no slot yet, as a later block of a long one has."""
        return [placed.block.lengths for placed in self._ready if placed.number == 0]

    def _room(self, shard: Shard) -> int:
        return 2 * self._block_rows if shard.streamed else shard.rows

    def _read(self, work: _Work) -> None:
        begin = time.perf_counter()
        shard, stream = work.shard, work.stream
        resume = self._resumes.pop(shard.index, None)
        if stream is None:
            extents, carried = self._extents(shard)
            blocks = self._reader.blocks(shard, extents, _skip_rows(shard, resume), carried)
            if shard.streamed:
                stream = _Stream(shard, blocks, [work.start + self._block_rows], carried)
                stream.last_known = self._known_before(shard, resume, carried) or stream.last_known
        else:
            blocks = stream.blocks
        placed = self._placed(next(blocks), work.start, stream, resume)
        self.read_s += time.perf_counter() - begin
        with self._changed:
            self._reading = None
            if stream is not None:
                stream.pieces_at_hand += 1
                stream.blocks_read += 1
                stream.ended = placed.block.final
                if work.stream is None:
                    self._streams.append(stream)
            self._ready.append(placed)
            self._changed.notify_all()

    def _placed(self, block: Block, start: int, stream: _Stream | None, resume: Snapshot | None) -> PlacedBlock:
        placed = PlacedBlock(block, start, stream, number=stream.blocks_read if stream else 0)
        views = [array[placed.rows] for array in self._arena.inputs]
        known = stream.last_known if stream else self._known_before(block.shard, None, block.carried)
        placed.known_before = known
        self._reader.encode(block, views, self._arena.targets[placed.rows], known)
        if stream is not None and not block.final:
            stream.last_known = self._reader.last_known(views, np.array([block.rows - 1]))
        if placed.number == 0:
            placed.initial = initial_of(len(block.starts), resume, block.carried, streamed=stream is not None)
        skip_committed(placed, self._arena)
        return placed

    def _known_before(self, shard: Shard, resume: Snapshot | None, carried: CarriedState | None) -> LastKnown | None:
        """The last known values before the first row: a streamed entity's own, or those of an earlier run."""
        if resume is not None:
            return LastKnown(resume.previous)
        return None if carried is None else self._reader.carried_known(carried, shard.entities)

    def _end_if_done(self, stream: _Stream) -> None:
        stream.pieces_at_hand -= 1
        if stream.ended and stream.pieces_at_hand == 0:
            self._streams.remove(stream)
            self._arena.release(min(stream.free))


@dataclass
class _Work:
    shard: Shard
    stream: _Stream | None
    start: int


def _skip_rows(shard: Shard, resume: Snapshot | None) -> int:
    """Rows of a streamed shard that need not be read again."""
    return int(resume.rows_done[0]) if shard.streamed and resume is not None and len(resume.rows_done) else 0


def _counted(numbers: Ints) -> list[tuple[int, int]]:
    """The different numbers, rising, and how often each occurs: of a few that lie close together, as admissions do."""
    if not len(numbers):
        return []
    least = int(numbers.min())
    counts = np.bincount(numbers - least)
    return [(least + int(index), int(counts[index])) for index in np.flatnonzero(counts)]
