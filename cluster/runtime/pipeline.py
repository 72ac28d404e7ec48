"""The replica's pipeline: read, pack, step, collect and write, each in its own thread, with bounded queues between.

Shards go in, staged fragments come out. What it decides: nothing but who waits for whom. A stage that is slower than
the others makes them wait; the arena bounds the rows, `QUEUE_LENGTH` the batches. An error in a stage ends the pipeline
and is handed out as the last event.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.commit import Fragment
from cluster.core.events import Demand
from cluster.core.plan import Shard
from cluster.runtime.feed import Batch, Feed, Region
from cluster.runtime.fragments import FragmentWriter
from lstm_core.arena import Arena

QUEUE_LENGTH = 2  # one batch in work, one ready: more would only hold memory

StepFunction = Callable[[list[NDArray[Any]], NDArray[Any], NDArray[Any]], list[Any]]


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


@dataclass(frozen=True)
class Report:
    """A replica's answer to a poll."""

    fragments: tuple[Fragment, ...]
    demand: Demand
    counters: Counters
    error: BaseException | None = None


@dataclass
class _ShardOutput:
    writer: FragmentWriter
    next_piece: int = 0
    early: dict[int, Region] = field(default_factory=dict)


class Pipeline:
    """Scores the shards that it is given."""

    def __init__(
        self, feed: Feed, arena: Arena, step: StepFunction, make_writer: Callable[[Shard, int], FragmentWriter]
    ) -> None:
        self._feed, self._arena, self._step, self._make_writer = feed, arena, step, make_writer
        self._counters = Counters()
        self._attempts: dict[int, int] = {}
        self._outputs: dict[int, _ShardOutput] = {}
        self._batches: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)
        self._scored: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)
        self._regions: queue.Queue[Any] = queue.Queue()  # bounded by the arena
        self._fragments: list[Fragment] = []
        self._news = threading.Condition()
        self._error: BaseException | None = None
        self._ahead_reported = 0
        for stage in (self._pack, self._compute, self._collect, self._write):
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__.strip("_"), daemon=True).start()

    def assign(self, shard: Shard, attempt: int) -> None:
        """Adds a shard."""
        self._attempts[shard.index] = attempt
        self._feed.assign(shard)
        with self._news:
            self._news.notify_all()

    def close(self) -> None:
        """Ends the stages once everything assigned is written."""
        self._feed.close()

    def report(self, timeout_s: float) -> Report:
        """What is new, waiting up to `timeout_s` for a fragment, an error or a want of shards."""
        with self._news:
            self._news.wait_for(self._has_news, timeout_s)
            fragments, self._fragments = tuple(self._fragments), []
            self._counters.read_s, self._counters.pack_s = self._feed.read_s, self._feed.pack_s
            demand = self._demand()
            self._ahead_reported = demand.shards_ahead
            return Report(fragments, demand, Counters(**vars(self._counters)), self._error)

    def _has_news(self) -> bool:
        # A replica that has used up a shard wants the next one now; one that merely goes on has nothing to say.
        return (
            bool(self._fragments) or self._error is not None or self._feed.counts().shards_ahead < self._ahead_reported
        )

    def _demand(self) -> Demand:
        counts = self._feed.counts()
        return Demand(counts.unfed_slots, counts.shards_ahead, counts.rows_free)

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
                self._batches.put(batch)
                with self._news:
                    self._news.notify_all()
                continue
            regions = self._feed.drain()
            if regions:
                self._batches.put(regions)
            elif self._feed.done:
                self._batches.put(None)
                return

    def _compute(self) -> None:
        while (work := self._batches.get()) is not None:
            if isinstance(work, Batch):
                begin = time.perf_counter()
                step = work.step
                scores = self._step(work.rows, step.reset, step.lengths)
                # On a CPU the step is done here; on a GPU the copy waits for it while the next one is being queued.
                self._scored.put((work, scores))
                self._counters.compute_s += time.perf_counter() - begin
            else:
                self._scored.put((None, work))
        self._scored.put(None)

    def _collect(self) -> None:
        while (work := self._scored.get()) is not None:
            batch, found = work
            if batch is None:
                regions = found
            else:
                self._keep(batch, [np.asarray(values) for values in found])
                regions = self._feed.collect(batch)
            for region in regions:
                self._regions.put(region)
        self._regions.put(None)

    def _keep(self, batch: Batch, scores: list[NDArray[Any]]) -> None:
        valid = batch.valid
        self._arena.scatter(batch.index[valid], [values[valid] for values in scores])
        self._counters.steps += 1
        self._counters.rows += batch.step.row_count
        self._counters.busy_slots += batch.step.busy_count

    def _write(self) -> None:
        while (region := self._regions.get()) is not None:
            shard = region.block.shard.index
            if shard not in self._outputs:
                self._outputs[shard] = _ShardOutput(self._make_writer(region.block.shard, self._attempts[shard]))
            output = self._outputs[shard]
            output.early[region.piece] = region
            while (ready := output.early.pop(output.next_piece, None)) is not None:
                output.next_piece += 1
                self._write_region(output.writer, ready)
                if ready.block.final:
                    del self._outputs[shard]

    def _write_region(self, writer: FragmentWriter, region: Region) -> None:
        begin = time.perf_counter()
        fragment = writer.write(region.block, self._arena.scores[region.scores_slice])
        self._feed.release(region)
        self._counters.write_s += time.perf_counter() - begin
        with self._news:
            if fragment is not None:
                self._fragments.append(fragment)
            self._news.notify_all()
