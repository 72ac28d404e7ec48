"""Two drivers on one output: one runs, the other says who; a dead or paused one is overtaken, and costs no bit."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import LockLost, OutputRefused
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import this_process
from cluster.runtime.fleet.fleet import Answer
from cluster.runtime.fleet.ray_cluster import Cluster
from cluster.runtime.replica.replica_actor import ReplicaSpec
from cluster.runtime.run.run import OpenCluster, score
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.watch.run_status import read_status
from jobs.cli import exit_code
from lstm_core.contract.model_contract import read_contract
from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED
from tests.harness.inprocess import InProcessCluster, InProcessReplicas, Job, in_process, run, tidy
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save
from tests.paths import ROOT
from tests.unit.cluster.runtime.commit.test_lock import Hands, take_lock

LENGTHS = [90, 40, 120, 7, 60, 33, 80]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Some five shards, and the folder for what an undisturbed run makes of them."""
    blob, folder = save(FIT["lstm"]()), tmp_path_factory.mktemp("drivers")
    write_cut(folder / "in", make_series(LENGTHS), [sum(LENGTHS)], [100])
    columns = columns_for(read_contract(blob, name="lstm"))
    write = {"rows_per_file": 100}
    return Job(blob, folder / "in", folder / "out", columns, step=StepSettings(slots=2, chunk=8), write=write)


@pytest.fixture(scope="module")
def undisturbed(job: Job) -> Any:
    run(job)
    return tidy(job.output)


