"""Before any work: what a cluster lacks for a run, one sentence each.

What it decides: a run is refused where no node could ever hold one of its replicas, and where a node is unfit. A
cluster that may grow is believed to bring what its configuration says. One small task looks at each node, and tries to
write where the run does; a node that goes meanwhile is none of the run's, and one that comes later is looked at by the
first replica on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.core.settings import ClusterSettings
from cluster.run_errors import ClusterRefused, RunFailed, StoreFault, WorkerLost, first_line
from cluster.runtime.fleet.ray_errors import task_value
from cluster.runtime.fleet.ray_private import autoscaler_growth
from cluster.runtime.fleet.ray_session import alive_nodes, replicas_that_fit
from cluster.runtime.replica.node_check import NodeNeeds, NodeReport, look_at_node, why_unfit
from cluster.runtime.storage.open_store import open_store

if TYPE_CHECKING:
    from ray import ObjectRef


def check_room(settings: ClusterSettings) -> None:
    """Raises ClusterRefused where no replica can ever be placed."""
    offers = [dict(node["Resources"]) for node in alive_nodes()]
    refusal = lack_of_room(offers, autoscaler_growth(), settings)
    if refusal:
        raise ClusterRefused(refusal)


def lack_of_room(
    offers: Sequence[Mapping[str, float]], may_grow_to: Mapping[str, float] | None, settings: ClusterSettings
) -> str | None:
    """The sentence where neither a node nor what the cluster may grow to has room for one replica."""
    everything = [*offers, may_grow_to or {}]
    if any(replicas_that_fit(resources, settings) for resources in everything):
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


def check_nodes(needs: NodeNeeds) -> None:
    """Raises ClusterRefused for the first node that differs from this process, or cannot see or write what it can."""
    remote = ray.remote(look_at_node)
    asked = []
    for node in alive_nodes():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = node["NodeManagerHostname"]
        options = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=place)
        asked.append((name, options.remote(name, needs)))
    refusals = [_refusal(name, ref, needs) for name, ref in asked]
    for refusal in filter(None, refusals):
        _leave_no_trace(needs)
        raise ClusterRefused(refusal)


def _leave_no_trace(needs: NodeNeeds) -> None:
    """Of a run that is refused: the folder that nodes tried to write in, where it is empty. None of them is at it now.

    Where the run goes on it stays: a node might still take it for there.
    """
    with suppress(StoreFault):  # the refusal is the one to tell
        open_store(needs.shared.place).drop_folder(needs.shared.tried)


def _refusal(name: str, ref: ObjectRef[NodeReport], needs: NodeNeeds) -> str | None:
    try:
        return why_unfit(task_value(ref), needs)
    except WorkerLost:
        return None  # the node has gone
    except RunFailed as fault:  # as where Slotcar itself is missing
        return f"Node {name} cannot work for the run ({first_line(fault)}): every node needs the driver's packages."
