"""The fleet on a real Ray cluster: which shards go with which call to a replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Fleet
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.replica.pipeline import Counters, PollReport
from cluster.runtime.replica.replica_actor import NOTHING, Lease, ReplicaInfo, Sources

pytestmark = [pytest.mark.ray, pytest.mark.timeout(60)]

READY = ReplicaInfo(pid=0, node="", node_id="", device="cpu", import_s=0, compile_s=0, versions={})


class Counting:
    """In place of a replica: counts the shards that came with a question as steps, the others as rows."""

    def __init__(self, spec: Any, model: bytes) -> None:
        self.counters = Counters()

    def info(self) -> ReplicaInfo:
        return READY

    def begin(self, sources: Any) -> ReplicaInfo:
        return READY

    def assign(self, lease: Lease) -> None:
        self.counters.rows += 1

    def poll(self, timeout_s: float, leases: Sequence[Lease]) -> PollReport:
        self.counters.steps += len(leases)
        return PollReport((), NOTHING, Counters(**vars(self.counters)))


class CountingFleet(Fleet):
    actor_class = Counting


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connected(ClusterSettings(replicas=1)):
        yield


@pytest.fixture
def fleet(cluster: None) -> Iterator[Fleet]:
    """One replica that is about to begin."""
    made = CountingFleet(None, b"", ClusterSettings(replicas=1))  # type: ignore[arg-type]  # nobody looks at it
    made.start(0)
    made.begin(Sources(None))  # type: ignore[arg-type]  # nor at the files
    yield made
    made.stop()


def counted(fleet: Fleet, shards: int) -> tuple[int, int]:
    """How many came with a question and how many by themselves, once so many have come."""
    while True:
        for answer in fleet.answers(10):
            if answer.report and answer.report.counters.steps + answer.report.counters.rows == shards:
                return answer.report.counters.steps, answer.report.counters.rows


def test_what_an_answer_earns_goes_with_the_next_question(fleet: Fleet) -> None:
    shards = [Shard(index, 1, 1, 1, streamed=False) for index in range(2)]
    ready = False
    while not ready:
        for answer in fleet.answers(10):
            ready = answer.ready is not None
            for shard in shards if ready else ():
                fleet.assign(0, shard, 1, 0)
    assert counted(fleet, 2) == (2, 0)


def test_what_comes_while_a_question_is_under_way_goes_by_itself(fleet: Fleet) -> None:
    while not list(filter(lambda answer: answer.ready, fleet.answers(10))):
        pass
    fleet.assign(0, Shard(0, 1, 1, 1, streamed=False), 1, 0)
    assert counted(fleet, 1) == (0, 1)
