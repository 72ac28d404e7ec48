"""Simulated replicas: the real packer, an integer recurrence for a model, and a disk that forgets what is not synced.

A replica steps, cuts fragments with snapshots at step boundaries, stages them, and tells. It may be slow, die at any
step or at its start, be taken for dead and work on, answer late and answer twice. `SimReplicas` implements the
protocol that the real driver asks for.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cluster.core.commit import (
    QUARANTINE,
    SNAPSHOTS,
    STAGED,
    Fragment,
    carry_name,
    fragment_name,
    record_name,
    staged_name,
)
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import ClusterChanged, Demand, ReplicaLeaving, ReplicaLost
from cluster.run_errors import StoreFault
from cluster.runtime.fleet.fleet import NOBODY, Answer
from cluster.runtime.replica.pipeline import Counters, PollReport
from cluster.runtime.replica.replica_actor import ReplicaInfo, Sources
from lstm_core.packing.packer import Packer
from tests.sim.faults import Crash
from tests.sim.series import ZERO_STATE, next_state, row_value

if TYPE_CHECKING:
    from tests.sim.driving import Driving

RUN = "0sim0"
CARRY = "carry"  # the folder of the disk that is the place for carry-over
POLL_S = 5.0
PARTED_DELAY_S = 10.0  # most time that an answer of a replica takes that was taken for dead
INFO = ReplicaInfo(pid=0, node="", node_id="", device="", import_s=0.0, compile_s=0.0, versions={})

Row = tuple[int, int, int]  # entity, row, score
Left = tuple[int, int, int]  # entity, rows scored, state after them
Lost = tuple[int, int, int, str]  # entity, its first row in quarantine, rows, reason


@dataclass
class Work:
    """One attempt at one shard."""

    shard: int
    attempt: int
    entities: list[int]
    next_index: int
    done: dict[int, int]  # entity -> rows scored, by this attempt or committed before
    state: dict[int, int]  # entity -> state after those rows
    given_up: bool = False  # by the driver, which has no replica for it
    left: int = 0  # series that have not ended
    unsat: int = 0  # series that have not had a step yet
    resumed: set[int] = field(default_factory=set)  # under way when it was taken over, and without a step since
    fresh: dict[int, list[Row]] = field(default_factory=dict)  # rows in no fragment yet
    ended: list[int] = field(default_factory=list)  # entities whose last good row is in no fragment yet
    left_behind: list[Left] = field(default_factory=list)  # what goes into the next fragment's carry-over

    @property
    def fresh_count(self) -> int:
        """Rows that are in no fragment yet."""
        return sum(map(len, self.fresh.values()))


@dataclass(frozen=True)
class Cut:
    """A fragment to be written, with what stands in its files."""

    fragment: Fragment
    files: tuple[tuple[str, bytes], ...]  # (name, content), to be durable before the fragment is told


def checksum(content: bytes) -> str:
    """What a record says of its rows."""
    return f"{zlib.crc32(content):08x}"


def packed(rows: Sequence[Sequence[object]]) -> bytes:
    """A file's content."""
    return json.dumps(rows).encode()


def make_cut(work: Work, lost: Sequence[Lost], snapshot: bytes | None, fence: int) -> Cut:
    """The next fragment of `work`: all fresh rows; final where there is no snapshot."""
    rows = [row for entity in work.entities for row in work.fresh.get(entity, ())]
    name, content = fragment_name(RUN, work.shard, work.next_index), packed(rows)
    marked = partial(staged_name, fence=fence, attempt=work.attempt, given_up=work.given_up)
    kept = marked(f"{work.shard:06d}-{work.next_index:05d}.parquet")
    left, states = carry_name(work.shard, work.next_index), packed(work.left_behind)
    fragment = Fragment(
        shard=work.shard,
        index=work.next_index,
        attempt=work.attempt,
        fence=fence,
        final=snapshot is None,
        file=name if rows else None,
        staged=marked(name) if rows else None,
        rows=len(rows),
        entities=sum(row == 0 for _, row, _ in rows),
        checksum=checksum(content),
        time_min=None,
        time_max=None,
        quarantine_file=name if lost else None,
        quarantine_staged=marked(f"{QUARANTINE}-{name}") if lost else None,
        rows_quarantined=sum(line[2] for line in lost),
        entities_quarantined=len(lost),
        snapshot=None if snapshot is None else kept,
        carry_file=left if work.left_behind else None,
        carry_staged=marked(left) if work.left_behind else None,
        carry_rows=len(work.left_behind),
        carry_checksum=checksum(states) if work.left_behind else None,
    )
    files = [(f"{STAGED}/{fragment.staged}", content)] if rows else []
    files += [(f"{STAGED}/{fragment.quarantine_staged}", packed(lost))] if lost else []
    files += [(f"{SNAPSHOTS}/{kept}", snapshot)] if snapshot is not None else []
    files += [(f"{CARRY}/{STAGED}/{fragment.carry_staged}", states)] if work.left_behind else []
    return Cut(fragment, tuple(files))


