"""Kills on purpose, at a known point of a real run: `kill -9` of a replica, of a node's raylet, or of the driver.

A point is a phase of the run as its driver, or the replica itself, goes through it. Nothing here waits for a time; the
process that reaches the point is the one that strikes, once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from cluster.core.commit import COMMITS, SUCCESS
from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Answer, Fleet
from cluster.runtime.fleet.ray_cluster import Cluster, RayCluster, Replicas, ray_cluster
from cluster.runtime.replica.pipeline import Pipeline
from cluster.runtime.replica.replica_actor import ReplicaActor, ReplicaInfo, ReplicaSpec, Sources
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.store import Store

PHASES = ("planning", "reading", "stepping", "writing", "committing", "finishing")

Strike = Callable[[], None]


def kill_this_process() -> None:
    """As the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)


class Trigger:
    """Strikes when its phase is reached, and never again."""

    def __init__(self, phase: str, strike: Strike) -> None:
        self._phase, self._strike = phase, strike
        self.struck = False

    def reached(self, phase: str) -> None:
        """Called wherever a phase begins."""
        if phase == self._phase and not self.struck:
            self.struck = True
            self._strike()


class WatchedFleet(Fleet):
    """A fleet that tells a trigger what its replicas do."""

    trigger: Trigger

    def assign(self, replica: int, shard: Shard, attempt: int, fragments: int) -> None:
        super().assign(replica, shard, attempt, fragments)
        self.trigger.reached("reading")

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        for answer in super().answers(timeout_s):
            if answer.report is not None and answer.report.counters.steps:
                self.trigger.reached("stepping")
            if answer.report is not None and answer.report.fragments:
                self.trigger.reached("writing")
            yield answer


class Watching:
    """Before a store's own methods: tells a trigger what the driver writes."""

    trigger: Trigger
    list: Any

    def publish(self, source: str, target: str) -> None:
        if self.list(COMMITS):
            self.trigger.reached("committing")  # the record is there, the fragment not in its place yet
        super().publish(source, target)  # type: ignore[misc]

    def write(self, name: str, content: bytes) -> None:
        if name == SUCCESS:
            self.trigger.reached("finishing")
        super().write(name, content)  # type: ignore[misc]


class WatchedCluster(RayCluster):
    """A cluster whose runs are watched."""

    def __init__(self, settings: ClusterSettings, trigger: Trigger, fleets: list[Fleet]) -> None:
        super().__init__(settings)
        self._trigger, self._fleets = trigger, fleets

    def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
        fleet = WatchedFleet(spec, model, self._settings)
        fleet.trigger = self._trigger
        self._fleets.append(fleet)
        return fleet

    def map(self, function: Callable[[str], Any], items: Sequence[str]) -> Iterable[Any]:
        self._trigger.reached("planning")
        return super().map(function, items)


def watched(trigger: Trigger, fleets: list[Fleet]) -> Any:
    """For `score(..., open_cluster=...)`."""

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        with ray_cluster(settings):
            yield WatchedCluster(settings, trigger, fleets)

    return opened


def watched_store(trigger: Trigger) -> Any:
    """For `score(..., open_store=...)`."""

    def opened(spec: StoreSpec) -> Store:
        store: Any = open_store(spec)
        store.__class__ = type("WatchedStore", (Watching, type(store)), {"trigger": trigger})
        return cast("Store", store)

    return opened


class DyingActor(ReplicaActor):
    """A replica that kills itself in a phase, once in the life of `mark`'s folder."""

    phase: str
    mark: Path

    def __init__(self, spec: ReplicaSpec, model: bytes) -> None:
        super().__init__(spec, model)
        self._die_in("planning")

    def begin(self, sources: Sources) -> ReplicaInfo:
        info = super().begin(sources)
        pipeline = self._pipeline
        assert pipeline is not None, "begun"
        feed: Any = pipeline._feed
        feed._reader.encode = self._dying("reading", feed._reader.encode)
        self._patch(pipeline)
        return info

    def _patch(self, pipeline: Pipeline) -> None:
        replica: Any = pipeline._model
        steps = iter(range(10**9))
        step = replica.step

        def counted(*arguments: Any) -> Any:
            if next(steps) == 20:
                self._die_in("stepping")
            return step(*arguments)

        replica.step = counted
        collect = pipeline._feed.collect
        pipeline._feed.collect = self._dying("writing", collect)  # type: ignore[method-assign]

    def _dying(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            result = call(*arguments)
            if phase != "writing" or result:
                self._die_in(phase)
            return result

        return wrapped

    def _die_in(self, phase: str) -> None:
        if phase != self.phase:
            return
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            return
        kill_this_process()
