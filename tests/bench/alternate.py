"""Alternating runs of subjects on one workload: whatever the machine does meanwhile, it does to all of them."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.compare import Scores
from tests.bench.measure import Measure, Subject
from tests.bench.task import Measured, Task


@dataclass
class Outcome:
    """All runs of one subject on one workload."""

    subject: Subject
    runs: list[Measured] = field(default_factory=list)
    difference: float | None = None  # the largest, from the first subject's scores

    def median(self, of: Callable[[Measured], float]) -> float:
        """The median over the runs."""
        return statistics.median(of(run) for run in self.runs)

    @property
    def work_s(self) -> float:
        return self.median(lambda run: run.work_s)

    @property
    def rows_per_s(self) -> float:
        return self.median(lambda run: run.rows_per_s)


@dataclass(frozen=True)
class Round:
    """The outcomes on one workload, and the hash of the scores that all agree on."""

    task: Task
    outcomes: dict[str, Outcome]
    digest: str


def alternate(subjects: Sequence[Subject], task: Task, repeat: int, measure: Measure) -> Round:
    """Each subject once, in order, and again; raises `Disagreement` where one scores other than the first."""
    outcomes = {subject.name: Outcome(subject) for subject in subjects}
    first: Scores | None = None
    for turn in range(repeat):
        for subject in subjects:
            outcome = outcomes[subject.name]
            output = task.output / f"{subject.name}-{turn}"
            outcome.runs.append(measure(subject, replace(task, output=output)))
            if subject.scores:
                scores = Scores.read(output)
                first = first or scores
                outcome.difference = max(outcome.difference or 0.0, first.check(scores, subject.name))
            _remove(output)
    return Round(task, outcomes, first.digest() if first else "")


def _remove(output: Path) -> None:
    for path in output.parent.glob(f"{output.name}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
