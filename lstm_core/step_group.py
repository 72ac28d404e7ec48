"""A group: several steps that follow each other, in one call of the compiled function.

What it decides: how many, and that they are the same steps. Where no chunk is as long as the model's, as with a day's
rows of each entity, a step is small, and calling it costs as much as the step; so as many of them go into one call as
fill `GROUP_CHUNKS` chunks. Each is the looped step itself, on the states that the one before has left, inside one more
loop; a group is used only where it was seen to give the bits of its steps one by one (see `replica`).

Everything of a group has its slots one step after the other on one axis: (steps * slots, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from lstm_core.loop import Step
from lstm_core.slots import keep_where

GROUP_CHUNKS = 4  # whole chunks, of which the rows of a group's slots fill no more
COUNT_MAX = 16  # beyond it a call costs nothing against its steps


@dataclass(frozen=True)
class GroupShape:
    """What a group is made of."""

    count: int  # steps
    slots: int
    scores: tuple[tuple[int, ...], ...]  # per model output: (slot, step, value)


def group_count(chunk: int, steps: int) -> int:
    """Steps of `steps` timesteps in a group, for a model whose chunk has `chunk`; 1 where a group is of no use."""
    return 1 if steps >= chunk else min(COUNT_MAX, GROUP_CHUNKS * chunk // steps)


def make_group(step: Step, shape: GroupShape) -> Callable[..., Any]:
    """The steps of a group as a plain function, to be compiled by the caller.

    It takes rows, reset, lengths, the states of all slots, and what is put into slots before a step: a flag
    (steps * slots,), and behind it one array (steps * slots, *state) per state tensor. Returns the scores, the states
    after each step, and the states after the last one.
    """

    def group(
        rows: list[Any], reset: Any, lengths: Any, states: list[Any], put_in: list[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        by_step = [_apart(array, shape) for array in rows]
        resets, all_lengths = _apart(reset, shape), _apart(lengths, shape)
        restored, *initial = (_apart(array, shape) for array in put_in)

        def one(number: Any, states: list[Any], scores: list[Any], kept: list[Any]) -> tuple[Any, ...]:
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
            lambda number, *_: number < shape.count, one, (0, states, scores, kept), maximum_iterations=shape.count
        )
        return [_together(array.stack()) for array in scores], [_together(array.stack()) for array in kept], last

    return group


def _apart(array: Any, shape: GroupShape) -> Any:
    """(steps * slots, ...) as (steps, slots, ...)."""
    return tf.reshape(array, (shape.count, shape.slots, *array.shape[1:]))


def _together(array: Any) -> Any:
    """And back."""
    return tf.reshape(array, (-1, *array.shape[2:]))
