"""A finished run in the hands of a stranger: every file of its output may be changed, and its owner looks at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.core.settings import StepSettings
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.commit.run_request import ScoreRequest
from cluster.runtime.run.run import score
from tests.harness.inprocess import Job, in_process
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, contract_of, save

LENGTHS = (30, 1, 45, 20, 64, 7)
UNTIL = "2026-01-01T00:40"  # of the first night; later rows are the second's


class Victim:
    """An input, a model and two nights over them, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.model = folder, folder / "in", folder / "m.keras"
        self.output, self.state, self.second, self.second_state = (folder / name for name in ("n1", "s1", "n2", "s2"))

    def place(self, name: str, *, second: bool = False) -> Path:
        """A file below `_slotcar/` of a night's output."""
        return (self.second if second else self.output) / "_slotcar" / name

    def edit(self, name: str, change: Callable[[Any], Any]) -> None:
        """Changes a JSON file below `_slotcar/` of the first night; `change` returns the new value, or changes it."""
        path = self.place(name)
        value = json.loads(path.read_text())
        changed = change(value)
        path.write_text(json.dumps(value if changed is None else changed))

    def record(self) -> Path:
        """The first commit record of the first night."""
        return sorted(self.place("commits").glob("*.json"))[0]

    def break_off(self) -> None:
        """As if the first night had been broken off at its end."""
        (self.output / "_SUCCESS").unlink()
        self.edit("run.json", lambda run: run.update(status="failed", error="x"))
        self.place("staged").mkdir(exist_ok=True)

    def first_night(self) -> dict[str, Any]:
        """Scores the rows until `UNTIL`, or resumes that; returns run.json."""
        return score(self.request(self.output), open_cluster=in_process)

    def second_night(self) -> dict[str, Any]:
        """Scores the rows from `UNTIL` on, from the state of the first night."""
        return score(self.request(self.second), open_cluster=in_process)

    def request(self, output: Path) -> ScoreRequest:
        """What the first or the second night is asked for."""
        first = output == self.output
        bounds = {"until": UNTIL} if first else {"since": UNTIL}
        state = {"write": self.state} if first else {"read": self.state, "write": self.second_state}
        model = self.model.read_bytes()
        columns = columns_for(contract_of(model))
        job = Job(model, self.source, output, columns, step=StepSettings(4, 4), input=bounds, state=state)
        return replace(replace(job, run_id=output.name).request(), model_path=str(self.model))


def make_victim(folder: Path, model: str = "lstm") -> Victim:
    """Two finished nights."""
    victim = Victim(folder)
    write_cut(victim.source, make_series(LENGTHS), [100, sum(LENGTHS) - 100])
    victim.model.write_bytes(save(FIT[model]()))
    victim.first_night()
    victim.second_night()
    return victim


def copied(made: Victim, folder: Path) -> Victim:
    """The same as a victim of its own, whose files name its own places."""
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(str(made.folder), str(folder)))
    for path in folder.rglob("_SUCCESS"):
        path.write_text(path.read_text().replace(str(made.folder), str(folder)))
    return Victim(folder)


@contextmanager
def rescore_here(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    actor = AuditActor(spec, model)

    def rescore(shard: Any, entities: Sequence[int]) -> Any:
        return actor.rescore(shard, entities)

    yield rescore
