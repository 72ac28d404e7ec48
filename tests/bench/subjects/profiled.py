"""Slotcar on one replica in this process, under TensorFlow's profiler: the whole road, from Parquet to Parquet.

The driver, the replica with its pipeline, the reader and the writer are the real ones; only Ray is not there, so that
one process holds all that the profiler must see. It starts when the model is compiled and the plan is made, and ends
with the work. The profiler costs time itself: a rate from here is for comparing with others from here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from cluster.core.settings import ClusterSettings
from cluster.runtime.replica.replica_actor import ReplicaSpec, Sources
from cluster.runtime.run.run import score
from jobs.commands.score import request_of
from jobs.config.configuration import load_config
from tests.bench.engine import device_bytes, resident_bytes
from tests.bench.subjects.slotcar import configuration
from tests.bench.task import Measured, Task
from tests.bench.trace import complaints, gpu_trace, read_space
from tests.harness.inprocess import InProcessCluster, InProcessReplicas

HOST_LEVEL = 1  # of what the profiler notes of this process: the least, since only the GPU is looked at


class TracedReplicas(InProcessReplicas):
    """Replicas in this process; what they do between `begin` and `stop` is traced into a folder."""

    folder: Path
    tracing = False

    def begin(self, sources: Sources) -> None:
        import tensorflow as tf

        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=HOST_LEVEL)
        tf.profiler.experimental.start(str(self.folder), options)
        self.tracing = True
        super().begin(sources)

    def stop(self) -> None:
        import tensorflow as tf

        if self.tracing:
            tf.profiler.experimental.stop()
        super().stop()


class TracedCluster(InProcessCluster):
    """Implements `ray_cluster.Cluster` with traced replicas."""

    def __init__(self, folder: Path, settings: ClusterSettings) -> None:
        super().__init__(settings)
        self._folder = folder

    def replicas(self, spec: ReplicaSpec, model: bytes) -> TracedReplicas:
        replicas = TracedReplicas(spec, model)
        replicas.folder = self._folder
        return replicas


@contextmanager
def _traced(folder: Path, settings: ClusterSettings) -> Iterator[TracedCluster]:
    yield TracedCluster(folder, settings)


def run(task: Task) -> Measured:
    """Scores the workload; the notes say what the GPU did, or None where the trace has none, and how much it held."""
    config = task.output.with_suffix(".toml")
    config.write_text(configuration(task))
    folder = task.output.with_name(f"{task.output.name}-trace")
    begin = time.perf_counter()
    record = score(request_of(load_config(str(config))), open_cluster=partial(_traced, folder))
    wall_s = time.perf_counter() - begin
    space = read_space(folder)
    trace = gpu_trace(space)
    notes = {
        "gpu": asdict(trace) if trace else None,
        "complaints": complaints(space),
        "planes": [plane.name for plane in space.planes],
        "device_bytes": device_bytes(),
        "kernel": record["kernel"],
    }
    return Measured(record["work_s"], record["rows_scored"], wall_s - record["work_s"], resident_bytes(), notes)
