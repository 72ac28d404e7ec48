"""One measurement: a subject run on a task, in a process of its own or, for tests, in this one.

A process of its own starts cold, so that no subject finds another's imports, memory or compiled code.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.task import Measured, Task

TIMEOUT_S = 3_600


@dataclass(frozen=True)
class Subject:
    """Something that is measured."""

    name: str
    place: str  # module:function
    what: str
    scores: bool = True  # False: a roofline, which scores nothing that could be compared
    needs: tuple[str, ...] = ()  # packages of the extra `bench`


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("slotcar", "slotcar:run", "two replicas, one CPU each"),
        Subject("slotcar-1", "slotcar:run_one_core", "one replica, all of it on one core"),
        Subject("stateful", "stateful:run", "one process, stateful Keras in padded groups"),
        Subject("stateless", "stateless:run", "one process, whole entities in padded batches by length"),
        Subject("map_batches", "map_batches:run", "Ray Data, map_batches on whole entities"),
        Subject("map_groups", "map_groups:run", "Ray Data, groupby().map_groups"),
        Subject("step", "step_alone:run", "the Keras model under tf.function and XLA, one thread", scores=False),
        Subject("own-step", "step_alone:run_own", "a replica's step, one thread", scores=False),
        Subject("onnx", "onnx_lstm:run", "ONNX Runtime's LSTM alone, one thread", False, ("onnx", "onnxruntime")),
        Subject("torch", "torch_lstm:run", "PyTorch's nn.LSTM alone, one thread", False, ("torch",)),
        Subject("copy", "parquet_copy:run", "a plain Parquet copy, two threads", scores=False),
    )
}

PROFILED = Subject("profiled", "profiled:run", "one replica in a process under TensorFlow's profiler")
KNOWN = {**SUBJECTS, PROFILED.name: PROFILED}

Measure = Callable[[Subject, Task], Measured]


def missing(subject: Subject) -> list[str]:
    """The packages that the subject needs and this environment has not."""
    return [name for name in subject.needs if importlib.util.find_spec(name) is None]


def run_here(subject: Subject, task: Task) -> Measured:
    """Runs the subject in this process."""
    module, function = subject.place.split(":")
    measured = getattr(importlib.import_module(f"tests.bench.subjects.{module}"), function)(task)
    assert isinstance(measured, Measured), f"{subject.name} says nothing of its run"
    return measured


def run_apart(subject: Subject, task: Task) -> Measured:
    """Runs the subject in a process of its own; raises `RuntimeError` with the end of what it said where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "measured.json")
        command = [sys.executable, "-m", "tests.bench.measure", subject.name, task.to_json(), str(answer)]
        # Workers too find this tree, and an import that compiles nothing; nice is that of whoever asks.
        environment = os.environ | {"PYTHONPATH": os.getcwd(), "RAY_worker_niceness": "0"}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
        if ended.returncode or not answer.exists():
            raise RuntimeError(f"{subject.name} on {task.workload.name} failed: {ended.stderr.strip()[-2000:]}")
        return Measured(**json.loads(answer.read_text()))


def main(name: str, task: str, answer: str) -> None:
    """What the process of `run_apart` does."""
    Path(answer).write_text(json.dumps(asdict(run_here(KNOWN[name], Task.from_json(task)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
