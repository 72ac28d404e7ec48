"""A driver that ends in the middle of a run, in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Answer
from cluster.runtime.fleet.ray_cluster import Cluster
from cluster.runtime.replica.replica_actor import ReplicaSpec
from tests.harness.inprocess import InProcessCluster, InProcessReplicas


class Broken(Exception):
    """The driver ends here."""


class BreakingReplicas(InProcessReplicas):
    """Breaks the run when it has handed out `at_fragment` fragments."""

    at_fragment = 1
    seen = 0

    def answers(self, timeout_s: float) -> list[Answer]:
        if self.seen >= self.at_fragment:
            raise Broken
        found = super().answers(timeout_s)
        self.seen += sum(len(answer.report.fragments) for answer in found if answer.report)
        return found


def breaking(at_fragment: int) -> Any:
    """For `score(request, open_cluster=...)`: raises `Broken` when `at_fragment` fragments were handed out."""

    class BreakingCluster(InProcessCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
            made = BreakingReplicas(spec, model)
            made.at_fragment = at_fragment
            return made

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        yield BreakingCluster(settings)

    return opened
