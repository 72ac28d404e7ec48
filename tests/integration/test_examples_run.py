"""The examples for other schedulers, each run by its own library, in an environment of its own beside the lock."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.runtime.commit.commit import RUN
from cluster.runtime.run.run import score
from jobs.commands import score as score_job
from jobs.commands import state
from jobs.job_package import as_toml
from lstm_core.contract.model_contract import read_contract
from tests.harness.airflow_month import month_of
from tests.harness.inprocess import in_process
from tests.harness.nodes import ROOT
from tests.harness.truth import columns_for
from tests.inputs.series import DAY_ZERO, make_series, replace, write_cut
from tests.integration.test_month import FULL_NIGHT, TRUNCATED_NIGHT
from tests.integration.test_nights import NIGHTS as NIGHTS_OF_MONTH
from tests.integration.test_nights import last_state
from tests.models.keras_models import FIT, save

pytestmark = [pytest.mark.soak, pytest.mark.ray, pytest.mark.timeout(3600)]  # installing alone takes minutes

NIGHTS = ("2026-11-01", "2026-11-02")
LENGTHS = [1200, 50, 40]  # some two minutes between rows, so that the first entity has rows in two nights

DAGSTER = """
import sys
from dagster import DagsterInstance, materialize
from jobs.examples.dagster_asset import delay_scores
if __name__ == "__main__":
    made = materialize([delay_scores], partition_key=sys.argv[1], instance=DagsterInstance.ephemeral())
    (one,) = made.asset_materializations_for_node("delay_scores")
    assert one.metadata["rows_in"].value == 1290 and one.metadata["status"].value == "done"
"""

AIRFLOW = """
import subprocess, sys
from pathlib import Path
airflow = str(Path(sys.executable).parent / "airflow")
subprocess.run([airflow, "db", "migrate"], check=True)
subprocess.run([airflow, "dags", "test", "slotcar_nightly", sys.argv[1]], check=True)
"""

# Of Prefect's temporary server only the interface is wanted. Its services write to the same SQLite file at times of
# their own, and SQLite refuses a transaction that has read and then wants to write where another has written between
# ("database is locked", at once, whatever its patience): so none but the flow's own calls write, and they try again.
PREFECT_ALONE = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "20",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}

PREFECT = """
import sys
from jobs.examples.prefect_flow import slotcar_nightly
if __name__ == "__main__":
    figures = slotcar_nightly(sys.argv[1])
    assert figures["rows_in"] == 1290 and figures["status"] == "done"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small job, as its owner would have it."""
    blob, table = save(FIT["lstm"]()), make_series(LENGTHS)
    later = pa.array(table.column("time").to_numpy() + (np.datetime64(NIGHTS[0]) - DAY_ZERO))
    table = replace(table, "time", later)
    (tmp_path / "m.keras").write_bytes(blob)
    write_cut(tmp_path / "in", table, [table.num_rows], [1000])
    features = {name: list(columns) for name, columns in columns_for(read_contract(blob, name="lstm"))}
    values: dict[str, Any] = {
        "model": {"path": "m.keras", "slots": 4, "chunk": 8},
        "input": {"path": "in", "entity": "entity", "time": "time", "features": features},
        "output": {"path": "unused"},
        "cluster": {"replicas": 1},
    }
    (tmp_path / "nightly.toml").write_text(as_toml(values))
    return tmp_path / "nightly.toml"


def python_with(folder: Path, package: str, locked: Sequence[str]) -> Path:
    """A Python that has `package` and all that this one has; what is `locked` keeps its version."""
    venv.create(folder, with_pip=True)
    (there,) = (folder / "lib").glob("python*/site-packages")
    (there / "_locked.pth").write_text("\n".join(site.getsitepackages()))
    (folder / "locked.txt").write_text("\n".join(locked))
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(folder / "locked.txt"), package]
    subprocess.run(install, check=True, timeout=900)
    return python


def environment_in(folder: Path, config: Path) -> dict[str, str]:
    """Where the schedulers keep what is theirs, and what they are to run."""
    slotcar = folder / "slotcar"  # in the environment of the tests, not in the scheduler's
    slotcar.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m jobs "$@"\n')
    slotcar.chmod(0o755)
    environment = {**os.environ, "SLOTCAR": str(slotcar), "SLOTCAR_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    environment |= {"AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment |= {"AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "jobs" / "examples")}
    return environment | {"PREFECT_HOME": str(folder / "prefect"), **PREFECT_ALONE}


EVERYTHING = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
# Prefect's own bounds leave some of the lock's versions out: what a score depends on is not among them.
ENGINES = [line for line in EVERYTHING if re.match("(tensorflow|keras|ray|pyarrow|numpy)==", line)]


@pytest.mark.parametrize(
    ("package", "program", "locked"),
    [
        ("dagster", DAGSTER, EVERYTHING),
        ("apache-airflow", AIRFLOW, EVERYTHING),
        ("prefect>=3", PREFECT, ENGINES),
    ],
)
def test_nights_go_on_from_each_other_and_done_again_cost_nothing(
    config: Path, tmp_path: Path, package: str, program: str, locked: Sequence[str]
) -> None:
    python, file = python_with(tmp_path / "env", package, locked), tmp_path / "program.py"
    file.write_text(program)
    environment = environment_in(tmp_path, config)
    records: list[dict[str, Any]] = []
    for day in (*NIGHTS, NIGHTS[1]):
        command = [str(python), str(file), day]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        records.append(json.loads((tmp_path / "scores" / day / RUN).read_text()))
    assert [record["run_id"] for record in records[:2]] == [f"nightly-{day}" for day in NIGHTS]
    assert records[1] == records[2]
    assert all(record["rows_scored"] > 0 for record in records)
    assert sum(record["rows_scored"] for record in records[:2]) == sum(LENGTHS)
    assert state.show(str(tmp_path / "state" / NIGHTS[1]), ["e0000"]).as_dict()["entity"][0]["rows_seen"] == LENGTHS[0]


def test_a_month_that_airflow_drives_and_retries_ends_in_the_state_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, storm = month_of(tmp_path / "calm"), month_of(tmp_path / "storm")
    python = python_with(tmp_path / "env", "apache-airflow", EVERYTHING)
    environment = environment_in(tmp_path, storm.folder / "nightly.toml")
    for command in (["airflow", "db", "migrate"], ["tests.harness.airflow_month", str(storm.folder)]):
        done = subprocess.run(
            [str(python), "-m", *command], env=environment, capture_output=True, text=True, timeout=2400
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    monkeypatch.setattr(score_job, "score", partial(score, open_cluster=in_process))
    for night in range(NIGHTS_OF_MONTH):
        calm.arrives(night)
        calm.score(night)
    attempts = {int(night): count for night, count in json.loads((storm.folder / "attempts.json").read_text()).items()}
    assert {night: count for night, count in attempts.items() if count > 1} == {FULL_NIGHT: 3, TRUNCATED_NIGHT: 2}
    assert len(attempts) == NIGHTS_OF_MONTH
    assert last_state(storm.folder).equals(last_state(calm.folder))
    assert storm.scores().equals(calm.scores())
