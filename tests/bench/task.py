"""What a subject is asked to do, and what it says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Task:
    """One scoring of one workload; paths are absolute."""

    workload: Workload
    input: Path
    model: Path
    output: Path
    state: Path | None = None  # carry-over to read, where the workload has one
    replicas: int = 2
    gpus: float = 0.0  # of each replica

    @property
    def files(self) -> list[Path]:
        """The input's files, in order."""
        return sorted(self.input.glob("*.parquet"))

    def to_json(self) -> str:
        """As one line, for a process of its own."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> Task:
        """The task of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        workload = Workload(**values.pop("workload"))
        paths = {name: Path(values[name]) if values[name] else None for name in ("input", "model", "output", "state")}
        return Task(workload=workload, **{**values, **paths})


@dataclass(frozen=True)
class Measured:
    """What one run of a subject took."""

    work_s: float  # from the moment the first model can step to the last file; a roofline: of the work alone
    rows: int
    startup_s: float = 0.0  # imports, compilation, processes
    resident_bytes: int = 0  # of the largest process that holds a model
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.work_s

    @property
    def total_s(self) -> float:
        return self.startup_s + self.work_s


def model_file(units: int, cache: Path) -> Path:
    """The model of so many units, made once, in a process of its own."""
    model = cache / f"lstm-{units}.keras"
    if not model.exists():
        command = [sys.executable, "-m", "tests.bench.network", str(units), str(model)]
        subprocess.run(command, check=True, capture_output=True)
    return model


def find_workload(name: str) -> Workload:
    """A workload by its name, in any case of letters."""
    return WORKLOADS[name.upper()]
