"""The job API of a real cluster of three nodes: submitted twice at once, while a node dies and others come."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.commit.commit import RUN
from cluster.runtime.fleet.job_server import Job, RayJobServer
from cluster.runtime.fleet.prometheus import GAUGES
from jobs import api
from jobs.commands.submit import Submitted, Terms, record_of, run
from jobs.config.configuration import Config, load_config
from jobs.job_package import as_toml
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import UsageError
from tests.harness import inprocess
from tests.harness.inprocess import tidy
from tests.harness.nodes import dashboard, running, scraped
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

pytestmark = pytest.mark.ray

LENGTHS = [3_600 + 148 * i for i in range(60)]  # long enough for a node to die before the end
STEP = StepSettings(slots=4, chunk=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and two workers of one CPU."""
    with running(workers=2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with model and input, the configuration without its output, and the undisturbed scores."""
    folder, blob = tmp_path_factory.mktemp("submitted"), save(FIT["lstm"]())
    table = make_series(LENGTHS)
    write_cut(folder / "in", table, [table.num_rows], [12_000])
    (folder / "m.keras").write_bytes(blob)
    features = columns_for(read_contract(blob, name="lstm"))
    job = inprocess.Job(blob, folder / "in", folder / "alone", features, step=STEP, write={"rows_per_file": 12_000})
    inprocess.run(job)
    values = {
        "model": {"path": "m.keras", "slots": STEP.slots, "chunk": STEP.chunk},
        "input": {"path": str(folder / "in"), "entity": "entity", "time": "time"},
        "output": {"rows_per_file": 12_000},
    }
    values["input"]["features"] = {name: list(columns) for name, columns in features}
    return folder, values, tidy(folder / "alone")


def config_in(case: Any, run_id: str, replicas: int) -> Config:
    folder, values, _ = case
    path = folder / f"{run_id}.toml"
    path.write_text(as_toml({"run_id": run_id, **values, "cluster": {"replicas": replicas}}))
    return load_config(str(path), [f"output.path={run_id}"])


EXPORTED = {"rows_total", "steps_total", "stage_seconds_total", *GAUGES}


@dataclass
class Strike:
    """Kills a worker and adds a larger one when the log tells of the second fragment; then scrapes the metrics."""

    cluster: Any
    said: str = ""
    struck: bool = False
    told: list[str] = field(default_factory=list)
    exported: set[str] = field(default_factory=set)  # metrics of the run; Ray's agent brings a few of them at a time

    def hear(self, text: str) -> None:
        self.said += text
        if not self.struck and self.said.count("is there") >= 2:
            self.struck = True
            self.cluster.remove_node(next(iter(self.cluster.worker_nodes)), allow_graceful=False)
            self.cluster.add_node(num_cpus=2)
        elif self.struck and not self.exported >= EXPORTED:
            self.exported |= set(re.findall(r'^ray_slotcar_(\w+?){.*run="twice"', scraped(self.cluster), re.MULTILINE))


def test_a_run_that_is_submitted_twice_at_once_is_done_once_while_nodes_come_and_go(cluster: Any, case: Any) -> None:
    config, strike = config_in(case, "twice", replicas=3), Strike(cluster)

    def submit(terms: Terms) -> Submitted:
        return run(config, RayJobServer(dashboard(cluster)), terms)

    with ThreadPoolExecutor(1) as other:
        second = other.submit(submit, Terms({}, say=strike.told.append))
        both = [submit(Terms({}, say=strike.hear)), second.result()]  # nodes are started by the main thread alone
    assert [one.exit_code for one in both] == [0, 0]
    assert {one.submission_id for one in both} == {"slotcar-twice-1"}
    assert sorted(one.joined for one in both) == [False, True]
    assert strike.struck
    output = case[0] / "twice"
    record = json.loads((output / RUN).read_text())
    assert record["replica_deaths"] >= 1
    assert record["attempts"] > record["shards"]
    assert tidy(output).equals(case[2])
    # From Python, and on a finished run: a job that does nothing, and the same result.
    again = api.submit(case[0] / "twice.toml", overrides=["output.path=twice"], address=dashboard(cluster))
    assert (again.record, again.rows_scored) == (record, sum(LENGTHS))
    strike.hear("")
    assert strike.exported >= EXPORTED


def test_the_runs_own_code_comes_back(cluster: Any, case: Any) -> None:
    config = config_in(case, "refused", replicas=1)
    (case[0] / "refused").mkdir()
    (case[0] / "refused" / "part.parquet").write_bytes(b"of somebody else")
    done = run(config, RayJobServer(dashboard(cluster)), Terms({}, say=lambda text: None))
    assert (done.status, done.exit_code) == ("FAILED", 2)
    with pytest.raises(UsageError, match=r"^Job slotcar-refused-1 has ended with exit code 2: \S+ holds part\.parquet"):
        record_of(config, done)


def test_a_job_that_is_stopped_is_no_success(cluster: Any, tmp_path: Path) -> None:
    server = RayJobServer(dashboard(cluster))
    assert server.submit(Job("waits", "sleep 600", str(tmp_path)))
    assert not server.submit(Job("waits", "sleep 600", str(tmp_path)))
    server.stop("waits")
    for _ in server.follow("waits", 0):
        pass
    view = server.find("waits")
    assert view is not None
    assert (view.status, view.exit_code, view.ended) == ("STOPPED", 143, True)
    assert server.find("none") is None


def test_plain_ray_job_submit_does_as_well(cluster: Any, case: Any) -> None:
    folder, values, alone = case
    work, output = folder / "work", folder / "plain"
    work.mkdir()
    shutil.copyfile(folder / "m.keras", work / "m.keras")
    values = {**values, "output": {**values["output"], "path": str(output)}, "cluster": {"replicas": 1}}
    (work / "nightly.toml").write_text(as_toml(values))
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", dashboard(cluster)]
    command += ["--working-dir", ".", "--", *["python", "-m", "jobs", "score", "nightly.toml", "--address", "auto"]]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tidy(output).equals(alone)
