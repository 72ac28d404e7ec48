"""The driver's loop: wait, translate, handle, act.

Everything that is decided is decided by the scheduler; everything that is slow happens in replicas. No row and no score
passes through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Action, Assign, Commit, Discard, Fail, Finish, Quarantine, StartReplica
from cluster.core.schedule.events import Event, FragmentStaged, ReplicaReady, ReplicaReported
from cluster.core.schedule.scheduler import Scheduler
from cluster.run_errors import InputUnfit, RunFailed
from cluster.runtime.commit.commit import Commits
from cluster.runtime.fleet.fleet import Answer
from cluster.runtime.fleet.ray_cluster import Replicas
from cluster.runtime.fleet.ray_errors import MAY_MEET_IT_AGAIN, RESUMES, broken_shard

TICK_S = 0.5  # how often the progress line moves when nothing else happens


@dataclass
class Clock:
    """Wall-clock marks of a run, in seconds of `time.perf_counter`."""

    started: float = field(default_factory=time.perf_counter)
    first_ready: float | None = None
    last_commit: float | None = None
    commit_s: float = 0.0
    plan_s: float = 0.0
    shuffle_s: float = 0.0


@dataclass(frozen=True)
class Work:
    """What there is to do, and what to do with a shard that nobody can."""

    shards: dict[int, Shard]
    give_up: Callable[[Quarantine], Fragment]  # stages the quarantine of all its rows that are not committed


# What follows on a failure; said once, whoever has said so before.
STAYS = "; what is committed stays, and "
MEETS_IT_AGAIN = "the same command would meet this again"


class Driver:
    """Runs a plan to its end."""

    def __init__(self, work: Work, scheduler: Scheduler, replicas: Replicas, commits: Commits, clock: Clock) -> None:
        self._work = work
        self._scheduler, self._replicas, self._commits, self.clock = scheduler, replicas, commits, clock

    def run(self, tick: Callable[[], None]) -> None:
        """Returns when every shard is committed; raises `RunFailed` when that cannot be."""
        self._act_on(self._scheduler.start())
        while not self._scheduler.finished:
            for answer in self._replicas.answers(TICK_S):
                for event in translate(answer):
                    self._act_on(self._scheduler.handle(event))
            tick()

    def _act_on(self, actions: list[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case StartReplica(replica):
                self._replicas.start(replica)
            case Assign(replica, shard, attempt, fragments):
                self.clock.first_ready = self.clock.first_ready or time.perf_counter()
                self._replicas.assign(replica, self._work.shards[shard], attempt, fragments)
            case Commit(fragment):
                begin = time.perf_counter()
                self._commits.commit(fragment)
                self.clock.last_commit = time.perf_counter()
                self.clock.commit_s += self.clock.last_commit - begin
            case Discard(fragment, _):
                self._commits.discard(fragment)
            case Quarantine():
                self._commits.commit(self._work.give_up(action))
            case Fail(cause, again):
                raise _failure(cause.rstrip("."), again)
            case Finish():
                pass


def _failure(cause: str, again: bool | None) -> RunFailed:
    """The end of a run, with what its user may do."""
    if again:
        return InputUnfit(f"{cause}{STAYS}{MEETS_IT_AGAIN}.")
    return RunFailed(f"{cause.removesuffix(STAYS + RESUMES)}{STAYS}{MAY_MEET_IT_AGAIN if again is None else RESUMES}.")


def translate(answer: Answer) -> list[Event]:
    """What a replica's answer means for the scheduler."""
    if answer.failure is not None:
        return [answer.failure]
    if answer.ready is not None:
        return [ReplicaReady(answer.replica, answer.ready.demand)]
    report = answer.report
    assert report is not None, "an answer says something"
    events: list[Event] = [FragmentStaged(answer.replica, fragment) for fragment in report.fragments]
    if report.error is not None:
        return [*events, broken_shard(answer.replica, report.error)]
    return [*events, ReplicaReported(answer.replica, report.demand)]
