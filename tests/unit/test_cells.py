"""The LSTM cell that is computed here: Keras's numbers, and only where Keras's own would compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lstm_core.cells import fused

SLOTS, FEATURES, UNITS = 16, 5, 7


def built(**changes: Any) -> Any:
    cell = layers.LSTMCell(UNITS, **changes)
    cell.build((None, FEATURES))
    rng = np.random.default_rng(0)
    for weight in cell.weights:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    return cell


@pytest.mark.parametrize("magnitude", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_gives_the_numbers_of_keras(magnitude: float, use_bias: bool, dtype: str) -> None:
    cell, rng = built(use_bias=use_bias), np.random.default_rng(1)
    found_cell = fused(cell)
    assert found_cell is not None
    row = tf.constant(magnitude * rng.standard_normal((SLOTS, FEATURES)), dtype)
    states = [tf.constant(rng.standard_normal((SLOTS, UNITS)), tf.float32) for _ in range(2)]
    hidden, wanted = cell(tf.cast(row, tf.float32), states)
    found = found_cell(row, states)
    np.testing.assert_allclose(found[0], hidden, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], rtol=0, atol=1e-6)


def test_it_has_the_weights_that_the_cell_has_when_it_is_asked() -> None:
    cell = built()
    before = fused(cell)
    cell.kernel.assign(2 * cell.kernel)
    after = fused(cell)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.kernel[:FEATURES], 2 * before.kernel[:FEATURES])
    np.testing.assert_array_equal(after.kernel[FEATURES:], before.kernel[FEATURES:])


class OwnCell(layers.LSTMCell):
    """May compute anything."""


@pytest.mark.parametrize(
    "cell",
    [
        lambda: built(activation="relu"),
        lambda: built(recurrent_activation="hard_sigmoid"),
        lambda: built(dtype="mixed_bfloat16"),
        lambda: built(dtype="float64"),
        lambda: layers.GRUCell(UNITS),
        lambda: layers.SimpleRNNCell(UNITS),
        lambda: OwnCell(UNITS),
        lambda: layers.StackedRNNCells([layers.LSTMCell(UNITS)]),
    ],
    ids=["relu", "hard sigmoid", "mixed", "float64", "GRU", "simple", "subclass", "stacked"],
)
def test_any_other_cell_is_left_to_keras(cell: Any) -> None:
    assert fused(cell()) is None
