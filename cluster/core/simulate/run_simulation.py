"""A run, simulated: the real shards and the real scheduler, simulated replicas, and a clock that only jumps.

What it decides: when a simulated replica starts, dies and reports. Deaths come at random at a given rate; the work
since a shard's last checkpoint is done again, by a replica that starts anew. The same seed gives the same simulation,
but for the scheduler's own cost, which is measured by the clock that is passed in: nothing here knows the time of day.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Action, Assign, Fail, StartReplica
from cluster.core.schedule.events import Event, FragmentStaged, ReplicaLost, ReplicaReady, ReplicaReported
from cluster.core.schedule.scheduler import Scheduler
from cluster.core.simulate.simulated_replica import Held, ReplicaPace, SimulatedReplica
from lstm_core.array_types import Doubles

POLL_S = 5.0  # between two questions to a replica that has nothing to do
ATTEMPTS_MAX = 1_000  # a shard is never given up: in a simulation nothing is wrong with it


@dataclass(frozen=True)
class SimulatedFaults:
    """What goes wrong."""

    deaths_per_hour: float = 0.0  # of each replica
    stragglers: float = 0.0  # share of replicas that are slow
    straggler_pace: float = 0.5  # theirs, as a share of the others'
    seed: int = 0


@dataclass(frozen=True)
class SimulatedRun:
    """What a run would take. Times are seconds; those of replicas are summed over them."""

    replicas: int
    wall_s: float
    busy: float  # share of the replicas' time, since the first one was ready, in which they are not idle
    busy_until_longest: float  # the same, until only the shard with the longest entity is left
    stepping_s: float
    idle_s: float
    startup_s: float
    again_s: float  # work that deaths have cost
    deaths: int
    events: int  # that the scheduler was asked about
    event_us: float  # what it took for each, in microseconds; 0 without a clock


def simulate_run(
    shards: Sequence[Shard],
    replicas: int,
    pace: ReplicaPace,
    faults: SimulatedFaults,
    clock: Callable[[], float] | None = None,
) -> SimulatedRun:
    """Plays a run of `shards` on `replicas` replicas to its end."""
    scheduler = Scheduler(shards, replicas=replicas, max_attempts=ATTEMPTS_MAX)
    played = _Play(scheduler, shards, pace, faults)
    played.to_its_end(clock)
    return played.summary(replicas)


class _Play:
    def __init__(
        self, scheduler: Scheduler, shards: Sequence[Shard], pace: ReplicaPace, faults: SimulatedFaults
    ) -> None:
        self._scheduler, self._pace, self._faults = scheduler, pace, faults
        self._shards = {shard.index: shard for shard in shards}
        self._kept = {shard.index: float(shard.rows) for shard in shards}  # rows left at the newest checkpoint
        self._dice = np.random.default_rng(faults.seed)
        self._replicas: dict[int, SimulatedReplica] = {}
        self._gone: list[SimulatedReplica] = []
        self._expected: list[tuple[float, int, int, str, int]] = []  # (when, tie, replica, what, version)
        self._clock: Callable[[], float] = lambda: 0.0
        self._now_s = self._first_s = 0.0
        self._ends: dict[int, float] = {}  # shard -> when it was done
        self._ties = self._starts = self._deaths = self._events = 0
        self._again_s = self._spent_s = 0.0

    def to_its_end(self, clock: Callable[[], float] | None) -> None:
        self._clock = clock or self._clock
        self._act(self._scheduler.start())
        while not self._scheduler.finished:
            self._now_s, _, number, what, version = heapq.heappop(self._expected)
            replica = self._replicas.get(number)
            if replica is None or (what == "step" and version != replica.version):
                continue
            {"ready": self._be_ready, "step": self._step, "death": self._die}[what](replica)

    def _tell(self, event: Event) -> None:
        begin = self._clock()
        actions = self._scheduler.handle(event)
        self._spent_s += self._clock() - begin
        self._events += 1
        self._act(actions)

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartReplica(replica):
                    self._start(replica)
                case Assign(replica, shard, attempt, _):
                    kept = self._kept[shard]
                    held = Held(self._shards[shard], attempt, kept, kept, self._now_s, rows=kept)
                    self._replicas[replica].held.append(held)
                case Fail(cause, _):
                    raise AssertionError(f"a simulated run failed: {cause}")

    def _start(self, number: int) -> None:
        slow = self._dice.random() < self._faults.stragglers
        ready_s = self._now_s + self._pace.startup_s
        self._replicas[number] = SimulatedReplica(
            number, self._pace, self._faults.straggler_pace if slow else 1.0, ready_s
        )
        self._starts += 1
        self._expect(ready_s, number, "ready")
        if self._faults.deaths_per_hour:
            lives_s = self._dice.exponential(3600 / self._faults.deaths_per_hour)
            self._expect(ready_s + lives_s, number, "death")

    def _expect(self, when_s: float, number: int, what: str) -> None:
        self._ties += 1
        heapq.heappush(self._expected, (when_s, self._ties, number, what, self._replicas[number].version))

    def _be_ready(self, replica: SimulatedReplica) -> None:
        self._first_s = self._first_s or self._now_s
        self._tell(ReplicaReady(replica.number, replica.demand()))
        self._go_on(replica)

    def _step(self, replica: SimulatedReplica) -> None:
        replica.advance(self._now_s)
        for held in replica.finished():
            self._ends[held.shard.index] = self._now_s
            self._tell(FragmentStaged(replica.number, _whole(held)))
        self._tell(ReplicaReported(replica.number, replica.demand()))
        self._go_on(replica)

    def _go_on(self, replica: SimulatedReplica) -> None:
        replica.version += 1
        wait_s = replica.next_s()
        self._expect(self._now_s + (POLL_S if wait_s is None else wait_s), replica.number, "step")

    def _die(self, replica: SimulatedReplica) -> None:
        replica.advance(self._now_s)
        for held in replica.held:
            self._again_s += (held.kept_rows - held.rows_left) / (self._pace.rows_per_s * replica.share)
            self._kept[held.shard.index] = held.kept_rows
        self._gone.append(self._replicas.pop(replica.number))
        self._deaths += 1
        self._tell(ReplicaLost(replica.number, "its time was up"))

    def summary(self, replicas: int) -> SimulatedRun:
        everyone = [*self._gone, *self._replicas.values()]
        for replica in self._replicas.values():
            replica.advance(max(self._now_s, replica.at_s))
        gaps = np.array([gap for replica in everyone for gap in replica.idle], np.float64).reshape(-1, 2)
        stepping_s = sum(replica.busy_s for replica in everyone)
        return SimulatedRun(
            replicas=replicas,
            wall_s=self._now_s,
            busy=self._busy(gaps, self._now_s, replicas),
            busy_until_longest=self._busy(gaps, self._longest_alone_s(), replicas),
            stepping_s=stepping_s,
            idle_s=float((gaps[:, 1] - gaps[:, 0]).sum()),
            startup_s=self._starts * self._pace.startup_s,
            again_s=self._again_s,
            deaths=self._deaths,
            events=self._events,
            event_us=1e6 * self._spent_s / max(self._events, 1),
        )

    def _longest_alone_s(self) -> float:
        """When every shard but the one with the longest entity was done; the end, where that one was done before."""
        longest = min(self._ends, key=lambda index: (-self._shards[index].longest_rows, index))
        others = [when_s for index, when_s in self._ends.items() if index != longest]
        return max(others, default=self._now_s)

    def _busy(self, gaps: Doubles, until_s: float, replicas: int) -> float:
        """Share of the replicas' time that is not idle; starts after a death count as busy, as nobody can help them."""
        within = np.clip(gaps, self._first_s, until_s)
        whole_s = (until_s - self._first_s) * replicas
        return 1.0 - float((within[:, 1] - within[:, 0]).sum()) / whole_s if whole_s > 0 else 1.0


def _whole(held: Held) -> Fragment:
    """The only fragment of a simulated shard."""
    return Fragment(
        shard=held.shard.index,
        index=0,
        attempt=held.attempt,
        final=True,
        file=None,
        staged=None,
        rows=round(held.rows),
        entities=held.shard.entities,
        checksum="",
        time_min=None,
        time_max=None,
    )
