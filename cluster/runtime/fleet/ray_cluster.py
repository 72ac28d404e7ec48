"""Where a run takes place: what `run` needs of a cluster, and the real one.

Tests bring another implementation, whose replicas live in the test's own process; the run's code is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Answer, Fleet
from cluster.runtime.fleet.preflight import check_nodes, check_room
from cluster.runtime.fleet.prometheus import PrometheusMetrics
from cluster.runtime.fleet.ray_session import connected, replica_count
from cluster.runtime.fleet.task_map import map_here_or_on_cluster
from cluster.runtime.plan.input_scan import Item, Value
from cluster.runtime.replica.node_check import NodeNeeds
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.replica.replica_actor import ReplicaSpec, Sources
from cluster.runtime.watch.timeline import Moment


class Replicas(Protocol):
    """The replicas of one run; see `fleet.Fleet`, the real ones."""

    @property
    def counters(self) -> list[Counters]:
        """What every replica has done, the dead ones included."""

    def start(self, replica: int) -> None:
        """Starts a replica; one that was started before its turn is left as it is."""

    def begin(self, sources: Sources) -> None:
        """The plan is there."""

    def assign(self, replica: int, shard: Shard, attempt: int, fragments: int) -> None:
        """Sends a shard to a replica, of which `fragments` fragments are committed."""

    def answers(self, timeout_s: float) -> Iterable[Answer]:
        """The answers that have come, waiting for the first of them; one is handled before the next is taken."""

    def stop(self) -> None:
        """Ends every replica."""


class Cluster(Protocol):
    """A place for a run."""

    def check(self, needs: NodeNeeds) -> None:
        """Raises ClusterRefused for what the cluster lacks, before any work."""

    def replica_count(self) -> int:
        """Replicas to start."""

    def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
        """The run's replicas, none of them started."""

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterable[Value]:
        """Like the builtin, in order."""

    def metrics(self, run_id: str) -> Callable[[Moment], None]:
        """Where the figures of a run go, told every few seconds."""


class RayCluster:
    """A connected Ray cluster."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._fleet: Fleet | None = None

    def check(self, needs: NodeNeeds) -> None:
        check_room(self._settings)
        if self._settings.address:  # the nodes of an embedded one are this machine, with this installation
            check_nodes(needs)

    def replica_count(self) -> int:
        return replica_count(self._settings)

    def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
        self._fleet = Fleet(spec, model, self._settings)
        return self._fleet

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterable[Value]:
        return map_here_or_on_cluster(function, items, self._fleet.avoided if self._fleet else ())

    def metrics(self, run_id: str) -> Callable[[Moment], None]:
        return PrometheusMetrics(run_id).show


@contextmanager
def ray_cluster(settings: ClusterSettings) -> Iterator[Cluster]:
    """A Ray cluster for the length of a run."""
    with connected(settings):
        yield RayCluster(settings)