class SimReplica:
    """One replica: alive until it dies, and perhaps a while after it was taken for dead."""

    def __init__(self, number: int, driving: Driving) -> None:
        self.number = number
        self.driving = driving
        world = driving.world
        self.world, self.rng, self.kernel, self.series = world, world.rng, world.kernel, world.series
        self.sizes, self.storm = world.options.sizes, world.options.storm
        self.writer = world.next_writer()
        self.store = world.replica_store(self.writer)
        self.alive, self.ready, self.stepping, self.parted = True, False, False, False
        self.packer = Packer(slots=self.sizes.slots, chunk=self.sizes.chunk)
        self.slot_state = [ZERO_STATE] * self.sizes.slots
        self.works: dict[int, Work] = {}
        self.work_of: dict[int, Work] = {}  # entity -> the attempt that scores it
        self.slow = 8.0 if self.rng.random() < self.storm.straggler else 1.0
        self.fragments: list[Fragment] = []  # written and not told
        self.error: BaseException | None = None
        self.telling = False
        self.told_s = self.written_s = 0.0  # when the last answer arrives, and when the writer is free
        self.rows = 0

    # ---- what the driver asks for

    def start(self) -> None:
        """Compiles; or dies of it."""
        self.kernel.after(self.rng.uniform(0.1, 2.0), self._started)

    def assign(self, shard: Shard, attempt: int, fragments: int) -> None:
        """More work, some time later."""
        self.kernel.after(
            self.rng.uniform(0.0, 0.2), lambda: self._guarded(lambda: self._take(shard, attempt, fragments))
        )

    def die(self, cause: str, *, with_node: bool = False) -> None:
        """The end of its node, or of itself."""
        if self.alive:
            self.alive = False
            self.world.note(f"replica {self.writer} dies: {cause}")
            self.world.lose(self.writer)
            self.kernel.after(self.rng.uniform(0.0, 1.0), lambda: self._mourned(cause, with_node=with_node))

    def _mourned(self, cause: str, *, with_node: bool = False) -> None:
        self.driving.replicas.answered(Answer(self.number, failure=ReplicaLost(self.number, cause, with_node)))

    def _be_warned(self) -> None:
        """Its node is about to leave."""
        self.world.meet("a node is about to leave")
        self.driving.replicas.answered(Answer(self.number, failure=ReplicaLeaving(self.number, "drained")))
        self.kernel.after(self.rng.uniform(0.0, 30.0), lambda: self.die("its node has left", with_node=True))

    # ---- its own life

    def _started(self) -> None:
        if self.alive and self.world.chance(self.storm.start_death):
            self.die("it died at its start")
        elif self.alive:
            self.ready = True
            self._send(Answer(self.number, ready=replace(INFO, demand=self._demand())))
            self._poll()

    def _guarded(self, act: object) -> None:
        """A fault of its disk is told, a crash kills it."""
        if not self.alive or self.error is not None:
            return
        try:
            act()  # type: ignore[operator]
        except Crash as crash:
            self.die(str(crash))
        except StoreFault as fault:
            self.error = fault
            self._tell()

    def _take(self, shard: Shard, attempt: int, fragments: int) -> None:
        entities = self.world.entities_of(shard.index)
        done, state = self._resume(shard.index, fragments) if fragments else ({}, {})
        work = Work(shard.index, attempt, entities, fragments, done, state)
        work.resumed = {entity for entity in state if done[entity] < self.sizes.good[entity]}
        left = [entity for entity in entities if done.get(entity, 0) < self.sizes.good[entity]]
        work.left = work.unsat = len(left)
        self.works[shard.index] = work
        self.work_of.update(dict.fromkeys(entities, work))
        starts = [self.series.first_row[entity] + done.get(entity, 0) for entity in left]
        counts = [self.sizes.good[entity] - done.get(entity, 0) for entity in left]
        self.packer.admit(np.array(starts, np.int64), np.array(counts, np.int64))
        if not left:
            self._finish(work)
        self._go_on()

    def _resume(self, shard: int, fragments: int) -> tuple[dict[int, int], dict[int, int]]:
        """Rows done and states, from the newest committed snapshot."""
        record = json.loads(self.store.read(record_name(shard, fragments - 1)))
        lines = json.loads(self.store.read(f"{SNAPSHOTS}/{record['snapshot']}"))
        return {line[0]: line[1] for line in lines}, {line[0]: line[2] for line in lines}

    def _go_on(self) -> None:
        if not self.stepping and self.alive:
            self.stepping = True
            self.kernel.after(self.rng.uniform(0.05, 0.3) * self.slow, lambda: self._guarded(self._step))

    def _step(self) -> None:
        self.stepping = False
        if self.world.chance(self.storm.death):
            self.world.meet("a replica dies in a step")
            return self.die("it died in a step")
        if self.world.chance(self.storm.parted):
            self._part()
        if self.world.chance(self.storm.leave):
            self._be_warned()
        step = self.packer.next_step()
        if step is None:
            return None
        seats = zip(step.start.tolist(), step.lengths.tolist(), step.reset.tolist(), step.ends.tolist(), strict=True)
        busy = [(slot, *seat) for slot, seat in enumerate(seats) if seat[1]]
        entity_of = self.series.entity_of
        watched = [(slot, entity_of[start], reset, ends) for slot, start, _, reset, ends in busy]
        self.world.leases.stepped(self.writer, watched)
        for slot, start, length, reset, ends in busy:
            self._score(slot, start, length, reset, ends)
        if any(ends and entity in self.sizes.poison for _, entity, _, ends in watched):
            return self.die("it was poisoned")
        for work in list(self.works.values()):
            self._cut_if_due(work)
        return self._go_on()

    def _score(self, slot: int, start: int, length: int, reset: bool, ends: bool) -> None:
        entity = self.series.entity_of[start]
        work, row = self.work_of[entity], start - self.series.first_row[entity]
        if reset:
            self.slot_state[slot] = work.state.get(entity, ZERO_STATE)
            work.unsat -= 1
            work.resumed.discard(entity)
        state, fresh = self.slot_state[slot], work.fresh.setdefault(entity, [])
        for number in range(row, row + length):
            state = next_state(state, row_value(entity, number))
            fresh.append((entity, number, state))
        self.slot_state[slot] = work.state[entity] = state
        work.done[entity] = row + length
        work.left -= ends
        if ends:
            work.ended.append(entity)
        self.rows += length

    def _cut_if_due(self, work: Work) -> None:
        if not work.left:
            self._finish(work)
        elif work.fresh and not work.resumed:
            full = work.fresh_count >= self.sizes.rows_per_file
            if full or self.rng.random() < self.sizes.checkpoint:
                self.leave(work, final=False)
                self._write(make_cut(work, (), self.snapshot(work), self.driving.fence_number))
                work.fresh = {}
                work.next_index += 1

    def snapshot(self, work: Work) -> bytes:
        """Rows done and states of the entities that have begun."""
        return packed([(entity, work.done[entity], work.state[entity]) for entity in sorted(work.done)])

    def _finish(self, work: Work) -> None:
        del self.works[work.shard]
        bad = [entity for entity in work.entities if self.sizes.good[entity] < self.sizes.lengths[entity]]
        lost = [(e, self.sizes.good[e], self.sizes.lengths[e] - self.sizes.good[e], "bad") for e in bad]
        self.leave(work, final=True)
        self._write(make_cut(work, lost, None, self.driving.fence_number))
        self._tell()

    def leave(self, work: Work, *, final: bool) -> None:
        """What the entities that have ended leave behind: their rows and the state after the last; at the end also
        those that are bad from their first row."""
        ended, work.ended = work.ended, []
        if self.sizes.carry:
            never = [entity for entity in work.entities if final and not self.sizes.good[entity]]
            lines = [(entity, work.done[entity], work.state[entity]) for entity in ended]
            work.left_behind = sorted([*lines, *((entity, 0, ZERO_STATE) for entity in never)])

    def _write(self, cut: Cut) -> None:
        """One after the other, as the writer's thread does."""
        self.written_s = max(self.written_s, self.kernel.now_s) + self.rng.uniform(0.0, 0.2) * self.slow
        self.kernel.at(self.written_s, lambda: self._guarded(lambda: self.stage(cut)))

    def stage(self, cut: Cut) -> None:
        """Writes a cut's files, makes them durable, and tells."""
        for name, content in cut.files:
            self.store.stage(name, content)
            self.store.sync(name)
        self.fragments.append(cut.fragment)
        self._tell()

    def _part(self) -> None:
        """The cluster takes it for dead; it works on, and what it says still arrives."""
        self.world.note(f"replica {self.writer} is taken for dead")
        self.parted = True
        self._mourned("it did not answer")
        self.kernel.after(self.rng.uniform(0.0, 20.0), lambda: self.die("it was cut off"))

    # ---- answers

    def _poll(self) -> None:
        if self.alive and self.error is None:
            self._tell()
            self.kernel.after(POLL_S, self._poll)

    def _tell(self) -> None:
        if not self.telling:
            self.telling = True
            self.kernel.after(self.rng.uniform(0.0, 0.1), self._report)

    def _report(self) -> None:
        self.telling = False
        if not self.alive or not self.ready:
            return
        fragments, self.fragments = tuple(self.fragments), []
        self._send(
            Answer(self.number, report=PollReport(fragments, self._demand(), Counters(rows=self.rows), self.error))
        )

    def _demand(self) -> Demand:
        held = sum(self.sizes.lengths[entity] for work in self.works.values() for entity in work.entities)
        ahead = sum(work.unsat > 0 for work in self.works.values())
        wanted = self.packer.idle_count + self.packer.slots - self.packer.waiting_count  # as a real one reckons
        room = max(0, self.sizes.arena_rows - held)
        return Demand(wanted, ahead, room, stream_rows=4, rows_scored=self.rows)

    def _send(self, answer: Answer) -> None:
        """One call at a time, so answers come in order; but one may come a second time, whenever."""
        delay_s = PARTED_DELAY_S if self.parted else self.storm.delay_s
        self.told_s = max(self.told_s, self.kernel.now_s + self.rng.uniform(0.0, delay_s))
        arrive = self.driving.replicas.answered
        self.kernel.at(self.told_s, lambda: arrive(answer))
        if self.world.chance(self.storm.twice):
            self.kernel.at(self.told_s + self.rng.uniform(0.0, 5.0), lambda: arrive(answer))


