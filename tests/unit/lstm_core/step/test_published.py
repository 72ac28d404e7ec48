"""Outputs that Keras itself publishes for its stateful layers, through our step: the figures are from its own tests.

Each series is shown twice, one behind the other, with the state carried; here it is also cut in other places.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from tests.models.custom_layers import SummingCell
from tests.models.keras_models import save

RAMP = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # (series, step, feature)
ONES = np.ones((1, 2, 3), np.float32)
CONSTANT = {
    "kernel_initializer": keras.initializers.Constant(0.01),
    "recurrent_initializer": keras.initializers.Constant(0.02),
    "bias_initializer": keras.initializers.Constant(0.03),
}


def constant(kind: Any, *, whole: bool = True) -> Any:
    return kind(4, return_sequences=whole, stateful=True, name="memory", **CONSTANT)


def summing(copies: int, *, whole: bool = True) -> Any:
    return layers.RNN(SummingCell(2, copies), return_sequences=whole, stateful=True, name="memory")


PUBLISHED = {
    "lstm": (lambda **how: constant(layers.LSTM, **how), RAMP, [0.3124785, 0.6863672]),
    "gru": (lambda **how: constant(layers.GRU, **how), RAMP, [0.29542392, 0.5885018]),
    "simple_rnn": (lambda **how: constant(layers.SimpleRNN, **how), RAMP, [0.40559256, 0.7361247]),
    "cell_of_one_state": (lambda **how: summing(1, **how), ONES, [45.0]),
    "cell_of_two_states": (lambda **how: summing(2, **how), ONES, [90.0]),
    "cell_over_a_ramp": (lambda **how: summing(1, **how), RAMP, [954.0, 3978.0]),
}


@pytest.mark.parametrize("cut", ["as published", "row by row", "with a chunk that is not full"])
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_second_showing_of_a_series_gives_the_published_output(name: str, cut: str) -> None:
    build, series, expected = PUBLISHED[name]
    count, rows, features = series.shape
    inputs = keras.Input(batch_shape=(count, None, features), name="rows")
    archive = save(keras.Model(inputs, build()(inputs)))
    chunk = {"as published": rows, "row by row": 1}.get(cut, 5)
    replica = StatefulReplica(archive, StepShape(count, chunk, jit=False))
    twice = np.concatenate([series, series], axis=1)
    for start in range(0, 2 * rows, chunk):
        part = twice[:, start : start + chunk]
        length = part.shape[1]
        padded = np.concatenate([part, np.full((count, chunk - length, features), 9.0, np.float32)], axis=1)
        reset, lengths = np.full(count, start == 0), np.full(count, length, np.int32)
        [scores] = replica.step([padded], reset, lengths)
    found = scores.numpy()[:, length - 1]
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], found.shape[1], axis=1), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_second_window_gives_the_published_output_and_leaves_it_as_state(name: str) -> None:
    """As Keras has it: the layer gives its last vector alone. A cell that sums keeps what it gives, once per state."""
    build, series, expected = PUBLISHED[name]
    count, rows, _ = series.shape
    inputs = keras.Input(batch_shape=series.shape, name="rows")
    replica = StatefulReplica(save(keras.Model(inputs, build(whole=False)(inputs))), StepShape(count, rows, jit=False))
    for first in (True, False):
        [scores] = replica.step([series], np.full(count, first), np.full(count, rows, np.int32))
    wanted = np.array(expected)[:, None]
    np.testing.assert_allclose(scores.numpy()[:, 0], np.broadcast_to(wanted, scores[:, 0].shape), rtol=1e-5)
    states = replica.slot_state(np.arange(count))
    if name.startswith("cell"):
        np.testing.assert_allclose(sum(states), np.broadcast_to(wanted, states[0].shape), rtol=1e-5)
