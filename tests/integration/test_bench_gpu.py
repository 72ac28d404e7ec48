"""The road that is profiled on a GPU, gone on a CPU so that it cannot rot; and the refusal where there is no GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.engine import tensorflow
from tests.bench.gpu import Point, road_line, verdicts
from tests.bench.measure import PROFILED, SUBJECTS, run_here
from tests.bench.network import write
from tests.bench.subjects import step_alone
from tests.bench.task import Task
from tests.bench.workloads import WORKLOADS, smoke, written
from tests.harness.inprocess import scores


@pytest.fixture
def task(tmp_path: Path) -> Task:
    workload = smoke(WORKLOADS["SKEW"])
    tensorflow(threads=1)  # as a replica wants it, before anything is computed
    write(4, tmp_path / "model.keras")
    return Task(workload, written(workload, tmp_path), tmp_path / "model.keras", tmp_path / "out", replicas=1)


def test_the_whole_road_is_traced_and_the_trace_is_read(task: Task) -> None:
    measured = run_here(PROFILED, task)
    rows = int(task.workload.lengths().sum())
    assert (measured.rows, len(scores(task.output))) == (rows, rows)
    assert "/host:CPU" in measured.notes["planes"]
    assert (measured.notes["gpu"], measured.notes["device_bytes"]) == (None, 0)
    assert measured.notes["kernel"].startswith("loop, XLA")
    point = Point(True, task.workload.slots, measured)
    assert "| no GPU in the trace |" in road_line(point)
    assert next(verdicts(point)).startswith("model.jit = true: no GPU is in the trace")


def test_without_xla_the_same_road_runs_the_plain_layers(task: Task) -> None:
    workload = replace(task.workload, jit=False)
    measured = run_here(PROFILED, replace(task, workload=workload))
    assert measured.notes["kernel"].startswith("layers, plain")


def test_a_step_alone_says_what_it_held_of_a_gpu(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_alone, "LEAST_S", 0.01)
    for jit in (True, False):
        workload = replace(task.workload, jit=jit)
        assert run_here(SUBJECTS["own-step"], replace(task, workload=workload)).notes == {"device_bytes": 0}


def test_nothing_hides_the_gpu_from_what_is_profiled() -> None:
    """The tests' own models do, for their process."""
    forbidden = "{'tensorflow', 'tests.models.keras_models'}"
    asked = f"import sys, tests.bench.subjects.profiled; print({forbidden} & set(sys.modules))"
    command = [sys.executable, "-c", asked]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "set()"


def test_without_a_gpu_it_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "--smoke", "--cache", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("--gpu wants a GPU for each of 1 replicas, but TensorFlow 2.21")
