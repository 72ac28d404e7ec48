"""What the Ray Data peers share: the cluster, the clock, and actors that say when they were ready.

A peer's work begins when its first actor is ready, as Slotcar's does; what Ray Data reads or shuffles before that is
given to it for free.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.ray_session import connected
from tests.bench.engine import watched
from tests.bench.stateless import Stateless
from tests.bench.task import Measured, Task

LOGICAL_CPUS = 4  # for each actor that scores


class Scorer:
    """Base of an actor's callable: the model, compiled for the shapes that will come."""

    def __init__(self, model: Path, shapes: list[tuple[int, int]], ready: Path) -> None:
        self.model = Stateless(model, threads=1)
        self.model.compile(shapes)
        ready.mkdir(parents=True, exist_ok=True)
        (ready / f"{time.time_ns()}").touch()


def measured(task: Task, title: str, pipeline: Callable[[Path], None]) -> Measured:
    """Runs `pipeline`, which is given the folder where its actors say that they are ready."""
    ready = task.output.with_name(f"{task.output.name}-ready")
    begin_ns = time.time_ns()
    with quiet_cluster(task.replicas), watched(title) as peak:
        pipeline(ready)
        end_ns = time.time_ns()
    total_ns = time.time_ns() - begin_ns  # with the end of the cluster, as Slotcar's
    work_ns = end_ns - min(int(path.name) for path in ready.iterdir())
    rows = int(task.workload.lengths().sum())
    return Measured(work_ns / 1e9, rows, (total_ns - work_ns) / 1e9, peak.bytes)


@contextmanager
def quiet_cluster(replicas: int) -> Iterator[None]:
    """The embedded cluster that Slotcar starts too, its workers at nice 0, without Ray Data's progress bars.

    It has more CPUs than the machine: with as many as actors, Ray Data finds none for reading and shuffling, and waits.
    """
    with connected(ClusterSettings(replicas=LOGICAL_CPUS * replicas)):
        context: Any = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
