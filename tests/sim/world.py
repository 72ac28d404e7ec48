"""One seed's world: a disk, drivers with their replicas, a storm of faults, and the calm in which the run must finish.

An operator starts a driver, and another one whenever it has died or stopped; rivals start the same job beside it.
Faults end with the storm; what comes after may take a bounded number of events.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cluster.core.schedule.actions import Action
from cluster.core.schedule.events import Event
from cluster.core.schedule.scheduler import Scheduler
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import Lock
from tests.sim import replicas as sim
from tests.sim.checkers import LeaseChecker, OutputChecker
from tests.sim.driving import Driving, ReplicaCalls
from tests.sim.kernel import Kernel
from tests.sim.memory_store import MemoryDisk, MemoryStore
from tests.sim.options import Options, draw
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
        self.checker.carries = self.options.sizes.carry
        self.disk.checker = self.checker
        self.leases = LeaseChecker(self.options.sizes.max_attempts, leaves=self.options.storm.leave > 0)
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
