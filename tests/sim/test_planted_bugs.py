"""Each bug that the commit protocol exists for, planted on purpose: the simulation must see every one of them.

A planted bug is a small class in the place of one part of the system. What must be seen is a violation that a checker
or the system itself asserts, within a bounded number of seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cluster.core.commit import STAGED, Recovery
from cluster.core.schedule.actions import Action
from cluster.core.schedule.events import FragmentStaged
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import Lock
from tests.sim.options import Options, draw
from tests.sim.replicas import Cut, SimReplica, Work, packed
from tests.sim.world import CheckedScheduler, Parts, World

SEEDS_MAX = 200


class RecordBeforeRows(SimReplica):
    """Tells of a fragment, which is its commit, before its rows are there."""

    def stage(self, cut: Cut) -> None:
        self.fragments.append(cut.fragment)
        self._tell()
        self.kernel.after(2.0, lambda: self._guarded(lambda: self._stage_late(cut)))

    def _stage_late(self, cut: Cut) -> None:
        super().stage(cut)
        self.fragments.remove(cut.fragment)


class RowsNotDurable(SimReplica):
    """Tells of rows that are written and not synced."""

    def stage(self, cut: Cut) -> None:
        for name, content in cut.files:
            self.store.stage(name, content)
        self.fragments.append(cut.fragment)
        self._tell()


class PublishBeforeRecord(Commits):
    """Shows the rows, then records them."""

    def commit(self, fragment: object) -> None:
        self.publish(fragment)  # type: ignore[arg-type]
        super().commit(fragment)  # type: ignore[arg-type]


class NoFencingOfAttempts(CheckedScheduler):
    """Takes whatever fragment comes next, whoever staged it."""

    def _staged(self, event: FragmentStaged) -> list[Action]:
        fragment, holder = event.fragment, self._leases.get(event.fragment.shard)
        if holder is None or fragment.index != self._fragments[fragment.shard]:
            return []
        fenced = replace(fragment, attempt=self.attempts[fragment.shard])
        return super()._staged(FragmentStaged(holder, fenced))


class TrustsTheListing(Commits):
    """Takes a staged file for a commit."""

    def recover(self) -> Recovery:
        recovery = super().recover()
        parts = [name for name in self.store.list(STAGED) if name.startswith("part-")]
        listed = {(int(name[5:11]), int(name[12:17])) for name in parts}
        known = {shard for shard, _ in recovery.committed} | {shard for shard, _ in listed}
        indexes = recovery.committed | listed
        gapless = {(s, i) for s, i in indexes if all((s, before) in indexes for before in range(i))}
        assert known >= {shard for shard, _ in gapless}
        return replace(recovery, committed=frozenset(gapless))


class TrustsTheOutputsListing(Commits):
    """Takes a shard for done when a file of it is visible."""

    def recover(self) -> Recovery:
        recovery = super().recover()
        shown = {int(name[5:11]) for name in self.store.list("") if name.startswith("part-")}
        return replace(recovery, done=recovery.done | shown)


class SnapshotTooEarly(SimReplica):
    """The snapshot counts all rows of its fragment, and holds the states before the last step."""

    def snapshot(self, work: Work) -> bytes:
        before = {entity: rows[-2][2] if len(rows) > 1 else work.state[entity] for entity, rows in work.fresh.items()}
        return packed([(entity, work.done[entity], before.get(entity, work.state[entity])) for entity in work.done])


class SnapshotShort(SimReplica):
    """The snapshot was taken a row before the fragment ended."""

    def snapshot(self, work: Work) -> bytes:
        short = [entity for entity, rows in work.fresh.items() if len(rows) > 1]
        done = {entity: rows - (entity in short) for entity, rows in work.done.items()}
        state = {entity: work.fresh[entity][-2][2] if entity in short else work.state[entity] for entity in work.done}
        return packed([(entity, done[entity], state[entity]) for entity in done])


class CarryShort(SimReplica):
    """Leaves the state before the last row behind."""

    def leave(self, work: Work, *, final: bool) -> None:
        before = {entity: rows[-2][2] for entity, rows in work.fresh.items() if len(rows) > 1}
        super().leave(work, final=final)
        work.left_behind = [(entity, rows, before.get(entity, state)) for entity, rows, state in work.left_behind]


class CarryOfAllAtTheEnd(SimReplica):
    """Leaves what all entities leave behind with the last fragment: what an earlier attempt had is forgotten."""

    def leave(self, work: Work, *, final: bool) -> None:
        ended = work.ended
        super().leave(work, final=final)
        if not final:
            work.ended, work.left_behind = ended, []


class CarryMarkedFirst(Commits):
    """Marks the carry-over as whole before the shards are."""

    def claim_carry(self, run_id: str, identity: str) -> None:
        super().claim_carry(run_id, identity)
        if self.carry is not None:
            self.succeed_carry(b"{}")


class NoFence(Lock):
    """A driver that never looks whether it still holds the lock."""

    def check(self) -> None:
        """Believes it."""


@dataclass(frozen=True)
class Planted:
    """A bug, and the weather in which it shows most often."""

    parts: Parts
    storm: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)

    def play(self, seeds: Iterable[int]) -> None:
        for seed in seeds:
            self._play(seed)

    def _play(self, seed: int) -> None:
        options = draw(random.Random(seed))
        storm, sizes = replace(options.storm, **self.storm), replace(options.sizes, **self.sizes)
        World(seed, self.parts, Options(sizes, storm)).run()


ZOMBIES: dict[str, Any] = {"lasts_s": 60.0, "parted": 0.1}
LONG: dict[str, Any] = {"checkpoint": 0.3, "shard_rows": 20, "max_attempts": 6}
OVERTAKEN: dict[str, Any] = {"lasts_s": 100.0, "pause": 0.02, "rival": 0.1}

PLANTED = {
    "record before rows": Planted(Parts(replica=RecordBeforeRows)),
    "rows not durable": Planted(Parts(replica=RowsNotDurable)),
    "publish before record": Planted(Parts(commits=PublishBeforeRecord)),
    "no fencing of attempts": Planted(Parts(scheduler=NoFencingOfAttempts), ZOMBIES, LONG),
    "resume trusts staged files": Planted(Parts(commits=TrustsTheListing)),
    "resume trusts visible files": Planted(Parts(commits=TrustsTheOutputsListing)),
    "snapshot of the wrong state": Planted(Parts(replica=SnapshotTooEarly)),
    "snapshot before the last row": Planted(Parts(replica=SnapshotShort)),
    "carry-over before the last row": Planted(Parts(replica=CarryShort), sizes={"carry": True}),
    "carry-over in the last fragment only": Planted(
        Parts(replica=CarryOfAllAtTheEnd), ZOMBIES, {**LONG, "carry": True}
    ),
    "carry-over marked first": Planted(Parts(commits=CarryMarkedFirst), sizes={"carry": True}),
    "lock without fencing": Planted(Parts(lock=lambda lock: NoFence(lock._store, lock._claim)), OVERTAKEN, LONG),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_simulation_sees_the_planted_bug(bug: str) -> None:
    with pytest.raises(AssertionError):
        PLANTED[bug].play(range(SEEDS_MAX))


@pytest.mark.parametrize("storm", [{}, ZOMBIES, OVERTAKEN], ids=["any", "zombies", "overtaken"])
def test_without_a_bug_the_same_weather_does_no_harm(storm: dict[str, Any]) -> None:
    Planted(Parts(), storm, LONG if storm else {}).play(range(50))
