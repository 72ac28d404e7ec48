"""A small run as its owner would have it, and the program in a process of its own, for attacks on both."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.job_package import as_toml
from lstm_core.contract.model_contract import read_contract
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import CODE, FIT, save
from tests.paths import ROOT

LENGTHS = [40, 25, 7]
# The program as an installation has it: a file elsewhere, that calls the entry point.
INSTALLED = "from lstm_core.own_process import main\nmain()\n"


@dataclass(frozen=True)
class Program:
    """What a process gave back."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line of stderr; asserts that there is no traceback above it."""
        assert "Traceback (most recent call last)" not in self.err, self.err[-3000:]
        return (self.err.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Victim:
    """A folder with a model, an input and a configuration."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "c.toml"

    @property
    def model(self) -> Path:
        return self.folder / "m.keras"

    @property
    def output(self) -> Path:
        return self.folder / "scores"

    def run(self, *arguments: object, cwd: Path | None = None, before: Sequence[str] = ()) -> Program:
        """`slotcar ARGUMENTS` as it is installed; `before` goes before the command, as `setpriv` does."""
        program = self.folder / "bin" / "slotcar"
        program.parent.mkdir(exist_ok=True)
        program.write_text(INSTALLED)
        return self.call([*before, sys.executable, str(program), *map(str, arguments)], cwd=cwd)

    def call(self, command: Sequence[str], *, cwd: Path | None = None) -> Program:
        """Any command, in this environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"PYTHONPATH": str(ROOT), **self.environment}
        environment = {name: value for name, value in environment.items() if value != GONE}
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=environment, capture_output=True, timeout=280, stdin=subprocess.DEVNULL
        )
        return Program(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


GONE = "\0"  # the value of a variable that a process is not to have


def victim(folder: Path, model: str = "lstm", *, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Victim:
    """The run in `folder`, its configuration changed key by key."""
    folder.mkdir(parents=True, exist_ok=True)
    blob, table = save(FIT[model]()), make_series(LENGTHS)
    (folder / "m.keras").write_bytes(blob)
    write_cut(folder / "in", table, [table.num_rows], [1000])
    features = {name: list(columns) for name, columns in columns_for(read_contract(blob, name=model, code=CODE))}
    values: dict[str, dict[str, Any]] = {
        "model": {"path": "m.keras", "slots": 4, "chunk": 8},
        "input": {"path": "in", "entity": "entity", "time": "time", "features": features},
        "output": {"path": "scores"},
        "cluster": {"replicas": 1},
    }
    for section, keys in (changes or {}).items():
        values.setdefault(section, {}).update(keys)
    (folder / "c.toml").write_text(as_toml(values))
    return Victim(folder)
