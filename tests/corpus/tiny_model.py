"""The model of the corpus, and its scores of one entity alone, from zero state, by Keras.

Nothing here is the product's.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np


class TinyModel:
    """An LSTM of four units: on two numbers, or on a number and the code of a word."""

    def __init__(self, *, codes: bool) -> None:
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(7)
        scored, plain = (self._build(codes, stateful) for stateful in (True, False))
        plain.set_weights(scored.get_weights())
        self._codes, self.saved = codes, _saved(scored)
        # A graph for any length: eager Keras takes a millisecond a row.
        self._call = tf.function(lambda a, b: plain([a, b]), reduce_retracing=True)

    @staticmethod
    def _build(codes: bool, stateful: bool) -> Any:
        import keras

        batch = {"batch_size": 8} if stateful else {}
        a = keras.Input((None, 1), name="a", **batch)
        b = (
            keras.Input((None,), name="b", dtype="int32", **batch)
            if codes
            else keras.Input((None, 1), name="b", **batch)
        )
        both = keras.layers.Concatenate()([a, keras.layers.Embedding(8, 2)(b) if codes else b])
        rows = keras.layers.LSTM(4, return_sequences=True, stateful=stateful)(both)
        return keras.Model([a, b], keras.layers.Dense(1, name="score")(rows))

    def scores(self, series: list[tuple[Any, Any]]) -> list[float]:
        """Of one entity, alone, from zero state."""
        a = np.array([[row[0]] for row in series], np.float32)[None]
        b = np.array([row[1] for row in series], np.int32 if self._codes else np.float32)[None]
        return np.asarray(self._call(a, b if self._codes else b[..., None]))[0, :, 0].tolist()


def _saved(net: Any) -> bytes:
    with TemporaryDirectory() as folder:
        net.save(Path(folder) / "model.keras")
        return (Path(folder) / "model.keras").read_bytes()
