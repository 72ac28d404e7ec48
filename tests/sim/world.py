"""One seed's world: a disk, drivers with their replicas, a storm of faults, and the calm in which the run must finish.

A session is what a driver does from the lock to the end: the real lock, commits, recovery, scheduler and driver loop,
in the order of `runtime.run`. An operator starts it again whenever it has died or stopped. Rivals start the same job
beside it, and a driver may be stopped for a minute at any call of the store and wake up long after another has taken
over. Faults end with the storm; what comes after may take a bounded number of events.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from cluster.core.actions import Action, Quarantine
from cluster.core.commit import SNAPSHOTS, STAGED, Fragment
from cluster.core.events import Event
from cluster.core.lock import HEARTBEAT_S, LOCK, Holder, beat_name, highest
from cluster.core.scheduler import Scheduler
from cluster.errors import LockLost, OutputRefused, StoreFault
from cluster.runtime.commits import Commits
from cluster.runtime.driver import Clock, Driver, Work
from cluster.runtime.lock import Lock, take
from lstm_core.errors import SlotcarError
from tests.sim import replicas as sim
from tests.sim.checkers import LeaseChecker, OutputChecker
from tests.sim.faults import CRASHES, Call, Crash, FailAt, Fault, Schedule, Seeded
from tests.sim.kernel import Fiber, Kernel
from tests.sim.memory_store import MemoryDisk, MemoryStore, Stored
from tests.sim.options import MAYBE, Options, draw
from tests.sim.series import Series

EVENTS_MAX = 30_000
CALM_FAILURES_MAX = 6  # a session may fail in the calm on what the storm has left, but not for ever


class CheckedScheduler(Scheduler):
    """The real one, its invariants checked after every transition."""

    def start(self) -> list[Action]:
        actions = super().start()
        self.check()
        return actions

    def handle(self, event: Event) -> list[Action]:
        actions = super().handle(event)
        self.check()
        return actions


@dataclass(frozen=True)
class Parts:
    """What a world is built of; a test that plants a bug brings another part."""

    scheduler: type[Scheduler] = CheckedScheduler
    commits: type[Commits] = Commits
    replica: type[sim.SimReplica] = sim.SimReplica
    lock: Callable[[Lock], Lock] = lambda lock: lock


class WatchedDisk(MemoryDisk):
    """A disk that tells the checker of every change."""

    checker: OutputChecker

    def put(self, name: str, content: bytes, writer: int | None = None) -> None:
        super().put(name, content, writer)
        self.checker.was_put(name)

    def delete(self, name: str) -> None:
        there = name in self.files
        super().delete(name)
        if there:
            self.checker.was_removed(name)

    def _lose(self, name: str, chance: random.Random) -> None:
        super()._lose(name, chance)
        if name not in self.files:
            self.checker.was_removed(name)


@dataclass
class Outcome:
    """What a run of a seed came to; the same seed gives the same one, every time."""

    seed: int
    events: int
    sessions: int
    now_s: float
    trace: int  # digest of everything that happened
    met: dict[str, int] = field(default_factory=dict)  # what of interest happened, and how often


class World:
    """All of one seed."""

    def __init__(self, seed: int, parts: Parts | None = None, options: Options | None = None) -> None:
        self.seed = seed
        self.parts = parts or Parts()
        self.rng = random.Random(seed)
        self.options = options or draw(self.rng)
        self.kernel = Kernel(EVENTS_MAX)
        self.series = Series(self.options.sizes)
        self.plan = self.series.plan()
        self._entities = [[int(entity) for entity in group] for group in self.plan.shard_entities]
        self.disk = WatchedDisk()
        self.checker = OutputChecker(self.disk.files, self.series.truth, self._entities)
        self.disk.checker = self.checker
        self.leases = LeaseChecker(self.options.sizes.max_attempts)
        self.trace = 0
        self.lines: list[str] | None = None  # every note, where somebody wants to read them
        self.met: dict[str, int] = {}
        self._writers = 0
        self.drivers: list[Driving] = []
        self.calm_failures = 0

    @property
    def stormy(self) -> bool:
        """True while faults may strike."""
        return self.kernel.now_s < self.options.storm.lasts_s

    def chance(self, share: float) -> bool:
        """True in a share of the cases, while the storm lasts."""
        return share > 0 and self.stormy and self.rng.random() < share

    def note(self, line: str) -> None:
        """Adds to the trace."""
        line = f"{self.kernel.now_s:.4f} {line}"
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self.lines is not None:
            self.lines.append(line)

    def meet(self, what: str) -> None:
        """Counts something of interest."""
        self.met[what] = self.met.get(what, 0) + 1
        self.note(what)

    def entities_of(self, shard: int) -> list[int]:
        """A shard's entities, in order."""
        return self._entities[shard]

    def next_writer(self) -> int:
        """A number for a node."""
        self._writers += 1
        return self._writers

    def replica_store(self, writer: int) -> MemoryStore:
        """A replica's own view of the disk."""
        return MemoryStore(self.disk, ReplicaCalls(self, writer), writer=writer)

    def lose(self, writer: int) -> None:
        """A node goes down."""
        self.disk.lose(self.rng, writer)
        self.checker.check_visible()

    def deliver_later(self) -> None:
        """Writes that are under way land at some time."""
        if self.disk.in_flight:
            landing, self.disk.in_flight = self.disk.in_flight, []
            for land in landing:
                self.kernel.after(self.rng.uniform(0.0, 60.0), partial(self._land, land))

    def _land(self, land: Callable[[], object]) -> None:
        self.meet("a write lands late")
        land()

    # ---- the operator

    def run(self) -> Outcome:
        """Plays the seed to its end. Raises AssertionError where something does not hold."""
        try:
            sessions = self._operate()
            self._settle()
        finally:
            self.kernel.close()
        return Outcome(self.seed, self.kernel.events, sessions, self.kernel.now_s, self.trace, self.met)

    def _operate(self) -> int:
        storm = self.options.storm
        self.each_second(storm.rival, self.start_rival)
        sessions = 0
        while True:
            sessions += 1
            assert self.calm_failures <= CALM_FAILURES_MAX, f"{self.calm_failures} sessions failed in the calm"
            driver = Driving(self, f"driver {sessions}", self.kernel.main, first=sessions == 1)
            self.drivers.append(driver)
            if driver.live():
                return sessions
            self.kernel.pause(self.kernel.main, self.rng.uniform(0.1, 10.0))

    def _settle(self) -> None:
        """Whoever still lives comes to its end; then everything must be there."""
        while any(driver.living for driver in self.drivers):
            self.kernel.pause(self.kernel.main, 5.0)
        self.disk.deliver()
        assert "_SUCCESS" in self.disk.files
        self.checker.check_whole()
        self.leases.check_given_up(self.checker.given_up)

    def each_second(self, share: float, act: Callable[[], None]) -> None:
        """Something happens in a share of the seconds of the storm."""
        if share > 0 and self.stormy:
            if self.rng.random() < share:
                act()
            self.kernel.after(1.0, lambda: self.each_second(share, act))

    def start_rival(self) -> None:
        """Somebody starts the same job beside the operator."""
        name = f"rival {len(self.drivers)}"
        self.meet("a rival starts")
        self.kernel.spawn(name, lambda fiber: self._live(Driving(self, name, fiber)))

    def _live(self, driver: Driving) -> None:
        self.drivers.append(driver)
        driver.live()


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
        """The order of `runtime.run.score`."""
        self.lock = take(self.store, self._holder(), self)
        self.world.meet("a lock is taken")
        self._beat_later()
        commits = self.world.parts.commits(self.store, self.world.parts.lock(self.lock))
        try:
            if commits.succeeded():
                return True
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
            commits.write_run_record({"status": "done", "fence": self.fence_number})
            commits.succeed()
        except LockLost:
            raise
        except SlotcarError:
            with suppress(SlotcarError):
                commits.write_run_record({"status": "failed", "fence": self.fence_number})
            raise

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
        """As `runtime.quarantine` does: all rows of the shard that no fragment has."""
        self.world.meet("a shard is given up")
        done: dict[int, int] = {}
        if action.fragments:
            newest = next(r for r in commits.records() if (r.shard, r.index) == (action.shard, action.fragments - 1))
            done = {line[0]: line[1] for line in json.loads(self.store.read(f"{SNAPSHOTS}/{newest.snapshot}"))}
        entities, lengths = self.world.entities_of(action.shard), self.world.options.sizes.lengths
        work = sim.Work(action.shard, action.attempt, entities, action.fragments, done, {}, given_up=True)
        rest = [(entity, done.get(entity, 0)) for entity in entities if done.get(entity, 0) < lengths[entity]]
        lost = [(entity, row, lengths[entity] - row, "given up") for entity, row in rest]
        cut = sim.make_cut(work, lost, None, self.fence_number)
        for name, content in cut.files:
            assert name.startswith(STAGED)
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

    # ---- waiting: implements `runtime.lock.Watch`

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


__all__ = ["Outcome", "Parts", "Stored", "World"]
