"""The whole road on a real Ray cluster: replicas as actors, and what happens when one of them is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import ClusterRefused, OutputRefused, RunFailed
from cluster.runtime.commit.commit import RUN
from cluster.runtime.fleet.fleet import Answer, Fleet
from cluster.runtime.fleet.preflight import check_nodes
from cluster.runtime.fleet.ray_cluster import Cluster, RayCluster, Replicas, ray_cluster
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.replica.node_check import NodeNeeds, SharedLocation, installed_versions
from cluster.runtime.replica.replica_actor import ReplicaSpec
from cluster.runtime.run.run import score
from cluster.runtime.storage.filesystems import FileStat
from cluster.runtime.storage.open_store import StoreSpec
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job, run, tidy
from tests.harness.truth import assert_same_scores, columns_for, expected
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

pytestmark = pytest.mark.ray

LENGTHS = [300 + 37 * i for i in range(40)]
SHARDS = {"rows_per_file": 3000}  # some 14 of them


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One embedded cluster for the whole module; runs find it and leave it up."""
    with connected(ClusterSettings(replicas=2)):
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, its input in several files, and the undisturbed scores, made without Ray."""
    blob = save(FIT["lstm"]())
    contract = read_contract(blob, name="lstm")
    table = make_series(LENGTHS)
    folder = tmp_path_factory.mktemp("ray")
    write_cut(folder / "in", table, [table.num_rows // 5] * 4 + [table.num_rows - table.num_rows // 5 * 4], [3000])
    step = StepSettings(slots=8, chunk=16)
    job = Job(blob, folder / "in", folder / "alone", columns_for(contract), step=step, write=SHARDS)
    run(job)
    return job, table, tidy(folder / "alone")


def job_in(case: Any, output: Path, **changes: Any) -> Job:
    job = case[0]
    fields = {"model": job.model, "path": job.path, "features": job.features, "step": job.step, "write": job.write}
    return Job(output=output, **{**fields, "replicas": 2, **changes})


def listening() -> list[Any]:
    """The addresses at which this process and all that it has started accept connections."""
    import psutil  # Ray brings it along

    this = psutil.Process()
    found = [each for process in (this, *this.children(recursive=True)) for each in process.net_connections("inet")]
    addresses = [ip_address(each.laddr.ip) for each in found if each.status == psutil.CONN_LISTEN]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def test_an_embedded_cluster_listens_on_loopback_only(cluster: None) -> None:
    ray.get(ray.remote(lambda: None).remote())  # workers listen too
    found = listening()
    assert len(found) > 5
    assert [address for address in found if not address.is_loopback] == []


def commands_of_children() -> list[str]:
    """The command lines of all that this process has started; one that is just ending has none."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is one
            found.append(" ".join(process.cmdline()))
    return found


def test_an_embedded_cluster_starts_nothing_that_only_watches(cluster: None) -> None:
    commands = commands_of_children()
    assert any("raylet" in command for command in commands)
    assert [command for command in commands if "log_monitor.py" in command or "_private/monitor.py" in command] == []
    (node,) = ray.nodes()
    assert {node[name] for name in ("MetricsExportPort", "MetricsAgentPort", "DashboardAgentListenPort")} == {-1}


def test_two_replicas_on_ray_give_the_bits_of_one_in_this_process(cluster: None, case: Any, tmp_path: Path) -> None:
    job, table, alone = case
    record = score(job_in(case, tmp_path / "out").request())
    found = tidy(tmp_path / "out")
    assert found.equals(alone)
    truth = expected(job.model, table, read_contract(job.model, name="lstm"))
    assert_same_scores(found.column("score").to_numpy()[:, None], truth)
    assert record["rows_in"] == record["rows_scored"] == table.num_rows
    assert record["replicas"] == 2
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_an_entity_stands_in_one_fragment_in_time_order(cluster: None, case: Any, tmp_path: Path) -> None:
    score(job_in(case, tmp_path / "out").request())
    seen: set[str] = set()
    for file in sorted((tmp_path / "out").glob("*.parquet")):
        part = pq.read_table(file)
        entity = part.column("entity").to_numpy(zero_copy_only=False)
        time = part.column("time").to_numpy()
        same = entity[1:] == entity[:-1]
        assert (time[1:][same] > time[:-1][same]).all()
        assert not seen & set(entity)
        seen |= set(entity)
    assert len(seen) == len(LENGTHS)


def test_a_finished_run_is_left_as_it_is(cluster: None, case: Any, tmp_path: Path) -> None:
    request = job_in(case, tmp_path / "out").request()
    first = score(request)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert score(request, open_cluster=no_cluster) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_an_output_that_holds_another_run_is_refused(cluster: None, case: Any, tmp_path: Path) -> None:
    score(job_in(case, tmp_path / "out").request())
    with pytest.raises(OutputRefused, match="another run"):
        score(job_in(case, tmp_path / "out", run_id="other").request(), open_cluster=no_cluster)


def test_a_killed_replica_costs_no_bit(cluster: None, case: Any, tmp_path: Path) -> None:
    record = score(job_in(case, tmp_path / "out").request(), open_cluster=killing(at_fragment=1))
    assert record["replica_deaths"] == 1
    assert record["attempts"] > record["shards"]
    assert tidy(tmp_path / "out").equals(case[2])


