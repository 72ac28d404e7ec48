"""The replica's pipeline: read, pack, step, collect and write, in threads of their own where that pays.

Shards go in, staged fragments come out. What it decides: nothing but who waits for whom. Whoever reads or writes waits
for files, so both have threads beside the step always. Packing and collecting wait for nothing: where the step leaves
its thread idle, on a GPU or where a replica has several cores, each has a thread too, with bounded queues between;
on one core they take turns with the step, since to hand a batch from thread to thread costs more than to make it. A
stage that is slower than the others makes them wait; the arena bounds the rows, `QUEUE_LENGTH` the batches. An error in
a stage ends the pipeline and is handed out as the last event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import Demand
from cluster.runtime.commit.snapshots import Snapshot
from cluster.runtime.replica.bounded_queue import BoundedQueue
from cluster.runtime.replica.feed import Batch, Feed
from cluster.runtime.replica.fragment_writer import Attempt, FragmentWriter
from cluster.runtime.rows.placed_blocks import Cut, Ended, PlacedBlock, Seats, snapshot_of
from lstm_core.array_types import Array, Bools, Int32s, Ints
from lstm_core.packing.arena import Arena

QUEUE_LENGTH = 2  # one batch in work, one ready: more would only hold memory

LINGER_S = 0.2  # how long a fragment waits to be told of with other news, while the replica has rows to step

CHECKPOINT_SHARE = 0.8  # of `checkpoint_s`, after which a fragment is cut: writing and committing it takes the rest


@dataclass
class Counters:
    """What a replica has done so far; `*_s` are busy seconds of a stage."""

    steps: int = 0
    rows: int = 0
    busy_slots: int = 0  # slot-steps that carried an entity
    read_s: float = 0.0
    pack_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    kernel: str = ""  # what steps the model, and why
    batches_waiting: int = 0  # now, for their step
    results_waiting: int = 0  # now, scores of a step, to be put in their place
    cuts_waiting: int = 0  # now, fragments to be written

    def at_rest(self) -> Counters:
        """Those of a replica that is gone: what it has done counts, and nothing waits."""
        return replace(self, batches_waiting=0, results_waiting=0, cuts_waiting=0)


@dataclass(frozen=True)
class PollReport:
    """A replica's answer to a poll."""

    fragments: tuple[Fragment, ...]
    demand: Demand
    counters: Counters
    error: BaseException | None = None


class Stepper(Protocol):
    """A model on fixed slots; see `lstm_core.step.stateful_replica.StatefulReplica`."""

    @property
    def states(self) -> Sequence[ArrayLike]:
        """The state after the last step: per tensor (slot, *state), never changed in place."""

    def step(self, rows: Sequence[Array], reset: Bools, lengths: Int32s) -> Sequence[ArrayLike]:
        """One model call on all slots: one (slot, step, score) per output."""

    def set_slot_state(self, slots: Ints, states: Sequence[Array]) -> None:
        """Sets the state of the given slots."""

    def step_group(
        self, rows: Sequence[Array], reset: Bools, lengths: Int32s, restores: Sequence[tuple[Ints, Sequence[Array]]]
    ) -> tuple[Sequence[ArrayLike], Sequence[ArrayLike]]:
        """The calls of a group, (steps * slots, ...) each: their scores, and the states after each.

        `restores` are places (steps * slots,), and the states that are put there before, one array per tensor.
        """


@dataclass(frozen=True)
class Saving:
    """How results become fragments."""

    make_writer: Callable[[Attempt], FragmentWriter]
    checkpoint_s: float  # most seconds of work that are in no fragment
    carry: tuple[tuple[str, int], ...] | None = None  # layer and index of each state tensor, where states are kept
    clock: Callable[[], float] = time.monotonic


