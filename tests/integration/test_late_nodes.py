"""Nodes that come late, and nodes that are about to leave, on real clusters.

One that comes when the others have been looked at, and is unfit, scores nothing, and the rest go on.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster as Nodes
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from cluster.core.commit import STAGED
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import ClusterRefused
from cluster.runtime.fleet.fleet import Answer, Fleet
from cluster.runtime.fleet.ray_cluster import Cluster, RayCluster, Replicas, ray_cluster
from cluster.runtime.fleet.ray_session import connected, look_at_nodes
from cluster.runtime.replica.replica_actor import ReplicaSpec, Sources
from cluster.runtime.run.run import score
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.watch.timeline import read_timeline
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job, run, tidy
from tests.harness.nodes import HEAD
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

pytestmark = pytest.mark.ray

REFUSED_S, HEARD_S = 120.0, 20.0
PREEMPTED = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
LATER_MS = 2**42  # when the node is to go
OTHER_VERSION = r"Node \S+ has numpy 0\.0\.1, the driver \S+: scores could differ in their last bits; give every node"
READ_ONLY = (
    r"Node \S+ cannot write to output\.path \S+ \(\S+/_slotcar/staged/probe\.\w+ could not be written "
    r"\(Read-only file system\)\): mount it for writing on every node"
)
# A mount that is read-only, as far as Python's own calls go: a real one needs privileges that a container lacks.
MOUNT = """
import errno, os, sys

def refuse(event, args):
    writes = event == "open" and not isinstance(args[0], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if (writes or event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir")) and args[0] is not None:
        if os.fsdecode(args[0]).startswith({folder!r}):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), args[0])

sys.addaudithook(refuse)
"""


class HeldFleet(Fleet):
    """Keeps what its replicas say until one of them is lost, so that the run does not end before the late node came."""

    nodes: Nodes
    packages: Path
    kept: list[Answer]
    late: Any

    def begin(self, sources: Sources) -> None:
        """The others have been looked at, and a second replica waits for room."""
        self.late = self.nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(self.packages)})
        self.kept = []
        super().begin(sources)

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        until = time.monotonic() + REFUSED_S
        while not self.avoided:
            assert time.monotonic() < until, "the late node was not refused"
            self.kept += super().answers(timeout_s)
        found, self.kept = self.kept, []
        yield from found or super().answers(timeout_s)


def lay_packages(folder: Path) -> None:
    """Another NumPy, as far as the metadata of what is installed tells."""
    there = folder / "packages/numpy-0.0.1.dist-info"
    there.mkdir(parents=True)
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")


def lay_mount(folder: Path) -> None:
    """A node whose folder can be read only, as each of its processes finds it."""
    (folder / "packages").mkdir()
    (folder / "packages/sitecustomize.py").write_text(MOUNT.format(folder=str(folder)))


def holding(nodes: Nodes, packages: Path, fleets: list[HeldFleet]) -> Any:
    """For `score(..., open_cluster=...)`."""

    class Holding(RayCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
            fleet = HeldFleet(spec, model, self._settings)
            fleet.nodes, fleet.packages = nodes, packages
            fleets.append(fleet)
            return fleet

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        with ray_cluster(settings):
            yield Holding(settings)

    return opened


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head without CPUs and one worker; whoever adds a node removes it."""
    started = Nodes(initialize_head=True, head_node_args=HEAD)
    started.add_node(num_cpus=1)
    yield started
    started.shutdown()


@pytest.mark.parametrize(
    ("spoil", "sentence"), [(lay_packages, OTHER_VERSION), (lay_mount, READ_ONLY)], ids=["version", "read-only"]
)
def test_a_late_node_that_is_unfit_is_refused_and_the_others_go_on(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(tmp_path)
    blob, table = save(FIT["lstm"]()), make_series([300 + 37 * i for i in range(12)])
    write_cut(tmp_path / "in", table, [table.num_rows], [3000])
    features = columns_for(read_contract(blob, name="lstm"))
    fields: dict[str, Any] = {"step": StepSettings(slots=4, chunk=16), "write": {"rows_per_file": 1500}}
    run(Job(blob, tmp_path / "in", tmp_path / "alone", features, **fields))
    fleets: list[HeldFleet] = []
    try:
        fields |= {"replicas": 2, "cluster": {"address": nodes.address}}
        opened = holding(nodes, tmp_path / "packages", fleets)
        with caplog.at_level(logging.INFO, logger="slotcar"):
            record = score(Job(blob, tmp_path / "in", tmp_path / "out", features, **fields).request(), opened)
        with pytest.raises(ClusterRefused, match=f"^{sentence}"):  # it is there from the beginning now
            score(Job(blob, tmp_path / "in", tmp_path / "next", features, **fields).request())
    finally:
        nodes.remove_node(fleets[0].late)
    assert tidy(tmp_path / "out").equals(tidy(tmp_path / "alone"))
    assert fleets[0].avoided == {fleets[0].late.node_id}
    lines = list(read_timeline(open_store(StoreSpec(str(tmp_path / "out")))))
    (lost,) = [line for line in lines if line["event"] == "lost"]
    assert (record["replica_deaths"], record["attempts"]) == (1, record["shards"])
    assert lost["replica"] not in {line["replica"] for line in lines if line["event"] in ("ready", "assign", "commit")}
    assert f"replica {lost['replica']} is lost: {lost['cause']}" in caplog.text
    assert re.match(sentence, lost["cause"])
    assert not (tmp_path / "next").exists()  # of a run that is refused
    assert list((tmp_path / "out" / STAGED).iterdir()) == []


def test_rays_warning_of_a_node_that_is_about_to_leave_is_heard(nodes: Nodes) -> None:
    spot = nodes.add_node(num_cpus=1, resources={"spot": 1})
    try:
        settings = ClusterSettings(address=nodes.address)
        with connected(settings):
            holder = ray.remote(resources={"spot": 1})(Holder).remote()  # a node that does nothing would go at once
            ray.get(holder.hold.remote())
            before = look_at_nodes(settings)
            told, _ = GcsClient(address=nodes.gcs_address).drain_node(spot.node_id, PREEMPTED, "a test", LATER_MS)
            until, after = time.monotonic() + HEARD_S, look_at_nodes(settings)
            while not after.draining and time.monotonic() < until:
                after = look_at_nodes(settings)
    finally:
        nodes.remove_node(spot)
    assert (before.room, before.draining) == (2, frozenset())
    assert told
    assert (after.room, after.draining) == (1, {spot.node_id})


class Holder:
    """An actor that keeps its node busy."""

    def hold(self) -> None:
        """Returns when it is there."""
