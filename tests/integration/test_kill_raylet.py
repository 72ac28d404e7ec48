"""The kill grid's nodes: `kill -9` of the raylet of a worker node, in each phase of a real run on several nodes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from cluster.runtime.fleet.fleet import Fleet
from cluster.runtime.run.run import score
from tests.harness.nodes import HEAD
from tests.kills.kill_grid import grid, request_in, tidy, undisturbed
from tests.kills.killing import Trigger, watched, watched_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return undisturbed(tmp_path_factory.mktemp("grid"))


@pytest.mark.parametrize("phase", grid(quick="writing"))
def test_killed_raylet_during(phase: str, case: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert not ray.is_initialized(), "the embedded cluster of another test is still up"
    nodes = Nodes(initialize_head=True, head_node_args=HEAD)
    workers = [nodes.add_node(num_cpus=1) for _ in range(3)]
    fleets: list[Fleet] = []

    def strike() -> None:
        # The node of the first replica that is ready, else the first node: its raylet dies, and its workers with it.
        chosen = fleets[0].infos[0].node_id if fleets and fleets[0].infos else workers[0].node_id
        victim = next(node for node in workers if node.node_id == chosen)
        for raylet in victim.all_processes["raylet"]:
            os.kill(raylet.process.pid, signal.SIGKILL)

    trigger = Trigger(phase, strike)
    try:
        request = request_in(case, output, nodes.address)
        score(request, open_cluster=watched(trigger, fleets), open_store=watched_store(trigger))
    finally:
        nodes.shutdown()
    assert trigger.struck
    assert tidy(output) == case[1]
