"""Peer: one process, Keras's own stateful model on padded groups of entities of like length.

As an engineer writes it who knows Keras: the table in memory, entities sorted by length, groups as wide as the batch,
the whole model reset between groups, one compiled step per chunk. The batch is as wide as pays: 256 for long entities,
more where they are short.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from tests.bench.engine import resident_bytes, tensorflow
from tests.bench.entities import Floats, Series, read_files, write_scores
from tests.bench.task import Measured, Task


def run(task: Task) -> Measured:
    """Scores the workload."""
    begin = time.perf_counter()
    batch, chunk = _shape(task)
    tf = tensorflow(os.cpu_count() or 1)
    from tests.bench.network import load, stateful

    model = stateful(load(task.model), batch=batch, chunk=chunk)
    step = tf.function(lambda rows: model(rows, training=False)[..., 0], jit_compile=True, autograph=False)
    step(np.zeros(model.input_shape, np.float32))
    ready = time.perf_counter()
    series = Series.of(read_files(task.files))
    scores = _score(series, model, step)
    task.output.mkdir(parents=True)
    write_scores(series.scored(scores), task.output / "scores.parquet")
    return Measured(time.perf_counter() - ready, len(scores), ready - begin, resident_bytes())


def _shape(task: Task) -> tuple[int, int]:
    lengths = task.workload.lengths()
    chunk = min(task.workload.chunk, -(-int(lengths.max()) // 8) * 8)
    wide = max(256, 16_384 // chunk)
    return min(wide, len(lengths)), chunk


def _score(series: Series, model: Any, step: Any) -> Floats:
    batch, chunk, _ = model.input_shape
    scores = np.empty(len(series.rows), np.float32)
    order = np.argsort(-series.length, kind="stable")
    memory = model.get_layer("memory")
    for first in range(0, len(order), batch):
        group = order[first : first + batch]
        memory.reset_state()
        for begin in range(0, int(series.length[group].max()), chunk):
            alive = group[series.length[group] > begin]  # sorted: the first of the group
            rows = series.padded(alive, batch=batch, begin=begin, steps=chunk)
            series.keep(scores, step(rows).numpy(), alive, begin)
    return scores
