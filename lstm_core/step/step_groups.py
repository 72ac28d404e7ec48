"""A group: several steps that follow each other, in one call of the compiled function.

What it decides: how many, and that they are the same steps. To call the function costs as much as a dozen slots do, and
the caches are cold behind every call; so several steps go into one, each the looped step itself on the states that the
one before has left, with its own resets, inside one more loop that ends behind the last step that has a row. On all
slots a step is always such a group, if often of one. Where no chunk is as long as the model's, as with a day's rows of
each entity, as many shorter steps are one as fill `GROUP_CHUNKS` chunks; these are used only where they were seen to
give the bits of the others (see `stateful_replica`).

Everything of a group has its slots one step after the other on one axis: (steps * slots, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from lstm_core.array_types import Array, Bools, Int32s, Ints
from lstm_core.step.compiled_function import ArrayOrTensor, CompiledFunction
from lstm_core.step.known_shapes import known_shape
from lstm_core.step.slot_states import keep_where
from lstm_core.step.timestep_loop import Step, StepSpecs

# Places (place,) on the axis of all steps' slots, and per state tensor the states (place, *state) that are put there.
Restores: TypeAlias = Sequence[tuple[Ints, Sequence[Array]]]
# Scores, the states after each step, and those after the last one.
GroupOutput: TypeAlias = tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]
# Of rows, reset, lengths, the states before, and what is put in.
GroupStep: TypeAlias = Callable[[list[tf.Tensor], tf.Tensor, tf.Tensor, list[tf.Tensor], list[tf.Tensor]], GroupOutput]

GROUP_CHUNKS = 8  # whole chunks, of which the rows of a group's slots fill no more
COUNT_MAX = 16  # beyond it a call costs nothing against its steps


@dataclass(frozen=True)
class GroupShape:
    """What a group is made of."""

    count: int  # steps
    slots: int
    scores: tuple[tuple[int, ...], ...]  # per model output: (slot, step, value)


def group_count(chunk: int, steps: int) -> int:
    """Steps of `steps` timesteps in a group, at most, for a model whose chunk has `chunk`."""
    return min(COUNT_MAX, GROUP_CHUNKS * chunk // min(steps, chunk))


class Group:
    """A compiled group."""

    def __init__(self, step: Step, shape: GroupShape, signature: StepSpecs) -> None:
        """`signature`: the TensorSpecs of one step: rows, reset, lengths, states."""
        rows, reset, lengths, states, *_ = signature
        self.size = (shape.count, known_shape(rows[0])[1])  # steps, timesteps of each
        self._places = shape.count * shape.slots
        flags, initial = self._wide([reset]), self._wide(states)
        put_in = [*flags, *initial]
        specs: list[tf.TensorSpec | list[tf.TensorSpec]]
        specs = [self._wide(rows), *flags, *self._wide([lengths]), states, put_in]
        self._function = CompiledFunction(make_group(step, shape), specs, jit=True)
        self._nothing = [tf.zeros(spec.shape, spec.dtype) for spec in put_in]

    def __call__(
        self,
        rows: Sequence[Array],
        reset: Bools,
        lengths: Int32s,
        states: Sequence[ArrayOrTensor],
        restores: Restores = (),
    ) -> GroupOutput:
        """The steps, as many as are given: every array (steps * slots, ...), but `states`, which are those before.

        Returns scores and the states after each step, (most steps * slots, ...) each, without meaning behind the steps
        that were given, and the states after the last one.
        """
        given = [self._filled(array) for array in rows]
        put_in = self._put_in(restores) if restores else self._nothing
        return self._function(given, self._idle(reset), self._idle(lengths), states, put_in)

    def _wide(self, specs: Sequence[tf.TensorSpec]) -> list[tf.TensorSpec]:
        return [tf.TensorSpec((self._places, *spec.shape[1:]), spec.dtype) for spec in specs]

    def _filled(self, array: Array) -> Array:
        """No step is taken on what is added."""
        if len(array) == self._places:
            return array
        whole = np.empty((self._places, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        return whole

    def _idle(self, array: Array) -> Array:
        return np.concatenate([array, np.zeros(self._places - len(array), array.dtype)])

    def _put_in(self, restores: Restores) -> list[Array]:
        restored, *initial = (np.zeros(known_shape(tensor), tensor.dtype.as_numpy_dtype) for tensor in self._nothing)
        for places, states in restores:
            restored[places] = True
            for array, values in zip(initial, states, strict=True):
                array[places] = values
        return [restored, *initial]


def make_group(step: Step, shape: GroupShape) -> GroupStep:
    """The steps of a group as a plain function, to be compiled by the caller.

    It takes rows, reset, lengths, the states of all slots, and what is put into slots before a step: a flag
    (steps * slots,), and behind it one array (steps * slots, *state) per state tensor. Returns the scores, the states
    after each step, and the states after the last one. Behind the last step with a row there is nothing of meaning.
    """

    def group(
        rows: list[tf.Tensor],
        reset: tf.Tensor,
        lengths: tf.Tensor,
        states: list[tf.Tensor],
        put_in: list[tf.Tensor],
    ) -> GroupOutput:
        by_step = [_apart(array, shape) for array in rows]
        resets, all_lengths = _apart(reset, shape), _apart(lengths, shape)
        restored, *initial = (_apart(array, shape) for array in put_in)
        does = tf.reduce_any((all_lengths > 0) | resets | restored, axis=1)
        used = tf.reduce_max(tf.where(does, tf.range(1, shape.count + 1), 0))

        def one(
            number: tf.Tensor, states: list[tf.Tensor], scores: list[tf.TensorArray], kept: list[tf.TensorArray]
        ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.TensorArray], list[tf.TensorArray]]:
            before = keep_where(restored[number], [array[number] for array in initial], states)
            found, after = step([array[number] for array in by_step], resets[number], all_lengths[number], before)
            return (
                number + 1,
                after,
                [array.write(number, values) for array, values in zip(scores, found, strict=True)],
                [array.write(number, values) for array, values in zip(kept, after, strict=True)],
            )

        scores = [tf.TensorArray(tf.float32, shape.count, element_shape=values) for values in shape.scores]
        kept = [tf.TensorArray(tf.float32, shape.count, element_shape=state.shape) for state in states]
        _, last, scores, kept = tf.while_loop(
            lambda number, *_: number < used, one, (0, states, scores, kept), maximum_iterations=shape.count
        )
        return [_together(array.stack()) for array in scores], [_together(array.stack()) for array in kept], last

    return group


def _apart(array: tf.Tensor, shape: GroupShape) -> tf.Tensor:
    """(steps * slots, ...) as (steps, slots, ...)."""
    return tf.reshape(array, (shape.count, shape.slots, *array.shape[1:]))


def _together(array: tf.Tensor) -> tf.Tensor:
    """And back."""
    return tf.reshape(array, (-1, *array.shape[2:]))
