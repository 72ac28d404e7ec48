"""A driver's process: one session with the real lock, commits, recovery, scheduler and loop, and the faults around it.

The order of a session is that of `runtime.run.run`, which cannot be had without Parquet and a model: lock, run.json,
recover, schedule what is not committed, drive, recover, run.json, success, release. What may strike a driver: any call
of its store fails, it is killed there or between two events, and it stops for up to a minute, heartbeat and all, to
wake up long after another has taken over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.core.commit import SNAPSHOTS, STAGED, Fragment
from cluster.core.lock import HEARTBEAT_S, LOCK, Holder, beat_name, highest
from cluster.core.schedule.actions import Quarantine
from cluster.run_errors import LockLost, OutputRefused, StoreFault
from cluster.runtime.carry.carry_table import make_mark
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import Lock, take_lock
from cluster.runtime.run.driver import Clock, Driver, Work
from lstm_core.errors import SlotcarError
from tests.sim import replicas as sim
from tests.sim.below import Below
from tests.sim.faults import CRASHES, Call, Crash, FailAt, Fault, Schedule, Seeded
from tests.sim.kernel import Fiber
from tests.sim.memory_store import MemoryStore
from tests.sim.options import MAYBE

if TYPE_CHECKING:
    from tests.sim.world import World


class Driving:
    """A driver's process: one session, with the faults that may strike it."""

    def __init__(self, world: World, name: str, fiber: Fiber, *, first: bool = False) -> None:
        self.world, self.name, self.fiber = world, name, fiber
        self.writer = world.next_writer()
        self.calls = DriverCalls(self, first)
        self.store = MemoryStore(world.disk, self.calls, writer=self.writer)
        self._heart = MemoryStore(world.disk, BeatCalls(world), writer=self.writer)
        self._beat_count = 0
        self.living, self.killed, self.stopped, self.listening = True, False, False, False
        self.lock: Lock | None = None
        self.replicas = sim.SimReplicas(self)

    @property
    def fence_number(self) -> int:
        """Its lock's number."""
        assert self.lock is not None
        return self.lock.number

    def live(self) -> bool:
        """One session; True where the run is finished."""
        world = self.world
        world.note(f"{self.name} starts")
        world.each_second(world.options.storm.kill / max(1, len(world.drivers)), self.kill)
        world.each_second(world.options.storm.resize, self.replicas.resize)
        try:
            return self._session()
        except Crash as crash:
            world.meet("a driver dies")
            world.note(f"{self.name} dies: {crash}")
            world.lose(self.writer)
            self.replicas.orphan()
        except SlotcarError as error:
            world.meet(f"{type(error).__name__}")
            world.calm_failures += not world.stormy and not isinstance(error, OutputRefused)
            world.note(f"{self.name} stops: {error}")
        finally:
            self.living = False
        return False

    def _session(self) -> bool:
        """The order of `runtime.run.run.score`."""
        self.lock = take_lock(self.store, self._holder(), self)
        self.world.meet("a lock is taken")
        self._beat_later()
        carry = Below(self.store, sim.CARRY) if self.world.options.sizes.carry else None
        commits = self.world.parts.commits(self.store, self.world.parts.lock(self.lock), carry)
        try:
            if commits.succeeded():
                return True
            commits.claim_carry("sim", "sim")
            self._run(commits)
        finally:
            self._leave()
        return True

    def _run(self, commits: Commits) -> None:
        try:
            try:
                self._drive(commits)
            finally:
                if not self.killed:
                    self.replicas.stop()
            commits.recover()
            self._mark_carry(commits)
            commits.write_run_record({"status": "done", "fence": self.fence_number})
            commits.succeed()
        except LockLost:
            raise
        except SlotcarError:
            with suppress(SlotcarError):
                commits.write_run_record({"status": "failed", "fence": self.fence_number})
            raise

    def _mark_carry(self, commits: Commits) -> None:
        """As `runtime.run.run` does, with nobody to hand on."""
        if commits.carry is not None:
            parts = [(r.carry_file, r.carry_rows, r.carry_checksum or "") for r in commits.records() if r.carry_file]
            commits.succeed_carry(make_mark("model", parts))

    def _drive(self, commits: Commits) -> None:
        plan, sizes = self.world.plan, self.world.options.sizes
        for number in range(sizes.replicas):
            self.replicas.start(number)
        commits.prepare()
        commits.write_run_record({"status": "running", "fence": self.fence_number})
        recovery = commits.recover()
        scheduler = self.world.parts.scheduler(
            plan.shards,
            replicas=sizes.replicas,
            max_attempts=sizes.max_attempts,
            done=recovery.done,
            committed=recovery.committed,
        )
        work = Work({shard.index: shard for shard in plan.shards}, lambda action: self._give_up(commits, action))
        Driver(work, scheduler, self.replicas, commits, Clock()).run(lambda: None)

    def _give_up(self, commits: Commits, action: Quarantine) -> Fragment:
        """As `runtime.run.quarantine` does: all rows of the shard that no fragment has."""
        self.world.meet("a shard is given up")
        done: dict[int, int] = {}
        state: dict[int, int] = {}
        if action.fragments:
            newest = next(r for r in commits.records() if (r.shard, r.index) == (action.shard, action.fragments - 1))
            lines = json.loads(self.store.read(f"{SNAPSHOTS}/{newest.snapshot}"))
            done, state = {line[0]: line[1] for line in lines}, {line[0]: line[2] for line in lines}
        sizes = self.world.options.sizes
        entities, lengths = self.world.entities_of(action.shard), sizes.lengths
        work = sim.Work(action.shard, action.attempt, entities, action.fragments, done, {}, given_up=True)
        if sizes.carry:  # who has ended has left it behind already
            waiting = [entity for entity in entities if not done.get(entity) or done[entity] < sizes.good[entity]]
            work.left_behind = [(e, done.get(e, 0), state.get(e, sim.ZERO_STATE)) for e in waiting]
        rest = [(entity, done.get(entity, 0)) for entity in entities if done.get(entity, 0) < lengths[entity]]
        lost = [(entity, row, lengths[entity] - row, "given up") for entity, row in rest]
        cut = sim.make_cut(work, lost, None, self.fence_number)
        for name, content in cut.files:
            assert name.startswith((STAGED, f"{sim.CARRY}/{STAGED}"))
            self.store.stage(name, content)
            self.store.sync(name)
        return cut.fragment

    def _holder(self) -> Holder:
        return Holder("sim", f"machine {self.writer}", self.writer, "0", "sim", self.name, "0")

    def _leave(self) -> None:
        lock = self.lock
        if self.killed or lock is None:
            return
        with suppress(StoreFault):
            if highest(self.store.list(LOCK)) == lock.number:
                lock.release()

    # ---- waiting: implements `runtime.commit.lock.Watch`

    def now_s(self) -> float:
        """Virtual seconds."""
        return self.world.kernel.now_s

    def pause(self, seconds: float) -> None:
        """A slow watch: looking every quarter of a second would only fill the history."""
        self.world.kernel.pause(self.fiber, seconds + self.world.rng.uniform(1.0, 6.0))
        self._check_alive()

    def listen(self, heard: Callable[[], bool]) -> None:
        """Waits for an answer."""
        while not heard():
            self.listening = True
            self.world.kernel.rest(self.fiber)
            self.listening = False
            self._check_alive()

    def hear(self) -> None:
        """An answer has come."""
        if self.listening:
            self.world.kernel.wake(self.fiber)

    def stall(self, seconds: float) -> None:
        """The whole process stops for a while, heartbeat and all."""
        self.world.meet("a driver is paused")
        self.stopped = True
        self.world.kernel.pause(self.fiber, seconds)
        self.stopped = False
        self._check_alive()

    def kill(self) -> None:
        """Between any two events, from outside."""
        if self.living and not self.killed:
            self.killed = True
            self.world.kernel.wake(self.fiber)

    def _check_alive(self) -> None:
        if self.killed:
            raise Crash("killed")

    def _beat_later(self) -> None:
        self.world.kernel.after(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        if self.living and not self.killed and self.lock is not None:
            if not self.stopped:
                self._beat_count += 1
                with suppress(StoreFault):
                    self._heart.write(beat_name(self.lock.number), str(self._beat_count).encode())
            self._beat_later()


@dataclass
class DriverCalls:
    """A driver's schedule of faults: pauses, single faults, and a rate of them."""

    driving: Driving
    first: bool
    fates: list[Schedule] = field(default_factory=list)

    def __post_init__(self) -> None:
        world, storm = self.driving.world, self.driving.world.options.storm
        kinds = storm.store_kinds or tuple(Fault)
        if self.first and storm.fail_at is not None:
            self.fates.append(FailAt(storm.fail_at, world.rng.choice(kinds)))
        if storm.store:
            self.fates.append(Seeded(world.rng, storm.store, kinds))

    def fault(self, call: Call) -> Fault | None:
        driving, world = self.driving, self.driving.world
        if driving.killed:
            return Fault.CRASH_BEFORE
        if self.first and call.number == world.options.storm.pause_at:
            world.start_rival()
            driving.stall(world.rng.uniform(20.0, 45.0))  # about as long as a takeover takes
        if world.chance(world.options.storm.pause):
            driving.stall(world.rng.uniform(1.0, 60.0))
        world.deliver_later()
        fate = next(filter(None, (one.fault(call) for one in self.fates)), None) if world.stormy else None
        world.note(f"{driving.name} {call.operation} {call.name} {fate.name if fate else ''}")
        if fate is not None:
            world.meet(f"driver's call {fate.name}")
        if fate in CRASHES:
            driving.killed = True
        return fate


@dataclass
class BeatCalls:
    """A heartbeat's writes may fail, and are then not done."""

    world: World

    def fault(self, call: Call) -> Fault | None:
        return (
            self.world.rng.choice((Fault.REFUSED, Fault.LOST))
            if self.world.chance(self.world.options.storm.store)
            else None
        )


@dataclass
class ReplicaCalls:
    """A replica's schedule of faults."""

    world: World
    writer: int

    def fault(self, call: Call) -> Fault | None:
        world = self.world
        world.deliver_later()
        kinds = (Fault.REFUSED, *MAYBE, *CRASHES)
        fate = world.rng.choice(kinds) if world.chance(world.options.storm.disk) else None
        world.note(f"replica {self.writer} {call.operation} {call.name} {fate.name if fate else ''}")
        if fate is not None:
            world.meet(f"replica's call {fate.name}")
        return fate
