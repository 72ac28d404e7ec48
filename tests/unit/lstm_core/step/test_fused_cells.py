"""The LSTM cell that is computed here: Keras's numbers, and only where Keras's own would compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lstm_core.step.fused_cells import FusedLSTM, fuse_cell

SLOTS, FEATURES, UNITS = 16, 5, 7
LIVE = tf.ones(SLOTS, tf.bool)


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
    found_cell = fuse_cell(cell)
    assert found_cell is not None
    row = tf.constant(magnitude * rng.standard_normal((SLOTS, FEATURES)), dtype)
    states = [tf.constant(rng.standard_normal((SLOTS, UNITS)), tf.float32) for _ in range(2)]
    hidden, wanted = cell(tf.cast(row, tf.float32), states)
    found = found_cell(row, states, LIVE)
    np.testing.assert_allclose(found[0], hidden, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], rtol=0, atol=1e-6)


ENDS = [-1e30, -40.0, -16.1, -15.9, -8.1, -7.9, -1e-30, 0.0, 1e-4, 7.9, 8.1, 16.1, 1e30, np.inf]


@pytest.mark.parametrize("gate", ENDS)
def test_its_gates_are_those_of_keras_at_their_ends(gate: float) -> None:
    cell = built(use_bias=False)
    cell.kernel.assign(tf.ones_like(cell.kernel))
    found_cell = fuse_cell(cell)
    assert found_cell is not None
    row = tf.constant([[gate, *np.zeros(FEATURES - 1)]], tf.float32)  # so every gate is `gate`
    before = np.array([[-1e4, -3.0, -1e-3, 0.0, 1e-3, 3.0, 1e4]], np.float32)
    states = [tf.zeros((1, UNITS)), tf.constant(before)]
    hidden, (_, carried) = cell(row, states)
    found = found_cell(row, states, LIVE[:1])
    np.testing.assert_allclose(found[0], hidden, rtol=0, atol=1e-6)
    gap = np.abs(found[1] - carried)
    assert (gap <= 1e-6 * np.maximum(1, np.abs(before))).all(), gap  # a gate is right within some bits of 1


def test_a_gate_that_is_wide_open_loses_nothing_in_a_long_series() -> None:
    bias = np.repeat([-40.0, 40.0, 0.0, 0.0], UNITS).astype(np.float32)  # nothing enters, all is kept
    cell = FusedLSTM(tf.zeros((FEATURES + UNITS, 4 * UNITS)), tf.constant(bias))
    row, zero = tf.zeros((SLOTS, FEATURES)), tf.zeros((SLOTS, UNITS))

    @tf.function(jit_compile=True)
    def stepped(carried: Any) -> Any:
        def one(step: Any, *states: Any) -> tuple[Any, ...]:
            return step + 1, *cell(row, list(states), LIVE)

        return tf.while_loop(lambda step, *_: step < 20_000, one, (0, zero, carried))

    before = tf.constant(100 * np.random.default_rng(0).standard_normal((SLOTS, UNITS)), tf.float32)
    np.testing.assert_allclose(stepped(before)[2], before, rtol=1e-6)


def test_a_number_that_is_none_stays_in_its_slot() -> None:
    found_cell = fuse_cell(built())
    assert found_cell is not None
    row = np.zeros((SLOTS, FEATURES), np.float32)
    row[3] = np.nan
    for values in found_cell(tf.constant(row), [tf.zeros((SLOTS, UNITS))] * 2, LIVE):
        assert np.isnan(values[3]).all()
        assert np.isfinite(np.delete(values, 3, axis=0)).all()


def test_a_slot_without_a_row_keeps_its_states() -> None:
    found_cell, rng = fuse_cell(built()), np.random.default_rng(2)
    assert found_cell is not None
    row = tf.constant(rng.standard_normal((SLOTS, FEATURES)), tf.float32)
    states = [tf.constant(rng.standard_normal((SLOTS, UNITS)), tf.float32) for _ in range(2)]
    live = np.arange(SLOTS) % 3 > 0
    whole, found = found_cell(row, states, LIVE), found_cell(row, states, tf.constant(live))
    for given, stepped, kept in zip(states, whole, found, strict=True):
        np.testing.assert_array_equal(kept, np.where(live[:, None], stepped, given))


def test_it_has_the_weights_that_the_cell_has_when_it_is_asked() -> None:
    cell = built()
    before = fuse_cell(cell)
    cell.kernel.assign(2 * cell.kernel)
    after = fuse_cell(cell)
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
    assert fuse_cell(cell()) is None
