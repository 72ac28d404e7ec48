"""The timeline: what is kept of a run, how much of it, and that it never stands in the run's way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Assign
from cluster.core.schedule.events import (
    Demand,
    Event,
    FragmentStaged,
    ReplicaLost,
    ReplicaReady,
    ReplicaReported,
    ShardBroken,
)
from cluster.run_errors import LockLost, NotLanded
from cluster.runtime.commit.commit import NOW, TIMELINE, Commits
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.watch.progress import Progress, ProgressRate, count_stragglers
from cluster.runtime.watch.timeline import BATCH_S, Moment, Timeline, WatchedScheduler, read_now, read_timeline

HUNGRY = Demand(wanted_entities=10, shards_ahead=0, rows_free=10**9)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


@pytest.fixture
def timeline(store: LocalStore, clock: Clock) -> Timeline:
    return Timeline(Commits(store), "night", clock)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of a run, whoever has set it up before."""
    log = logging.getLogger("slotcar")
    kept, log.propagate = log.propagate, True
    with caplog.at_level(logging.INFO, logger="slotcar"):
        yield caplog
    log.propagate = kept


def watched(timeline: Timeline, shards: int, **options: Any) -> WatchedScheduler:
    """A scheduler of shards of one entity with 9 rows; started."""
    plan = [Shard(index, 1, 9, 9, streamed=False) for index in range(shards)]
    scheduler = WatchedScheduler(plan, **{"replicas": 1, "max_attempts": 2, **options})
    scheduler.timeline = timeline
    scheduler.start()
    return scheduler


def staged(shard: int, attempt: int = 1) -> Fragment:
    return Fragment(shard, 0, attempt, True, "file", "staged", 9, 1, "", None, None)


def play(scheduler: WatchedScheduler, events: Sequence[Event]) -> None:
    for event in events:
        scheduler.handle(event)


def progress(**changes: int) -> Progress:
    return Progress(**{**dict.fromkeys(Progress.__dataclass_fields__, 0), "replicas": 2, "slots": 10, **changes})


def names(store: LocalStore) -> list[str]:
    return [line["event"] for line in read_timeline(store)]


def test_a_death_and_a_retry_can_be_read_back(timeline: Timeline, store: LocalStore, clock: Clock) -> None:
    scheduler = watched(timeline, 2)
    clock.now_s += 3
    play(scheduler, [ReplicaReady(0, HUNGRY), FragmentStaged(0, staged(0)), ReplicaLost(0, "killed")])
    play(scheduler, [ReplicaReady(1, HUNGRY), FragmentStaged(0, staged(1)), FragmentStaged(1, staged(1, 2))])
    timeline.end("done", Moment(progress(), []))
    lines = list(read_timeline(store))
    assert [line["event"] for line in lines] == [
        *("session", "start", "ready", "assign", "assign", "commit", "lost", "start", "ready", "assign"),
        *("discard", "commit", "finish", "sample", "end"),
    ]
    assert [(line["shard"], line["attempt"]) for line in lines if line["event"] == "assign"] == [(0, 1), (1, 1), (1, 2)]
    assert lines[0]["at_s"] == 1000.0
    assert lines[2]["at_s"] == 1003.0
    assert {line["session"] for line in lines} == {0}


def test_every_transition_is_one_line_of_the_log_and_what_costs_work_is_a_warning(
    timeline: Timeline, said: pytest.LogCaptureFixture
) -> None:
    scheduler = watched(timeline, 1)
    play(scheduler, [ReplicaReady(0, HUNGRY), ReplicaLost(0, "killed"), ReplicaReady(1, HUNGRY)])
    play(scheduler, [ReplicaLost(1, "killed again")])
    assert "run night: shard 0, attempt 1, goes to replica 0" in said.messages
    loud = [record.getMessage() for record in said.records if record.levelno >= logging.WARNING]
    assert loud == [
        "run night: replica 0 is lost: killed",
        "run night: shard 0, attempt 2, goes to replica 1",
        "run night: replica 1 is lost: killed again",
        "run night: shard 0, attempt 2, is given up: the shard lost 2 replicas, the last one to: killed again",
    ]


def test_a_broken_shard_says_why_the_run_cannot_go_on(timeline: Timeline, said: pytest.LogCaptureFixture) -> None:
    scheduler = watched(timeline, 1)
    scheduler.handle(ShardBroken(0, "a file is broken"))
    assert said.messages[-1] == "run night: the run cannot go on: a file is broken"


