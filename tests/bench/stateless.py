"""Padded batches by length on the stateless model: the compiled call and its loop, for every peer that works so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.engine import tensorflow
from tests.bench.entities import Floats, Series, by_length
from tests.bench.workloads import FEATURES


class Stateless:
    """The model under `tf.function(jit_compile=True)`, compiled once per shape of a batch."""

    def __init__(self, model: Path, threads: int) -> None:
        tf = tensorflow(threads)
        from tests.bench.network import load

        loaded = load(model)

        def call(rows: Any) -> Any:
            return loaded(rows, training=False)[..., 0]

        self._call = tf.function(call, jit_compile=True, autograph=False)

    def compile(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Compiles the model for batches of these shapes (entities, steps)."""
        for batch, steps in sorted(shapes):
            self._call(np.zeros((batch, steps, len(FEATURES)), np.float32))

    def score(self, series: Series) -> Floats:
        """The score of every row."""
        scores = np.empty(len(series.rows), np.float32)
        for entities, (batch, steps) in by_length(series.length):
            rows = series.padded(entities, batch=batch, begin=0, steps=steps)
            series.keep(scores, self._call(rows).numpy(), entities, 0)
        return scores
