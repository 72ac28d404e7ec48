"""Peer: Ray Data, `map_batches` on whole entities: one block per file, in which no entity is cut.

The files make it possible: each holds whole entities, clustered and in order. So there is no shuffle, and an actor gets
a file's rows at once and scores them in padded batches by length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ray

from tests.bench.entities import Series, read_files, shapes
from tests.bench.ray_peer import Scorer, measured
from tests.bench.task import Measured, Task


class ScoreFile(Scorer):
    """Scores whole files."""

    def __call__(self, batch: dict[str, Any]) -> Any:
        """One file in, its scores out."""
        series = Series.of(read_files([Path(path) for path in batch["path"]]))
        return series.scored(self.model.score(series))


def run(task: Task) -> Measured:
    """Scores the workload."""
    parts = np.array_split(task.workload.lengths(), task.workload.files)

    def pipeline(ready: Path) -> None:
        files = ray.data.from_items([{"path": str(path)} for path in task.files], override_num_blocks=len(task.files))
        scores = files.map_batches(
            ScoreFile,
            fn_constructor_args=(task.model, sorted(shapes(parts)), ready),
            batch_size=None,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=task.replicas),
        )
        scores.write_parquet(str(task.output), compression="zstd")

    return measured(task, "ray::MapWorker", pipeline)
