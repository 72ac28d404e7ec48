"""A function that TensorFlow has traced once, for one signature, called with as little between as there can be.

What it decides: that a call takes the arguments as they are to the compiled function. `tf.function` would compare
each of them with the signature, and the traced function still look for tapes, captures and cancellations: of a step
on few slots that is a third of the time. Here only the shapes and types of arrays are compared, since a function that
is given others would be compiled anew without a word.

Limits: no gradient goes through it, and none of its arguments is a variable. `inference_fn` is not of TensorFlow's
documented interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf


class CompiledFunction:
    """A function of lists of arrays or tensors, which may be lists of lists, to a tuple of lists of tensors."""

    def __init__(self, function: Callable[..., tuple[list[Any], ...]], signature: list[Any], *, jit: bool) -> None:
        """signature: the arguments' TensorSpecs, in lists as the arguments are. jit: compile it with XLA."""
        traced = tf.function(function, input_signature=signature, jit_compile=jit, autograph=False)
        self._traced = traced.get_concrete_function()
        self._specs = [(tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype)) for spec in _flat(signature)]
        self._captured = list(self._traced.captured_inputs)
        self._counts = [len(part) for part in self._traced.structured_outputs]

    def __call__(self, *arguments: Any) -> tuple[list[Any], ...]:
        """Raises ValueError where an argument is not as the signature has it."""
        tensors = []
        for values, (shape, dtype) in zip(_flat(arguments), self._specs, strict=True):
            if isinstance(values, np.ndarray):  # a tensor is what another call has returned
                if values.shape != shape or values.dtype != dtype:
                    raise ValueError(
                        f"an array {shape} of {dtype} was expected, {values.shape} of {values.dtype} found"
                    )
                values = tf.constant(values)
            tensors.append(values)
        flat = iter(self._traced.inference_fn.call_flat(*tensors, *self._captured))
        return tuple([next(flat) for _ in range(count)] for count in self._counts)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
