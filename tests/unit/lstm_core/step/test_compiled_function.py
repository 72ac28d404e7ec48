"""A compiled function gives what the plain one gives, is traced once, and refuses what it was not compiled for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lstm_core.step.compiled_function import CompiledFunction

TRACED = []


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "xla"])
def compiled(request: pytest.FixtureRequest) -> CompiledFunction:
    weight = tf.Variable([[2.0], [3.0]])

    def function(rows: list[Any], flags: Any, states: list[Any]) -> tuple[list[Any], list[Any]]:
        TRACED.append(rows)
        kept = [tf.where(flags[:, None], tf.zeros_like(state), state) for state in states]
        return [rows[0] @ weight + kept[0], rows[1] * 2], [kept[0] + 1.0, kept[1]]

    rows = [tf.TensorSpec((3, 2), tf.float32), tf.TensorSpec((3,), tf.int32)]
    signature = [rows, tf.TensorSpec((3,), tf.bool), [tf.TensorSpec((3, 1), tf.float32)] * 2]
    return CompiledFunction(function, signature, jit=request.param)


def _given() -> list[Any]:
    rows = [np.array([[1, 0], [0, 1], [1, 1]], np.float32), np.array([4, 5, 6], np.int32)]
    return [rows, np.array([True, False, False]), [np.full((3, 1), 10.0, np.float32), np.ones((3, 1), np.float32)]]


def test_arrays_give_what_the_function_gives(compiled: CompiledFunction) -> None:
    scores, states = compiled(*_given())
    assert [tensor.numpy().tolist() for tensor in scores] == [[[2], [13], [15]], [8, 10, 12]]
    assert [tensor.numpy().tolist() for tensor in states] == [[[1], [11], [11]], [[0], [1], [1]]]


def test_what_a_call_returns_is_taken_by_the_next_one_without_a_trace(compiled: CompiledFunction) -> None:
    rows, flags, states = _given()
    traced = len(TRACED)
    for _ in range(3):
        _, states = compiled(rows, np.zeros_like(flags), states)
    assert states[0].numpy().tolist() == [[13], [13], [13]]
    assert len(TRACED) == traced


def test_a_variable_is_read_at_each_call() -> None:
    weight = tf.Variable(1.0)
    compiled = CompiledFunction(lambda rows: ([rows[0] * weight],), [[tf.TensorSpec((2,), tf.float32)]], jit=True)
    weight.assign(3.0)
    [[found]] = compiled([np.ones(2, np.float32)])
    assert found.numpy().tolist() == [3, 3]


@pytest.mark.parametrize(
    "wrong", [np.ones((4, 2), np.float32), np.ones((3, 2)), np.ones((2, 3), np.float32)], ids=["slots", "type", "axes"]
)
def test_an_array_that_it_was_not_compiled_for_is_refused(compiled: CompiledFunction, wrong: Any) -> None:
    rows, flags, states = _given()
    with pytest.raises(ValueError, match=r"an array \(3, 2\) of float32 was expected"):
        compiled([wrong, rows[1]], flags, states)


def test_a_missing_argument_is_refused(compiled: CompiledFunction) -> None:
    with pytest.raises(ValueError, match="zip"):
        compiled(*_given()[:2])
