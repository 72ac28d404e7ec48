"""The model of the benchmark: LSTM(units) -> Dense(1) on eight numbers a row, with seeded weights.

Started as `python -m tests.bench.network UNITS PATH` it writes the model, so that whoever measures need not import
TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.bench.workloads import FEATURES, SEED


def build(units: int) -> Any:
    """The model, stateless, with batch and time open."""
    rows = keras.Input((None, len(FEATURES)), name="rows")
    hidden = layers.LSTM(units, return_sequences=True, name="memory")(rows)
    model = keras.Model(rows, layers.Dense(1, name="score")(hidden))
    rng = np.random.default_rng(SEED)
    for weight in model.weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    return model


def load(path: Path) -> Any:
    """The model that `write` wrote."""
    return keras.saving.load_model(path, compile=False)


def write(units: int, path: Path) -> None:
    """Writes the model, under a name that appears when it is whole."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    build(units).save(unfinished)
    unfinished.rename(path)


def stateful(model: Any, *, batch: int, chunk: int) -> Any:
    """The same model on a fixed batch, its LSTM stateful, as Keras itself offers it."""
    rows = keras.Input(batch_shape=(batch, chunk, len(FEATURES)))
    memory = next(layer for layer in model.layers if isinstance(layer, layers.LSTM))
    hidden = layers.LSTM(memory.units, return_sequences=True, stateful=True, name="memory")(rows)
    copy = keras.Model(rows, layers.Dense(1, name="score")(hidden))
    copy.set_weights(model.get_weights())
    return copy


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