class SimReplicas:
    """The replicas of one driver. Implements `ray_cluster.Replicas`."""

    def __init__(self, driving: Driving) -> None:
        self._driving = driving
        self._members: dict[int, SimReplica] = {}
        self._answers: list[Answer] = []
        self._stopped = False

    @property
    def counters(self) -> list[Counters]:
        return []

    def start(self, replica: int) -> None:
        if replica not in self._members:
            self._members[replica] = self._driving.world.parts.replica(replica, self._driving)
            self._members[replica].start()

    def begin(self, sources: Sources) -> None:
        """The plan is known from the beginning."""

    def assign(self, replica: int, shard: Shard, attempt: int, fragments: int) -> None:
        self._driving.world.leases.assigned(self._driving.fence_number, shard.index, attempt)
        self._members[replica].assign(shard, attempt, fragments)

    def answers(self, timeout_s: float) -> list[Answer]:
        self._driving.listen(lambda: bool(self._answers))
        come, self._answers = self._answers, []
        return come

    def answered(self, answer: Answer) -> None:
        """An answer arrives."""
        if not self._stopped:
            self._answers.append(answer)
            self._driving.hear()

    def resize(self) -> None:
        """Nodes come or go, and the driver sees it."""
        rng, replicas = self._driving.world.rng, self._driving.world.options.sizes.replicas
        changed = ClusterChanged(room=rng.randint(0, replicas + 1), wanted=rng.randint(1, replicas + 1))
        self.answered(Answer(NOBODY, failure=changed))

    def stop(self) -> None:
        """The driver ends them, and looks no more."""
        self._stopped = True
        for member in self._members.values():
            member.die("it was stopped")

    def orphan(self) -> None:
        """The driver is dead: they work on until somebody notices."""
        world = self._driving.world
        for member in self._members.values():
            world.kernel.after(world.rng.uniform(0.0, 20.0), partial(member.die, "its driver is dead"))
