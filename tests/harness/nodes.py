"""A real cluster of several nodes on this machine, with its job API: for tests that kill nodes and add others."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import requests
from ray.cluster_utils import Cluster

from tests.paths import ROOT

ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a job says `python`
    "PYTHONPATH": str(ROOT),
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_metrics_report_interval_ms": "500",
    "RAY_health_check_period_ms": "500",  # a dead node is missed sooner
    "RAY_health_check_failure_threshold": "4",
}

# Where only drivers are. With a fixed port of its dashboard, which another cluster has, Ray leaves a socket open.
HEAD = {"num_cpus": 0, "dashboard_port": 0}


@contextmanager
def running(workers: int) -> Iterator[Cluster]:
    """A head without CPUs, which is where jobs' drivers run, and workers with one each.

    This process must not connect to it: whether calls carry a token is settled in a process by its first cluster, and
    one that is asked in vain whether its actors are still wanted loses them.
    """
    kept = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    # Free ports everywhere: with a fixed one the job agent of a second cluster on the machine is silently missing.
    head = {**HEAD, "include_dashboard": True, "dashboard_agent_listen_port": 0}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": folder.name})
    # Ray sends a job's driver to the cluster that its folder names, by default to the one that was started last on the
    # machine: in a folder of its own that is this one, whatever other tests start meanwhile.
    ray._private.utils.write_ray_address(cluster.gcs_address, folder.name)
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()
        folder.cleanup()
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def dashboard(cluster: Any) -> str:
    """The address of the job API."""
    return f"http://{cluster.head_node.webui_url}"


def scraped(cluster: Any) -> str:
    """What Prometheus would read from every node."""
    nodes = [cluster.head_node, *cluster.worker_nodes]
    return "".join(
        requests.get(f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics", timeout=30).text
        for node in nodes
    )