def interrupted_by(strike: Callable[[], object]) -> OpenCluster:
    """A cluster that calls `strike` once, when a fragment has been committed."""

    class Struck(InProcessReplicas):
        staged = False
        struck = False

        def answers(self, timeout_s: float) -> list[Answer]:
            if self.staged and not self.struck:
                self.struck = True
                strike()
            found = super().answers(timeout_s)
            self.staged = self.staged or any(answer.report and answer.report.fragments for answer in found)
            return found

    class StruckCluster(InProcessCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
            return Struck(spec, model)

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        yield StruckCluster(settings)

    return opened


@contextmanager
def no_cluster(settings: ClusterSettings) -> Iterator[Cluster]:
    raise AssertionError(f"a cluster was started for {settings}")
    yield InProcessCluster(settings)


def visible(output: Path) -> dict[str, int]:
    """What drivers write, but for the lock, with the time of its last change; replicas stage on meanwhile."""
    others = ("lock", "staged", "snapshots")
    found = [path for path in output.rglob("*") if path.is_file() and path.parent.name not in others]
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_the_second_driver_is_refused_and_the_first_one_undisturbed(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    request = replace(job, output=tmp_path / "out").request()
    said: list[str] = []

    def second() -> None:
        before = visible(tmp_path / "out")
        with pytest.raises(OutputRefused, match="being written by another driver") as refused:
            score(request, open_cluster=no_cluster)
        said.append(str(refused.value))
        assert visible(tmp_path / "out") == before

    record = score(request, open_cluster=interrupted_by(second))
    me = this_process("test")
    assert [f"process {me.pid} on {me.host}, since 20" in sentence for sentence in said] == [True]
    assert record["status"] == "done"
    assert tidy(tmp_path / "out").equals(undisturbed)


def test_an_overwriting_driver_waits_for_its_turn_too(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    first = replace(job, output=tmp_path / "out").request()
    other = replace(job, output=tmp_path / "out", run_id="other", write={**job.write, "overwrite": True}).request()

    def second() -> None:
        with pytest.raises(OutputRefused, match="being written by another driver"):
            score(other, open_cluster=no_cluster)

    score(first, open_cluster=interrupted_by(second))
    assert tidy(tmp_path / "out").equals(undisturbed)
    assert score(other, open_cluster=in_process)["run_id"] == "other"
    assert tidy(tmp_path / "out").equals(undisturbed)


@pytest.mark.parametrize("misses", [False, True], ids=["as_it_was", "missing_what_the_other_cleared"])
def test_a_driver_that_was_overtaken_stops_and_writes_nothing_more(
    job: Job, undisturbed: Any, tmp_path: Path, misses: bool
) -> None:
    request = replace(job, output=tmp_path / "out").request()
    store = LocalStore(str(tmp_path / "out"))
    left: dict[str, int] = {}

    def overtaken() -> None:
        take_lock(store, this_process("another"), Hands()).release()
        left.update(visible(tmp_path / "out"))
        if misses:  # which is no fault of the storage
            (tmp_path / "cleared").read_bytes()

    with pytest.raises(LockLost, match="taken over by another driver"):
        score(request, open_cluster=interrupted_by(overtaken))
    assert visible(tmp_path / "out") == left
    assert score(request, open_cluster=in_process)["status"] == "done"
    assert {record.fence for record in Commits(store).records()} == {1, 3}
    assert tidy(tmp_path / "out").equals(undisturbed)


def test_a_driver_in_the_middle_of_a_run_shows_in_its_status(job: Job, tmp_path: Path) -> None:
    request = replace(job, output=tmp_path / "out").request()
    store, seen = LocalStore(str(tmp_path / "out")), []
    score(request, open_cluster=interrupted_by(lambda: seen.append(read_status(store))))
    assert [(found.status, 0 < found.rows_done < sum(LENGTHS)) for found in seen] == [("running", True)]
    found = read_status(store)
    assert (found.status, found.rows_done, found.shards_done) == ("done", sum(LENGTHS), found.shards_total)


@contextmanager
def driver(job: Job, place: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process of its own that has committed a fragment, and goes on when its input says so."""
    place.write_bytes(pickle.dumps(job))
    program = "import sys; from tests.integration.test_two_drivers import drive; drive(sys.argv[1])"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", program, str(place)], cwd=ROOT, text=True, **pipes)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "committed\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def drive(place: str) -> None:
    """What the process of `driver` does."""
    job: Job = pickle.loads(Path(place).read_bytes())

    def pause() -> None:
        print("committed", flush=True)
        input()

    def command() -> int:
        score(job.request(), open_cluster=interrupted_by(pause))
        return EXIT_DONE

    sys.exit(exit_code(command))


def test_a_killed_driver_is_overtaken_at_once(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    mine = replace(job, output=tmp_path / "out")
    store = LocalStore(str(tmp_path / "out"))
    with driver(mine, tmp_path / "job") as child:
        running = read_status(store)
        assert running.driver is not None
        assert (running.status, running.driver.pid) == ("running", child.pid)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        broken = read_status(store)
        assert (broken.status, broken.driver) == ("broken", None)
        committed = visible(tmp_path / "out")
        record = run(mine)
    assert (record["status"], record["rows_scored"]) == ("done", sum(LENGTHS))
    assert {fragment.fence for fragment in Commits(store).records()} == {1, 2}
    after = visible(tmp_path / "out")
    published = {name for name in committed if "_slotcar" not in name or "/commits/" in name}
    assert published
    assert {name: after[name] for name in published} == {name: committed[name] for name in published}
    assert tidy(tmp_path / "out").equals(undisturbed)


@pytest.mark.soak
def test_a_paused_driver_is_overtaken_and_stops_when_it_wakes(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    mine = replace(job, output=tmp_path / "out")
    with driver(mine, tmp_path / "job") as child:
        os.kill(child.pid, signal.SIGSTOP)
        assert run(mine)["status"] == "done"
        after = visible(tmp_path / "out")
        os.kill(child.pid, signal.SIGCONT)
        _, said = child.communicate("\n", timeout=120)
    assert child.returncode == EXIT_FAILED
    assert "taken over by another driver" in said
    assert visible(tmp_path / "out") == after
    assert tidy(tmp_path / "out").equals(undisturbed)