@dataclass
class _ShardOutput:
    writer: FragmentWriter
    next_block: int = 0
    early: dict[int, list[Cut]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scored:
    """What a call of the model gave."""

    batch: Batch
    scores: Sequence[ArrayLike]  # per model output: (slot, step, value)
    states: Sequence[ArrayLike]  # per state tensor: (slot, *state) after the step, or after each step of a group
    last: Sequence[ArrayLike]  # after the last one: of all slots


# What a stage hands on; placed blocks had no row to score, and None says that nothing more will come.
_Packed = Batch | list[PlacedBlock] | None
_Computed = _Scored | list[PlacedBlock] | None


class Pipeline:
    """Scores the shards that it is given."""

    def __init__(self, feed: Feed, arena: Arena, model: Stepper, saving: Saving, *, overlap: bool) -> None:
        """overlap: pack the next batch, and collect the last one, while the model steps."""
        self._feed, self._arena, self._model, self._saving = feed, arena, model, saving
        self._seats = Seats(feed.slots)
        self._counters = Counters()
        self._attempts: dict[int, Attempt] = {}
        self._outputs: dict[int, _ShardOutput] = {}
        self._saved_s: dict[int, float] = {}  # shard -> when its rows were last put into a fragment
        self._batches: BoundedQueue[_Packed] = BoundedQueue(QUEUE_LENGTH)
        self._scored: BoundedQueue[_Computed] = BoundedQueue(QUEUE_LENGTH)
        self._cuts: SimpleQueue[Cut | None] = SimpleQueue()  # bounded by the arena; None: no more will come
        self._fragments: list[Fragment] = []
        self._news = threading.Condition()
        self._error: BaseException | None = None
        self._ahead_reported = 0
        beside = (self._take_batches, self._take_scored) if overlap else ()
        self._pass_batch: Callable[[_Packed], None] = self._batches.put if overlap else self._take_turns
        for stage in (self._pack, *beside, self._write):
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__.strip("_"), daemon=True).start()

    def assign(self, shard: Shard, attempt: Attempt, resume: Snapshot | None = None) -> None:
        """Adds a shard; with `resume` from where an earlier attempt has left it."""
        self._attempts[shard.index] = attempt
        self._feed.assign(shard, resume)
        with self._news:
            self._ahead_reported += 1  # so that the shard's first rows in a slot are news, and the next shard comes
            self._news.notify_all()

    def name_kernel(self, kernel: str) -> None:
        """Says what steps the model, for the run's record."""
        self._counters.kernel = kernel

    def close(self) -> None:
        """Ends the stages once everything assigned is written."""
        self._feed.close()

    def report(self, timeout_s: float) -> PollReport:
        """What is new, waiting up to `timeout_s` for a fragment, an error or a want of shards."""
        with self._news:
            if self._news.wait_for(self._has_news, timeout_s):
                self._news.wait_for(self._is_urgent, min(LINGER_S, timeout_s))
            fragments, self._fragments = tuple(self._fragments), []
            self._counters.read_s, self._counters.pack_s = self._feed.read_s, self._feed.pack_s
            self._count_waiting()
            demand = self.demand()
            self._ahead_reported = demand.shards_ahead
            return PollReport(fragments, demand, Counters(**vars(self._counters)), self._error)

    def _count_waiting(self) -> None:
        counters = self._counters
        counters.batches_waiting, counters.results_waiting = self._batches.qsize(), self._scored.qsize()
        counters.cuts_waiting = self._cuts.qsize()

    def _has_news(self) -> bool:
        return bool(self._fragments) or self._is_urgent()

    def _is_urgent(self) -> bool:
        # A replica that has used up a shard wants the next one now, and the run may wait for the last fragment; of one
        # that merely goes on a fragment can be told with what comes next.
        last = bool(self._fragments) and self._feed.is_empty
        return last or self._error is not None or self._wants_shards()

    def _wants_shards(self) -> bool:
        return self._feed.shards_ahead < self._ahead_reported

    def demand(self) -> Demand:
        """How well its slots are fed, and what it has room for."""
        return replace(self._feed.demand(), rows_scored=self._counters.rows)

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:  # told to the driver, which decides what becomes of the run
            with self._news:
                self._error = self._error or error
                self._news.notify_all()

    def _pack(self) -> None:
        while True:
            batch = self._feed.next_batch()
            if batch is not None:
                if self._wants_shards():
                    with self._news:
                        self._news.notify_all()
                self._pass_batch(batch)
                continue
            placed_blocks = self._feed.drain()
            if placed_blocks:
                self._pass_batch(placed_blocks)
            elif self._feed.done:
                self._pass_batch(None)
                return

    def _take_batches(self) -> None:
        while (work := self._batches.get()) is not None:
            begin = time.perf_counter()
            # On a CPU the step is done here; on a GPU the copy waits for it while the next one is being queued, and
            # what waits for room here is time in which the GPU steps.
            self._scored.put(self._computed(work))
            self._count_compute(work, begin)
        self._scored.put(None)

    def _take_turns(self, work: _Packed) -> None:
        begin = time.perf_counter()
        scored = self._computed(work)
        self._count_compute(work, begin)
        self._collect(scored)

    def _computed(self, work: _Packed) -> _Computed:
        return self._step(work) if isinstance(work, Batch) else work

    def _count_compute(self, work: _Packed, begin: float) -> None:
        if isinstance(work, Batch):
            self._counters.compute_s += time.perf_counter() - begin

    def _step(self, batch: Batch) -> _Scored:
        step, model = batch.step, self._model
        if len(batch.steps) > 1:
            restores = [(restore.slots, restore.states) for restore in batch.restores]
            scores, kept = model.step_group(batch.rows, step.reset, step.lengths, restores)
            return _Scored(batch, scores, kept, model.states)
        for restore in batch.restores:
            model.set_slot_state(restore.slots, restore.states)
        scores = model.step(batch.rows, step.reset, step.lengths)
        return _Scored(batch, scores, model.states, model.states)

    def _take_scored(self) -> None:
        while (work := self._scored.get()) is not None:
            self._collect(work)
        self._collect(None)

    def _collect(self, work: _Computed) -> None:
        if work is None:
            self._cuts.put(None)
        elif isinstance(work, _Scored):
            self._keep(work.batch, [np.asarray(values) for values in work.scores])
            for step in work.batch.steps:
                self._seats.move(step, work.last)
            if self._saving.carry is not None:
                self._feed.keep_states(work.batch, work.states)
            self._put_cuts(self._feed.collect(work.batch))
            self._put_checkpoints()
        else:
            self._put_cuts(work)

    def _keep(self, batch: Batch, scores: list[Array]) -> None:
        self._arena.scatter(batch.starts, batch.lengths, scores)
        self._counters.steps += batch.step_count
        self._counters.rows += batch.step.row_count
        self._counters.busy_slots += batch.busy_count

    def _put_cuts(self, placed_blocks: list[PlacedBlock]) -> None:
        """Placed blocks without a row left to score."""
        for placed in placed_blocks:
            shard, done = placed.block.shard.index, placed.block.final
            snapshot = None if done else self._snapshot(placed)
            close = not done and self._is_due(shard)
            fresh = placed.unwritten(self._arena)
            self._cuts.put(Cut(placed, fresh, snapshot, close, last=True, ended=self._ended(placed)))
            if done:
                self._saved_s.pop(shard, None)

    def _put_checkpoints(self) -> None:
        """Shards whose scored rows have waited long enough."""
        for placed in self._feed.under_way():
            if self._is_due(placed.block.shard.index) and placed.is_ripe(self._arena):
                snapshot = self._snapshot(placed)
                fresh = placed.unwritten(self._arena)
                self._cuts.put(Cut(placed, fresh, snapshot, close=True, ended=self._ended(placed)))
                self._saved_s[placed.block.shard.index] = self._saving.clock()

    def _snapshot(self, placed: PlacedBlock) -> Snapshot:
        snapshot = snapshot_of(placed, self._arena, self._seats)
        block = placed.block
        starts = placed.start + block.starts[snapshot.entity]
        rows = (starts + snapshot.rows_done - block.rows_before - 1)[snapshot.under_way]
        return replace(snapshot, previous=self._feed.last_known(rows).values, tensors=self._saving.carry or ())

    def _ended(self, placed: PlacedBlock) -> Ended | None:
        if self._saving.carry is None:
            return None
        series, states = placed.take_ended()
        block = placed.block
        known = self._feed.last_known(placed.start + block.starts[series] + block.lengths[series] - 1)
        return Ended(series, states, known)

    def _is_due(self, shard: int) -> bool:
        now_s = self._saving.clock()
        return now_s - self._saved_s.setdefault(shard, now_s) >= CHECKPOINT_SHARE * self._saving.checkpoint_s

    def _write(self) -> None:
        while (cut := self._cuts.get()) is not None:
            shard = cut.placed.block.shard.index
            if shard not in self._outputs:
                self._outputs[shard] = _ShardOutput(self._saving.make_writer(self._attempts[shard]))
            output = self._outputs[shard]
            output.early.setdefault(cut.placed.number, []).append(cut)
            while output.next_block in output.early:
                cuts = output.early.pop(output.next_block)
                output.next_block += any(ready.last for ready in cuts)
                self._write_cuts(output.writer, cuts)
                if any(ready.last and ready.placed.block.final for ready in cuts):
                    del self._outputs[shard]

    def _write_cuts(self, writer: FragmentWriter, cuts: list[Cut]) -> None:
        begin = time.perf_counter()
        fragments = []
        for cut in cuts:
            fragments.append(writer.write(cut, self._arena.scores[cut.placed.rows]))
            if cut.last:
                self._feed.release(cut.placed)
        self._counters.write_s += time.perf_counter() - begin
        with self._news:
            self._fragments += [fragment for fragment in fragments if fragment is not None]
            self._news.notify_all()
