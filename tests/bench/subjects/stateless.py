"""Peer: one process, the stateless model on whole entities in padded batches of like length."""

from __future__ import annotations

import os
import time

from tests.bench.engine import resident_bytes
from tests.bench.entities import Series, read_files, shapes, write_scores
from tests.bench.stateless import Stateless
from tests.bench.task import Measured, Task


def run(task: Task) -> Measured:
    """Scores the workload."""
    begin = time.perf_counter()
    model = Stateless(task.model, os.cpu_count() or 1)
    model.compile(shapes([task.workload.lengths()]))
    ready = time.perf_counter()
    series = Series.of(read_files(task.files))
    scores = model.score(series)
    task.output.mkdir(parents=True)
    write_scores(series.scored(scores), task.output / "scores.parquet")
    return Measured(time.perf_counter() - ready, len(scores), ready - begin, resident_bytes())
