"""Tensors by slot, inside a compiled step: which slots keep their state, and which begin from zero."""

from __future__ import annotations

import tensorflow as tf


def keep_where(flags: tf.Tensor, states: list[tf.Tensor], others: list[tf.Tensor]) -> list[tf.Tensor]:
    """`states` in the slots whose flag (slot,) is set, `others` in the rest; every tensor is (slot, *state)."""
    pairs = zip(states, others, strict=True)
    # `where`, not a product: a NaN left in a slot would survive a multiplication by zero.
    return [tf.where(tf.reshape(flags, (-1, *([1] * (len(one.shape) - 1)))), one, other) for one, other in pairs]


def reset_where(flags: tf.Tensor, states: list[tf.Tensor]) -> list[tf.Tensor]:
    """Zero state in the slots whose flag (slot,) is set."""
    return keep_where(flags, [tf.zeros_like(state) for state in states], states)
