"""Cells: Keras's LSTM cell with the same weights in less time, for the loop.

What it decides: which cells are computed here, and how. Keras multiplies a row and the state apart and adds the two;
here both stand side by side, so that one product, which is most of a step, does it. And a sigmoid is a tanh of half its
argument, which XLA computes in fewer instructions than an exponential and a division. Both give Keras's numbers but for
their last bits, as another order of a sum does. A cell that is set up in any other way than usual is left to Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True)
class FusedLSTM:
    """The weights of an LSTM cell, side by side."""

    kernel: Any  # (feature + unit, 4 * unit): of the row, then of the hidden state
    bias: Any  # (4 * unit,); None where the cell has none

    def __call__(self, row: Any, states: list[Any]) -> list[Any]:
        """(slot, feature) and [hidden, cell], (slot, unit) each -> hidden, cell."""
        hidden, carried = states
        gates = tf.matmul(tf.concat([tf.cast(row, tf.float32), hidden], axis=1), self.kernel)
        if self.bias is not None:
            gates += self.bias
        enter, forget, candidate, leave = tf.split(gates, 4, axis=1)  # in the order in which Keras keeps them
        carried = _sigmoid(forget) * carried + _sigmoid(enter) * tf.tanh(candidate)
        return [_sigmoid(leave) * tf.tanh(carried), carried]


def fused(cell: Any) -> FusedLSTM | None:
    """The cell on the weights that it has now, to be asked outside of a loop; None where Keras is to compute it."""
    usual = (
        type(cell) is keras.layers.LSTMCell
        and cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
        and cell.compute_dtype == cell.variable_dtype == "float32"
        and cell.quantization_mode is None
    )
    if not usual:
        return None
    kernel = tf.concat([tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)], axis=0)
    return FusedLSTM(kernel, tf.convert_to_tensor(cell.bias) if cell.use_bias else None)


def _sigmoid(values: Any) -> Any:
    return 0.5 * tf.tanh(0.5 * values) + 0.5
