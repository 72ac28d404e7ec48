"""The scheduler against anything that replicas may say or do: dying, answering late, answering twice.

A script of random numbers is played to the real scheduler by a world of pretended replicas. After every transition the
scheduler's invariants hold, and once the replicas calm down the run ends with every shard committed exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Action, Assign, Commit, Discard, Finish, Quarantine, StartReplica
from cluster.core.schedule.events import (
    ClusterChanged,
    Demand,
    Event,
    FragmentStaged,
    ReplicaLeaving,
    ReplicaLost,
    ReplicaReady,
    ReplicaReported,
)
from cluster.core.schedule.scheduler import Scheduler

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=12)
SCRIPT = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1000)), max_size=60)
CALM = [(kind, number) for number in range(400) for kind in (0, 3, 6)]


@dataclass
class Lease:
    """A shard in a replica's hands."""

    shard: int
    attempt: int
    next_index: int


@dataclass
class Pretended:
    """A replica that stages fragments in any order of its shards, each shard's in order."""

    ready: bool = False
    leases: list[Lease] = field(default_factory=list)


class World:
    """Replicas, and an output that remembers what was committed."""

    def __init__(self, sizes: Sequence[int], replicas: int, max_attempts: int) -> None:
        bands = max(1, sum(sizes) % 4)
        self.shards = [Shard(i, 1 + size % 3, size, size, size > 40, i // bands) for i, size in enumerate(sizes)]
        self.scheduler = Scheduler(self.shards, replicas=replicas, max_attempts=max_attempts)
        self.replicas: dict[int, Pretended] = {}
        self.attempts: dict[int, int] = {}
        self.committed: dict[int, list[Fragment]] = {shard.index: [] for shard in self.shards}
        self.given_up: set[int] = set()
        self.leaving: set[int] = set()
        self.said: list[FragmentStaged] = []  # to be said again
        self.finished = 0
        self.act(self.scheduler.start())

    def play(self, script: Sequence[tuple[int, int]]) -> None:
        for kind, number in script:
            event = self.event(kind, number)
            if event is not None:
                self.act(self.scheduler.handle(event))
                self.scheduler.check()

    def calm_down(self) -> None:
        """Replicas take work, everything ever said arrives once more, and then they work without a fault."""
        self.play([(0, number) for number in range(8, 24)])
        for event in list(self.said):
            self.act(self.scheduler.handle(event))
            self.scheduler.check()
        self.play(CALM)

    def event(self, kind: int, number: int) -> Event | None:
        """0-2 demand, 3-6 progress, 7 a death, 8-9 an old answer once more, 10 a warning, 11 nodes come and go."""
        if kind == 11:
            return ClusterChanged(room=number % 6, wanted=number % 5)
        if kind in (8, 9):
            return self.said[number % len(self.said)] if self.said else None
        if not self.replicas:
            return None
        name = sorted(self.replicas)[number % len(self.replicas)]
        if kind == 10:
            self.leaving.add(name)
            return ReplicaLeaving(name, "drained")
        if kind == 7:
            self.said += [self.staged(name, lease) for lease in self.replicas.pop(name).leases]  # still on their way
            return ReplicaLost(name, "killed", with_node=number % 2 == 0)
        return self.demand(name, number) if kind < 3 else self.progress(name, number)

    def demand(self, name: int, number: int) -> Event:
        demand = Demand(wanted_entities=number % 7, shards_ahead=number % 3, rows_free=number, stream_rows=4)
        if self.replicas[name].ready:
            return ReplicaReported(name, demand)
        self.replicas[name].ready = True
        return ReplicaReady(name, demand)

    def progress(self, name: int, number: int) -> Event | None:
        leases = self.replicas[name].leases
        if not leases:
            return None
        lease = leases[number % len(leases)]
        self.said.append(self.staged(name, lease))
        lease.next_index += 1
        if self.said[-1].fragment.final:
            leases.remove(lease)
        return self.said[-1]

    def staged(self, name: int, lease: Lease) -> FragmentStaged:
        final = lease.next_index == self.shards[lease.shard].rows % 3  # shards have one to three fragments
        fragment = Fragment(lease.shard, lease.next_index, lease.attempt, final, "f", "s", 1, 1, "", None, None)
        return FragmentStaged(name, fragment)

    def act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case StartReplica(replica):
                    assert replica not in self.replicas
                    self.replicas[replica] = Pretended()
                case Assign(replica, shard, attempt, fragments):
                    assert self.replicas[replica].ready, "a shard for a replica that cannot step"
                    assert replica not in self.leaving, "a shard for a replica that is about to go"
                    assert attempt > self.attempts.get(shard, 0), "an attempt's number does not grow"
                    assert fragments == len(self.committed[shard])
                    self.attempts[shard] = attempt
                    self.replicas[replica].leases.append(Lease(shard, attempt, fragments))
                case Commit(fragment):
                    self.commit(fragment)
                case Quarantine(shard, _, fragments, _):
                    assert fragments == len(self.committed[shard])
                    self.given_up.add(shard)
                case Discard() | Finish():
                    self.finished += isinstance(action, Finish)
                case _:
                    raise AssertionError(f"{action} was not expected")

    def commit(self, fragment: Fragment) -> None:
        assert fragment.attempt == self.attempts[fragment.shard], "a stale attempt is committed"
        assert fragment.shard not in self.given_up
        assert fragment.index == len(self.committed[fragment.shard]), "a fragment is lost or there twice"
        self.committed[fragment.shard].append(fragment)

    def whole(self, shard: int) -> bool:
        """True when a shard has all its fragments, and its final one once, at the end."""
        final = [fragment.final for fragment in self.committed[shard]]
        return final == [False] * (len(final) - 1) + [True]


@given(SIZES, st.integers(1, 4), SCRIPT)
def test_every_shard_is_committed_exactly_once_whatever_replicas_do(
    sizes: list[int], replicas: int, script: list[tuple[int, int]]
) -> None:
    world = World(sizes, replicas, max_attempts=1000)
    world.play(script)
    world.calm_down()
    assert world.scheduler.finished
    assert world.finished == 1
    assert all(world.whole(shard.index) for shard in world.shards)
    assert world.scheduler.shards_done == len(sizes)


@given(SIZES, st.integers(1, 3), SCRIPT)
def test_a_shard_that_kills_is_given_up_and_all_others_are_whole(
    sizes: list[int], replicas: int, script: list[tuple[int, int]]
) -> None:
    world = World(sizes, replicas, max_attempts=2)
    deaths = [step for step in script if step[0] == 7]
    world.play([(kind, number) for kind, number in CALM[:3] * replicas])  # every replica steps before the first dies
    world.play([step for step in script if step[0] != 7])
    world.play(deaths[: 2 * world.scheduler.replicas_wanted - 1])  # more of them might be at their start, each one
    world.calm_down()
    assert world.scheduler.finished
    for shard in world.shards:
        assert world.whole(shard.index) != (shard.index in world.given_up)


@given(SIZES, st.integers(1, 4), SCRIPT, st.integers(0, 5))
def test_a_resumed_run_commits_what_is_missing_and_nothing_else(
    sizes: list[int], replicas: int, script: list[tuple[int, int]], seed: int
) -> None:
    world = World(sizes, replicas, max_attempts=1000)
    world.play(script)
    before = {shard: list(fragments) for shard, fragments in world.committed.items()}
    done = [shard for shard in before if world.whole(shard)]
    again = World(sizes, 1 + seed % 3, max_attempts=1000)
    keys = [(fragment.shard, fragment.index) for fragments in before.values() for fragment in fragments]
    again.scheduler = Scheduler(again.shards, replicas=1 + seed % 3, max_attempts=1000, done=done, committed=keys)
    again.committed, again.replicas, again.finished = before, {}, 0
    again.act(again.scheduler.start())
    again.play(CALM)
    assert again.finished == 1
    assert all(again.whole(shard.index) for shard in again.shards)


@given(st.integers(2, 5), st.integers(1, 40), st.integers(1, 1000))
def test_no_replica_takes_more_than_its_share_and_one_shard(replicas: int, count: int, unfed: int) -> None:
    world = World([7] * count, replicas, max_attempts=3)
    hungry = Demand(wanted_entities=unfed, shards_ahead=0, rows_free=10**9)
    for name in range(replicas):
        world.replicas[name].ready = True
        world.act(world.scheduler.handle(ReplicaReady(name, hungry)))
        assert len(world.replicas[name].leases) <= -(-count // replicas)