def test_a_run_whose_driver_stopped_is_resumed_and_does_nothing_twice(cluster: None, case: Any, tmp_path: Path) -> None:
    request = job_in(case, tmp_path / "out").request()
    with pytest.raises(Interrupted):
        score(request, open_cluster=interrupted(at_fragment=1))
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    committed = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    assert committed
    score(request)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    assert {name: after[name] for name in committed} == committed
    assert tidy(tmp_path / "out").equals(case[2])


def test_a_broken_input_file_ends_the_run_with_its_name(cluster: None, case: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_cut(folder, case[1], [20000, case[1].num_rows - 20000], [3000])

    def spoil() -> None:
        (folder / "part-001.parquet").write_bytes(b"PAR1 nothing PAR1")

    job = job_in(case, tmp_path / "out", path=folder)
    with pytest.raises(RunFailed, match=r"part-001\.parquet"):
        score(job.request(), open_cluster=with_replicas(lambda spec, model, s: SpoilingFleet(spec, model, s, spoil)))


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"gpus_per_replica": 1}, r"cluster\.gpus_per_replica is 1, but no node of the cluster has a GPU"),
        ({"cpus_per_replica": 640}, r"No node of the cluster can hold a replica of 640 CPUs"),
    ],
)
def test_replicas_that_the_cluster_can_never_place_are_refused_before_any_work(
    cluster: None, case: Any, tmp_path: Path, needs: dict[str, Any], said: str
) -> None:
    work = job_in(case, tmp_path / "out", cluster=needs)
    with pytest.raises(ClusterRefused, match=said):
        score(work.request())
    assert not (work.output / RUN).exists()


def test_a_node_that_does_not_see_the_drivers_lock_in_the_output_is_named(cluster: None, tmp_path: Path) -> None:
    """As where the path is a folder of the node's own: the real look of a real node, at an output without a lock."""
    with pytest.raises(
        ClusterRefused, match=r"^Node \S+ does not see output\.path .* \(the driver's lock is not there\)"
    ):
        check_nodes(NodeNeeds(installed_versions(), SharedLocation(StoreSpec(str(tmp_path)))))


def test_what_the_driver_does_not_see_any_more_either_is_no_fault_of_a_node(
    cluster: None, case: Any, tmp_path: Path
) -> None:
    """As where a file of the input goes while a replica starts: no other node would do, and none is waited for."""
    work = job_in(case, tmp_path / "out")
    gone = FileStat(str(tmp_path / "gone.parquet"), 4, 0)
    needs = NodeNeeds(installed_versions(), SharedLocation(StoreSpec(str(work.output))), files=(gone,))
    with pytest.raises(
        RunFailed, match=r"^Node \S+ does not see input\.path \S+gone\.parquet \(there is no file .*; what is committed"
    ):
        score(work.request(), open_cluster=with_replicas(lambda spec, m, s: Fleet(replace(spec, needs=needs), m, s)))


OpenCluster = Callable[[ClusterSettings], AbstractContextManager[Cluster]]
MakeReplicas = Callable[[ReplicaSpec, bytes, ClusterSettings], Replicas]


class Interrupted(BaseException):
    """The driver ends here."""


class KillingFleet(Fleet):
    """Kills its first replica, as the kernel would, when `at_fragment` fragments have been staged."""

    at_fragment = 1
    seen = 0
    killed = False

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        for answer in super().answers(timeout_s):
            self.seen += len(answer.report.fragments) if answer.report else 0
            if self.seen >= self.at_fragment and not self.killed:
                self.killed = True
                self.strike()
            yield answer

    def strike(self) -> None:
        os.kill(self.infos[0].pid, signal.SIGKILL)


class InterruptedFleet(KillingFleet):
    """Ends the driver instead."""

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        if self.killed:
            raise Interrupted
        yield from super().answers(timeout_s)

    def strike(self) -> None:
        """The answers in hand are still handled; the next call ends it."""


class SpoilingFleet(Fleet):
    """Spoils the input between the plan and the reading."""

    def __init__(self, spec: ReplicaSpec, model: bytes, settings: ClusterSettings, spoil: Callable[[], None]) -> None:
        super().__init__(spec, model, settings)
        self._spoil = spoil

    def begin(self, sources: Any) -> None:
        self._spoil()
        super().begin(sources)


def with_replicas(make: MakeReplicas) -> OpenCluster:
    class Spied(RayCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> Replicas:
            return make(spec, model, self._settings)

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        with ray_cluster(settings):
            yield Spied(settings)

    return opened


def killing(at_fragment: int) -> OpenCluster:
    def make(spec: ReplicaSpec, model: bytes, settings: ClusterSettings) -> Replicas:
        fleet = KillingFleet(spec, model, settings)
        fleet.at_fragment = at_fragment
        return fleet

    return with_replicas(make)


def interrupted(at_fragment: int) -> OpenCluster:
    def make(spec: ReplicaSpec, model: bytes, settings: ClusterSettings) -> Replicas:
        fleet = InterruptedFleet(spec, model, settings)
        fleet.at_fragment = at_fragment
        return fleet

    return with_replicas(make)


@contextmanager
def no_cluster(settings: ClusterSettings) -> Iterator[Cluster]:
    raise AssertionError(f"a cluster was started for {settings}")
    yield RayCluster(settings)


def test_the_module_shares_one_cluster(cluster: None) -> None:
    assert ray.is_initialized()
