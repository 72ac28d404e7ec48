"""Peer: Ray Data, `groupby("entity").map_groups`: a hash shuffle, then one call of the model per entity.

Inside a group the order of time is made again, since the shuffle keeps none. Lengths are padded to few sizes, so that
the model is not compiled for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ray

from tests.bench.entities import Series, padded_steps
from tests.bench.ray_peer import Scorer, measured
from tests.bench.task import Measured, Task


class ScoreGroup(Scorer):
    """Scores one entity at a time."""

    def __call__(self, group: Any) -> Any:
        """One entity's rows in, its scores out."""
        series = Series.of(group.sort_by("time"))
        return series.scored(self.model.score(series))


def run(task: Task) -> Measured:
    """Scores the workload."""
    alone = {(1, padded_steps(int(rows))) for rows in np.unique(task.workload.lengths())}

    def pipeline(ready: Path) -> None:
        groups = ray.data.read_parquet([str(path) for path in task.files]).groupby("entity", num_partitions=16)
        scores = groups.map_groups(
            ScoreGroup,
            fn_constructor_args=(task.model, sorted(alone), ready),
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=task.replicas),
        )
        scores.write_parquet(str(task.output), compression="zstd")

    return measured(task, "ray::MapWorker", pipeline)
