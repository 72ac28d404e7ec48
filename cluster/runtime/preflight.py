"""Before any work: what a cluster lacks for a run, one sentence each.

What it decides: a run is refused where no node could ever hold one of its replicas, and where a node has other versions
of what a score depends on, lacks one of them, or does not see the output (for a training, the folder in which its input
is clustered). A cluster that may grow is believed to bring what its configuration says. One small task looks at each
node; a node that goes meanwhile is none of the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.core.lock import LOCK
from cluster.core.settings import ClusterSettings
from cluster.errors import ClusterRefused, RunFailed, StoreFault
from cluster.runtime.outcomes import task_value
from cluster.runtime.session import alive_nodes, fitting, growth
from cluster.runtime.storage.stores import StoreSpec, open_store

PACKAGES = ("slotcar", "tensorflow", "keras", "pyarrow", "numpy")


@dataclass(frozen=True)
class Shared:
    """A folder that every node must see, and what the driver keeps in it by the time the nodes look."""

    place: StoreSpec
    setting: str = "output.path"
    folder: str = LOCK
    kept: str = "lock"


@dataclass(frozen=True)
class NodeView:
    """What one node said."""

    name: str
    versions: Mapping[str, str | None]  # None where a package is missing
    fault: str | None  # why it does not see the folder


def check_room(settings: ClusterSettings) -> None:
    """Raises ClusterRefused where no replica can ever be placed."""
    offers = [dict(node["Resources"]) for node in alive_nodes()]
    refusal = lack_of_room(offers, growth(), settings)
    if refusal:
        raise ClusterRefused(refusal)


def lack_of_room(
    offers: Sequence[Mapping[str, float]], may_grow_to: Mapping[str, float] | None, settings: ClusterSettings
) -> str | None:
    """The sentence where neither a node nor what the cluster may grow to has room for one replica."""
    everything = [*offers, may_grow_to or {}]
    if any(fitting(resources, settings) for resources in everything):
        return None
    cpus, gpus = settings.cpus_per_replica, settings.gpus_per_replica
    if gpus and not any(resources.get("GPU") for resources in everything):
        return (
            f"cluster.gpus_per_replica is {gpus:g}, but no node of the cluster has a GPU: add GPU nodes, or leave the "
            "key out to score on CPUs."
        )
    most = {name: max((one.get(name, 0) for one in everything), default=0) for name in ("CPU", "GPU")}
    return (
        f"No node of the cluster can hold a replica of {cpus:g} CPUs and {gpus:g} GPUs: the largest has "
        f"{most['CPU']:g} CPUs and {most['GPU']:g} GPUs; lower cluster.cpus_per_replica or "
        "cluster.gpus_per_replica, or add larger nodes."
    )


def check_nodes(shared: Shared) -> None:
    """Raises ClusterRefused for the first node that differs from this process, or does not see the folder."""
    remote: Any = ray.remote(_look)
    mine = _versions()
    asked = []
    for node in alive_nodes():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append(
            remote.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(
                node["NodeManagerHostname"], shared
            )
        )
    for ref in asked:
        try:
            view: NodeView = task_value(ref)
        except RunFailed:
            continue  # the node has gone, and whoever comes instead is looked at by its replica
        refusal = unfit(view, mine, f"{shared.setting} {shared.place.url}")
        if refusal:
            raise ClusterRefused(refusal)


def unfit(view: NodeView, mine: Mapping[str, str | None], folder: str) -> str | None:
    """The sentence where a node cannot take part, or would give other scores."""
    for name, expected in mine.items():
        found = view.versions.get(name)
        if found is None:
            return f"Node {view.name} lacks {name}, expected {expected}: every node needs the driver's packages."
        if found != expected:
            return (
                f"Node {view.name} has {name} {found}, the driver {expected}: scores could differ in their last bits; "
                "give every node the same image."
            )
    if view.fault is not None:
        return (
            f"Node {view.name} does not see {folder} ({view.fault}): mount it at the same path on every "
            "node, or use a remote store that all of them reach."
        )
    return None


def _look(name: str, shared: Shared) -> NodeView:
    """Runs on the node."""
    return NodeView(name, _versions(), _fault(shared))


def _fault(shared: Shared) -> str | None:
    try:
        # The driver has written it by now: whoever sees the folder sees that.
        return None if open_store(shared.place).list(shared.folder) else f"the driver's {shared.kept} is not there"
    except StoreFault as fault:
        return str(fault).rstrip(".")


def _versions() -> dict[str, str | None]:
    found: dict[str, Any] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
