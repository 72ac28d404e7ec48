"""Runs on a Ray that lacks a private part: `python -m tests.harness.lacking_ray FOLDER PART...`.

A part is a function of `ray_private`; what it needs is taken away on Ray itself, for one run. Where Ray has a use for
it too, it is gone for everybody but Ray's own modules, as if it had another name there. FOLDER has the pickled request
of each run, PART.request; what the run's log warns of goes to PART.log. Parts that are missed only while Ray runs share
one Ray; each of the others wants a process of its own.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import exceptions as rex

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Answer, Fleet
from cluster.runtime.fleet.ray_cluster import Cluster, RayCluster, Replicas, ray_cluster
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.replica.replica_actor import ReplicaSpec
from cluster.runtime.run.run import score

TakeAway = Callable[[pytest.MonkeyPatch], None]


def gone(owner: Any, name: str) -> TakeAway:
    """Nobody has it any more; Ray itself makes no use of it in a run."""
    return lambda patch: patch.delattr(owner, name)


def gone_for_us(module: Any, name: str) -> TakeAway:
    """Only Ray's own modules find it in this one."""

    def take_away(patch: pytest.MonkeyPatch) -> None:
        kept = getattr(module, name)

        def found(asked: str) -> Any:
            if asked == name and sys._getframe(1).f_globals["__name__"].startswith("ray."):
                return kept
            raise AttributeError(f"module {module.__name__} has no attribute {asked}")

        patch.delattr(module, name)
        patch.setattr(module, "__getattr__", found, raising=False)

    return take_away


AT_START = {
    "job_config": gone_for_us(ray.job_config, "JobConfig"),
    "on_loopback": gone_for_us(ray._private.ray_constants, "ENABLE_RAY_CLUSTER"),
    "set_worker_niceness": gone_for_us(ray._private.ray_constants, "RAY_WORKER_NICENESS"),
    "renew_token": gone_for_us(ray._private.authentication, "authentication_token_setup"),
    "without_exporter": gone_for_us(ray._private.utils, "get_dashboard_dependency_error"),
    "without_monitors": gone_for_us(ray._private.parameter, "RayParams"),
}
WHILE_IT_RUNS = {
    "autoscaler_growth": gone(type(ray._private.state.state), "get_max_resources_from_cluster_config"),
    "draining_nodes": gone(type(ray._private.state.state), "get_draining_nodes"),
    "was_preempted": gone(rex.RayActorError, "preempted"),
}


class LosingFleet(Fleet):
    """Loses its first replica, as the kernel would end it, once it is ready: Ray is asked why."""

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        for answer in super().answers(timeout_s):
            if answer.ready is not None and answer.replica == 0:
                os.kill(answer.ready.pid, signal.SIGKILL)
            yield answer


class LosingCluster(RayCluster):
    def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
        return LosingFleet(spec, model, self._settings)


@contextmanager
def losing_a_replica(settings: ClusterSettings) -> Iterator[Cluster]:
    """For `score(request, open_cluster=losing_a_replica)`."""
    with ray_cluster(settings):
        yield LosingCluster(settings)


def run_without(part: str, folder: Path) -> None:
    log, handler = logging.getLogger("slotcar"), logging.FileHandler(folder / f"{part}.log")
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        {**AT_START, **WHILE_IT_RUNS}[part](patch)
        request = pickle.loads((folder / f"{part}.request").read_bytes())
        score(request, open_cluster=losing_a_replica if part == "was_preempted" else ray_cluster)
    log.removeHandler(handler)


def main(folder: Path, parts: Sequence[str]) -> None:
    if set(parts) & set(AT_START):
        (part,) = parts
        return run_without(part, folder)
    with connected(ClusterSettings(replicas=1)):
        for part in parts:
            run_without(part, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