def test_a_night_of_a_million_entities_stays_under_10000_lines(
    timeline: Timeline, store: LocalStore, clock: Clock, said: pytest.LogCaptureFixture
) -> None:
    """A thousand shards of a thousand entities, on 50 replicas, in nine hours; replicas report twice a second."""
    scheduler, moment = watched(timeline, 1000, replicas=50), Moment(progress(), [Counters(steps=1)])
    queue: list[Assign] = []
    for number in range(50):
        queue += [one for one in scheduler.handle(ReplicaReady(number, HUNGRY)) if isinstance(one, Assign)]
    while queue:
        lease = queue.pop(0)
        for _ in range(65):
            clock.now_s += 0.5
            timeline.tick(moment)
            scheduler.handle(ReplicaReported(lease.replica, Demand(0, 2, 0)))
        scheduler.handle(FragmentStaged(lease.replica, staged(lease.shard)))
        queue += [
            one
            for one in scheduler.handle(ReplicaReported(lease.replica, Demand(0, 0, 10**9)))
            if isinstance(one, Assign)
        ]
    timeline.end("done", moment)
    assert scheduler.finished
    assert clock.now_s - 1000 > 8.9 * 3600
    assert 2000 < len(said.records) < 10_000
    assert len(list(read_timeline(store))) < 10_000
    assert len(store.list(TIMELINE)) <= (clock.now_s - 1000) / BATCH_S + 2


def test_lines_wait_for_their_batch(timeline: Timeline, store: LocalStore, clock: Clock) -> None:
    timeline.tick(Moment(progress(), []))
    assert store.list(TIMELINE) == []
    clock.now_s += BATCH_S
    timeline.tick(Moment(progress(), []))
    assert names(store) == ["session", "sample", "sample"]


def test_a_driver_says_where_it_is_every_few_seconds(timeline: Timeline, store: LocalStore, clock: Clock) -> None:
    assert read_now(store) is None
    clock.now_s += 5
    timeline.tick(Moment(progress(rows_done=7), []))
    assert read_now(store) == progress(rows_done=7)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"rows": 1}'])
def test_what_cannot_be_read_of_it_is_nothing(store: LocalStore, content: bytes) -> None:
    store.write(NOW, content)
    store.write(f"{TIMELINE}/00000001-00000.jsonl", b'{"event": "start"}\n{"event": "st')
    assert read_now(store) is None
    assert names(store) == ["start"]


class Failing(LocalStore):
    """A store that writes nothing."""

    def write(self, name: str, content: bytes) -> None:
        raise NotLanded("No space.")


class Lost:
    """The fence of a driver that was overtaken."""

    number = 3

    def check(self) -> None:
        raise LockLost("Another driver has it.")


def test_a_store_that_fails_costs_lines_and_nothing_else(
    tmp_path: Path, clock: Clock, said: pytest.LogCaptureFixture
) -> None:
    timeline = Timeline(Commits(Failing(str(tmp_path))), "night", clock)
    for _ in range(3):
        clock.now_s += BATCH_S
        timeline.tick(Moment(progress(), []))
    assert said.messages == ["run night: its timeline has gaps: No space."]


def test_a_driver_that_was_overtaken_writes_nothing(store: LocalStore, clock: Clock) -> None:
    timeline = Timeline(Commits(store, Lost()), "night", clock)
    with pytest.raises(LockLost):
        timeline.flush()
    assert store.list(TIMELINE) == []


def test_clearing_an_output_takes_the_timeline_along(timeline: Timeline, store: LocalStore) -> None:
    timeline.flush()
    store.write(NOW, json.dumps({}).encode())
    Commits(store).clear()
    assert names(store) == []
    assert not store.exists(NOW)


def test_the_line_says_what_a_watcher_wants_to_know() -> None:
    pace = ProgressRate()
    begin = progress(rows_total=1000, shards_total=4, slot_steps=100, slot_steps_busy=100, replicas_wanted=3)
    later = progress(
        rows_done=100, rows_total=1000, shards_done=1, shards_total=4, replicas_wanted=3, slot_steps=300,
        slot_steps_busy=200, stragglers=1, replica_deaths=1, retries=2,
    )  # fmt: skip
    assert pace.line(begin, 0.0).endswith("slots in use 20/20 · time left unknown")
    assert pace.line(later, 10.0) == (
        "rows 100/1,000 · shards 1/4 · entities 0/0 · 10 rows/s · replicas 2/3 · slots in use 10/20 · 1 straggler · "
        "1 death · 2 retries · 1 min 30 s left"
    )


def test_a_straggler_is_twice_as_slow_as_most() -> None:
    assert count_stragglers([]) == count_stragglers([9.0]) == count_stragglers([1.0, 1.1, 0.9]) == 0
    assert count_stragglers([1.0, 1.1, 2.5, 0.9]) == 1
