"""A function that TensorFlow has traced once, for one signature, called with as little between as there can be.

What it decides: that a call takes the arguments as they are to the compiled function. `tf.function` would compare
each of them with the signature, and the traced function still look for tapes, captures and cancellations: of a step
on few slots that is a third of the time. Here only the shapes and types of arrays are compared, since a function that
is given others would be compiled anew without a word.

Limits: no gradient goes through it, and none of its arguments is a variable. `inference_fn` is not of TensorFlow's
documented interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np
import tensorflow as tf

from lstm_core.array_types import Array
from lstm_core.step.known_shapes import known_shape

ArrayOrTensor: TypeAlias = Array | tf.Tensor  # a tensor is what another call has returned
Spec: TypeAlias = tf.TensorSpec  # a name for files that do not import TensorFlow
Leaf = TypeVar("Leaf")
Returned = TypeVar("Returned", bound=tuple[list[tf.Tensor], ...])


class CompiledFunction(Generic[Returned]):
    """A function of arrays or tensors, and of lists of them, to a tuple of lists of tensors."""

    def __init__(
        self,
        function: Callable[..., Returned],
        signature: Sequence[tf.TensorSpec | Sequence[tf.TensorSpec]],
        *,
        jit: bool,
    ) -> None:
        """signature: the arguments' TensorSpecs, in lists as the arguments are. jit: compile it with XLA."""
        traced = tf.function(function, input_signature=signature, jit_compile=jit, autograph=False)
        self._traced = traced.get_concrete_function()
        self._specs = [(known_shape(spec), np.dtype(spec.dtype.as_numpy_dtype)) for spec in _flat(signature)]
        self._captured = list(self._traced.captured_inputs)
        self._counts = [len(part) for part in self._traced.structured_outputs]

    def __call__(self, *arguments: ArrayOrTensor | Sequence[ArrayOrTensor]) -> Returned:
        """Raises ValueError where an argument is not as the signature has it."""
        tensors: list[tf.Tensor] = []
        given: Iterator[ArrayOrTensor] = _flat(arguments)
        for values, (shape, dtype) in zip(given, self._specs, strict=True):
            if isinstance(values, np.ndarray):
                if values.shape != shape or values.dtype != dtype:
                    raise ValueError(
                        f"an array {shape} of {dtype} was expected, {values.shape} of {values.dtype} found"
                    )
                values = tf.constant(values)
            tensors.append(values)
        flat = iter(self._traced.inference_fn.call_flat(*tensors, *self._captured))
        return cast(Returned, tuple([next(flat) for _ in range(count)] for count in self._counts))


def _flat(values: Iterable[Leaf | Sequence[Leaf]]) -> Iterator[Leaf]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value  # type: ignore[misc]  # why: a sequence that is no list and no tuple never comes
