"""The examples for other schedulers, each run by its own library, in an environment of its own beside the lock."""

from __future__ import annotations

import json
import os
import site
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from cluster.runtime.commits import RUN
from jobs.staging import as_toml
from lstm_core.contract import read_contract
from tests.models import FIT, save
from tests.nodes import ROOT
from tests.series import make_series, write_cut
from tests.truth import columns_for

pytestmark = [pytest.mark.soak, pytest.mark.ray]

DAGSTER = """
from dagster import DagsterInstance, materialize
from jobs.examples.dagster_asset import delay_scores
if __name__ == "__main__":
    made = materialize([delay_scores], partition_key="2026-11-20", instance=DagsterInstance.ephemeral())
    (one,) = made.asset_materializations_for_node("delay_scores")
    assert one.metadata["rows_in"].value == 150 and one.metadata["status"].value == "done"
"""

AIRFLOW = """
import subprocess, sys
from pathlib import Path
airflow = str(Path(sys.executable).parent / "airflow")
subprocess.run([airflow, "db", "migrate"], check=True)
subprocess.run([airflow, "dags", "test", "slotcar_nightly", "2026-11-20"], check=True)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small job, as its owner would have it."""
    blob, table = save(FIT["lstm"]()), make_series([60, 50, 40])
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


def python_with(folder: Path, package: str) -> Path:
    """A Python that has `package` and all that this one has, whose versions stay as they are locked."""
    venv.create(folder, with_pip=True)
    (there,) = (folder / "lib").glob("python*/site-packages")
    (there / "_locked.pth").write_text("\n".join(site.getsitepackages()))
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "requirements.lock"), package]
    subprocess.run(install, check=True, timeout=900)
    return python


@pytest.mark.parametrize(("package", "program"), [("dagster", DAGSTER), ("apache-airflow", AIRFLOW)])
def test_a_night_is_done_and_done_again_costs_nothing(config: Path, tmp_path: Path, package: str, program: str) -> None:
    python, file = python_with(tmp_path / "env", package), tmp_path / "program.py"
    file.write_text(program)
    environment = {**os.environ, "SLOTCAR_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    environment |= {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment |= {"AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "jobs" / "examples")}
    records = []
    for _ in range(2):
        done = subprocess.run([str(python), str(file)], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        records.append((tmp_path / "scores" / "2026-11-20" / RUN).read_bytes())
    assert json.loads(records[0])["run_id"] == "nightly-2026-11-20"
    assert records[0] == records[1]
