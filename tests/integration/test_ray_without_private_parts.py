"""Runs on a Ray that lacks one of the private parts that Slotcar uses: each succeeds, with one line in the log.

They are runs of other processes, two at a time: to start Ray is mostly to wait.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from cluster.core.settings import StepSettings
from cluster.runtime.commit.commit import RUN
from cluster.runtime.fleet import ray_private
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job
from tests.harness.lacking_ray import AT_START, WHILE_IT_RUNS
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save
from tests.paths import ROOT

pytestmark = pytest.mark.ray

LENGTHS = [300 + 37 * i for i in range(20)]
PARTS = sorted(
    name
    for name, function in inspect.getmembers(ray_private, inspect.isfunction)
    if function.__module__ == ray_private.__name__ and not name.startswith("_")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The request of each run, and soon its log and its output."""
    folder, blob = tmp_path_factory.mktemp("parts"), save(FIT["lstm"]())
    write_cut(folder / "in", make_series(LENGTHS))
    features = columns_for(read_contract(blob, name="lstm"))
    step, write = StepSettings(slots=8, chunk=16), {"rows_per_file": 1500}
    job = Job(blob, folder / "in", folder, features, step=step, write=write)
    for part in (*AT_START, *WHILE_IT_RUNS):
        request = replace(job, output=folder / part).request()
        (folder / f"{part}.request").write_bytes(pickle.dumps(request))
    return folder


@pytest.fixture(scope="module")
def ended(folder: Path) -> Iterator[dict[str, Future[None]]]:
    """By part, the process that runs without it."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        shared = pool.submit(run_in_process, folder, list(WHILE_IT_RUNS))
        alone = {part: pool.submit(run_in_process, folder, [part]) for part in AT_START}
        yield alone | dict.fromkeys(WHILE_IT_RUNS, shared)


def run_in_process(folder: Path, parts: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    command = [sys.executable, "-m", "tests.harness.lacking_ray", str(folder), *parts]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", PARTS)
def test_a_run_succeeds_without(part: str, ended: dict[str, Future[None]], folder: Path) -> None:
    ended[part].result()
    log = (folder / f"{part}.log").read_text().splitlines()
    (line,) = [line for line in log if "that Slotcar knows" in line]
    assert line.startswith(f"Ray {ray.__version__} has no ray.")
    record = json.loads((folder / part / RUN).read_text())
    assert record["status"] == "done"
    assert record["rows_scored"] == sum(LENGTHS)
    assert (folder / part / "_SUCCESS").exists()


def test_nothing_else_is_taken_away() -> None:
    assert sorted({**AT_START, **WHILE_IT_RUNS}) == PARTS
