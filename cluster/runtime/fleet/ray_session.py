"""The connection to a cluster: an embedded one on this machine, or one that exists.

What it decides: how an embedded Ray is started (loopback only, nothing that only watches, workers at the driver's own
nice level, its files and its token for nobody else) and how many replicas the cluster is good for when nobody said.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypedDict

import ray

from cluster.core.settings import ClusterSettings
from cluster.run_errors import ClusterRefused, RunFailed, first_line
from cluster.runtime.fleet.embedded_ray import kept_to_itself
from cluster.runtime.fleet.ray_private import (
    draining_nodes,
    job_config,
    on_loopback,
    set_worker_niceness,
    without_exporter,
    without_monitors,
)
from cluster.runtime.replica.memory_allocator import allocator_environment
from lstm_core.own_packages import workers_path

STARTS_AGAIN = "the same command tries again, and cluster.address names a Ray that runs already"


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[None]:
    """A connection for the length of a run; an embedded cluster ends with it, one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    with ExitStack() as around:
        folder = None if settings.address else around.enter_context(kept_to_itself())
        with _handlers_kept():
            _connect(settings, folder)
        around.callback(ray.shutdown)
        yield


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself, and would end the process without a word in run.json."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _connect(settings: ClusterSettings, folder: str | None) -> None:
    if folder is not None:
        _start(settings, folder)
        return
    try:
        ray.init(
            address=settings.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            job_config=job_config(workers_path()),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterRefused(
            f"No Ray cluster answers at cluster.address = {settings.address!r}: {first_line(error)}; start one, or "
            "leave the address empty for an embedded one."
        ) from None


def _start(settings: ClusterSettings, folder: str) -> None:
    """An embedded Ray, which keeps its files in `folder`. Raises RunFailed."""
    set_worker_niceness()
    os.environ.update(allocator_environment())
    try:
        with on_loopback(), without_monitors(), without_exporter():
            ray.init(
                address="local",
                num_cpus=embedded_cpus(settings),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=job_config(workers_path()),
                _temp_dir=folder,
            )
    except Exception as error:  # Ray has no class of its own for it
        raise RunFailed(
            f"An embedded Ray does not start on this machine: {first_line(error)}; {STARTS_AGAIN}."
        ) from error


def cluster_resources() -> dict[str, float]:
    """What the cluster has in all, by resource name."""
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]  # Ray leaves it untyped


class RayNode(TypedDict):
    """What is used of what Ray says of a node."""

    NodeID: str
    NodeManagerHostname: str
    Alive: bool
    Resources: dict[str, float]


@dataclass(frozen=True)
class Nodes:
    """What the cluster's nodes amount to for a run."""

    room: int  # replicas that fit, whoever else uses the nodes
    wanted: int  # as asked for, else as many as fit
    draining: frozenset[str]  # ids of nodes that have been told to leave


def avoid_nodes(avoided: Collection[str]) -> dict[str, dict[str, str]]:
    """Options of an actor or a task that is not to run on nodes of these ids."""
    return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}} if avoided else {}


def look_at_nodes(settings: ClusterSettings, avoided: Collection[str] = ()) -> Nodes:
    """The cluster as it is now; nodes that are about to leave have no room, and neither have those to avoid."""
    draining = draining_nodes()
    nodes = [node for node in alive_nodes() if node["NodeID"] not in draining and node["NodeID"] not in avoided]
    room = sum(replicas_that_fit(node["Resources"], settings) for node in nodes)
    return Nodes(room, settings.replicas or max(room, 1), draining)


def alive_nodes() -> list[RayNode]:
    """Ray's own view of the nodes that are there."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def replicas_that_fit(resources: Mapping[str, float], settings: ClusterSettings) -> int:
    """Replicas that fit on a node, or in a cluster, of these resources."""
    needs = {"CPU": settings.cpus_per_replica, "GPU": settings.gpus_per_replica}
    counts = [int(resources.get(name, 0) / need + 1e-9) for name, need in needs.items() if need]
    return min(counts, default=settings.replicas or 1)


def embedded_cpus(settings: ClusterSettings) -> int:
    """CPUs of an embedded cluster: the machine's, or as many as the replicas that were asked for want."""
    wanted = (settings.replicas or 1) * settings.cpus_per_replica
    return max(os.cpu_count() or 1, int(-(-wanted // 1)))


def replica_count(settings: ClusterSettings) -> int:
    """Replicas to start: as asked for, else one per GPU of the cluster, or per CPU where it has none."""
    if settings.replicas:
        return settings.replicas
    resources = cluster_resources()
    if settings.gpus_per_replica and resources.get("GPU"):
        return max(1, int(resources["GPU"] / settings.gpus_per_replica))
    return max(1, int(resources.get("CPU", 1) / max(settings.cpus_per_replica, 1)))
