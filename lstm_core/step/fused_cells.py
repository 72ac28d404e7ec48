"""Cells: Keras's LSTM cell with the same weights in less time, for the loop.

What it decides: which cells are computed here, and how. Keras multiplies a row and the state apart and adds the two;
here both stand side by side, so that one product, which is most of a step, does it. And tanh and sigmoid are kept as
fractions until they meet, so that a cell divides twice, where five functions of their own would divide five times.
Both give Keras's numbers but for their last bits, as another order of a sum does. A cell that is set up in any other
way than usual is left to Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from lstm_core.step.slot_states import keep_where

# tanh(x) is x * OVER(x**2) / UNDER(x**2) in single precision, the fraction that Eigen and XLA use; coefficients of the
# highest power first. Behind LIMIT, where tanh is 1 to single precision, it stays what it is there, just 1, with fused
# multiply-adds and without: a gate that is wide open loses nothing.
OVER = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
UNDER = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
LIMIT = 8.38373


@dataclass(frozen=True)
class FusedLSTM:
    """The weights of an LSTM cell, side by side."""

    kernel: tf.Tensor  # (feature + unit, 4 * unit): of the row, then of the hidden state
    bias: tf.Tensor | None  # (4 * unit,)

    def __call__(self, row: tf.Tensor, states: list[tf.Tensor], live: tf.Tensor) -> list[tf.Tensor]:
        """(slot, feature), [hidden, cell], (slot, unit) each, and which slots have a row, (slot,) -> hidden, cell.

        States are kept where there is none as they are computed: apart that would be two passes more over them.
        """
        hidden, carried = states
        gates = tf.matmul(tf.concat([tf.cast(row, tf.float32), hidden], axis=1), self.kernel)
        if self.bias is not None:
            gates += self.bias
        enter, forget, candidate, leave = tf.split(gates, 4, axis=1)  # in the order in which Keras keeps them
        kept, entered = _sigmoid(forget), _sigmoid(enter) * _tanh(candidate)
        [carried] = keep_where(live, [(kept * carried + entered).value], [carried])
        [hidden] = keep_where(live, [(_sigmoid(leave) * _tanh(carried)).value], [hidden])
        return [hidden, carried]


@dataclass(frozen=True)
class _Fraction:
    """over / under, element by element."""

    over: tf.Tensor
    under: tf.Tensor

    @property
    def value(self) -> tf.Tensor:
        return self.over / self.under

    def __add__(self, other: _Fraction) -> _Fraction:
        return _Fraction(self.over * other.under + other.over * self.under, self.under * other.under)

    def __mul__(self, other: _Fraction | tf.Tensor) -> _Fraction:
        if isinstance(other, _Fraction):
            return _Fraction(self.over * other.over, self.under * other.under)
        return _Fraction(self.over * other, self.under)


def fuse_cell(cell: keras.Layer) -> FusedLSTM | None:
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


def _sigmoid(values: tf.Tensor) -> _Fraction:
    """It is half of 1 + tanh of half the argument."""
    half = _tanh(values, scale=0.5, times=0.5)
    return _Fraction(half.over + 0.5 * half.under, half.under)


def _tanh(values: tf.Tensor, *, scale: float = 1.0, times: float = 1.0) -> _Fraction:
    """times * tanh(scale * values); both factors cost nothing, as the coefficients have them."""
    limit = LIMIT / scale
    above = tf.where(values < -limit, -limit, values)  # a NaN stays one
    inside = tf.where(above > limit, limit, above)
    square = inside * inside
    over, under = _scaled(OVER, scale, scale * times), _scaled(UNDER, scale, 1.0)
    return _Fraction(inside * _polynomial(over, square), _polynomial(under, square))


def _scaled(coefficients: Sequence[float], scale: float, times: float) -> list[float]:
    """Those of `times` the polynomial of scale**2 times its argument."""
    highest = len(coefficients) - 1
    return [times * value * scale ** (2 * (highest - index)) for index, value in enumerate(coefficients)]


def _polynomial(coefficients: Sequence[float], argument: tf.Tensor) -> tf.Tensor:
    total = coefficients[0] * argument + coefficients[1]
    for value in coefficients[2:]:
        total = total * argument + value
    return total
