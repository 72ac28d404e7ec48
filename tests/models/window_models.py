"""Keras models with one score per window: small, uncompiled, with seeded weights, as those of `keras_models`."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.models.keras_models import FEATURES, Builder, codes, numbers, seeded

WINDOW = 6  # rows
WINDOWED: dict[str, Builder] = {}


def windowed(builder: Builder) -> Builder:
    """List a builder among the models with one score per window."""
    WINDOWED[builder.__name__] = builder
    return builder


@windowed
def lstm_of_windows(*, batch: int | None = None, time: int | None = WINDOW, stateful: bool = False) -> Any:
    rows = numbers(batch=batch, time=time)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(layers.LSTM(5, stateful=stateful)(rows))))


@windowed
def stacked_gru_of_windows(*, batch: int | None = None, time: int | None = WINDOW, stateful: bool = False) -> Any:
    rows = numbers(batch=batch, time=time)
    last = layers.GRU(4, stateful=stateful)(layers.GRU(5, return_sequences=True, stateful=stateful)(rows))
    hidden = layers.LayerNormalization()(layers.Dense(3, activation="tanh")(last))
    return seeded(keras.Model(rows, [layers.Dense(1, name="mean")(hidden), layers.Dense(2, name="range")(hidden)]))


@windowed
def stateful_sequential_of_windows() -> Any:
    stack = [layers.SimpleRNN(4, stateful=True), layers.Dropout(0.3), layers.Dense(2, activation="softmax")]
    return seeded(keras.Sequential([keras.Input(batch_shape=(3, WINDOW, FEATURES)), *stack]))


@windowed
def codes_and_static_of_windows() -> Any:
    """One value per entity meets the series before the memory, and the window behind it."""
    rows, carrier, fixed = numbers(time=WINDOW), codes(time=WINDOW), keras.Input((2,), name="fixed")
    series = layers.Concatenate()([rows, layers.Embedding(7, 2)(carrier)])
    series = series + layers.Dense(FEATURES + 2)(fixed)[:, None, :]
    first, second = layers.LSTM(4)(series), layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)])(rows)
    joined = layers.Concatenate()([fixed, first, second])
    return seeded(keras.Model([rows, carrier, fixed], layers.Dense(1, name="score")(joined)))


@windowed
def nested_of_windows() -> Any:
    inside = numbers(time=WINDOW, name="inside")
    memory = keras.Model(inside, layers.LSTM(4)(inside), name="memory")
    head = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)], name="head")
    rows = numbers(time=WINDOW)
    return seeded(keras.Model(rows, head(memory(rows))))


@cache
def _keras_alone(builder: Builder) -> tuple[Any, Any]:
    model = builder(batch=1, time=None, stateful=True)
    return model, tf.function(model, autograph=False, reduce_retracing=True)


def scored_by_keras(builder: Builder, series: Any) -> Any:
    """Scores (window, value) of one series (row, feature): Keras's own stateful layers, one window after the other."""
    model, call = _keras_alone(builder)
    for layer in model.layers:
        if isinstance(layer, layers.RNN):
            layer.reset_state()
    windows = [series[None, start : start + WINDOW] for start in range(0, len(series), WINDOW)]
    return np.concatenate([np.concatenate(keras.tree.flatten(call(window)), axis=-1) for window in windows])
