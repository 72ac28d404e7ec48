"""The step as one loop: the whole model on one timestep of all slots, again and again, inside one compiled loop.

What it decides: which models are looped, and that a loop runs only as far as the longest slot of the step. Keras runs
each recurrent layer over the chunk before the next layer begins, in a loop of its own with a mask; here each timestep
goes through all layers while its numbers are still in the cache, a slot without a row there keeps its state, and
nothing is computed behind the last row of the step. The operations on a row, and so the bits of its score, are the same
however long the loop is.

Limits: Keras's own layers only, since custom code may look at more than one timestep of a chunk, and none that names
their number. It leaves alone cuDNN, which wants the chunk whole: on a GPU the step is `stateful_replica.make_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import tree

from lstm_core.step.fused_cells import FusedLSTM, fuse_cell
from lstm_core.step.rebatch import StepModel, is_recurrent
from lstm_core.step.slot_states import keep_where, reset_where

StepOutput: TypeAlias = tuple[list[tf.Tensor], list[tf.Tensor]]  # scores, and the states behind them
# Of rows, reset, lengths, states.
Step: TypeAlias = Callable[[list[tf.Tensor], tf.Tensor, tf.Tensor, list[tf.Tensor]], StepOutput]
# As a step, and of the seating.
NarrowStep: TypeAlias = Callable[[list[tf.Tensor], tf.Tensor, tf.Tensor, list[tf.Tensor], list[tf.Tensor]], StepOutput]
# The TensorSpecs of these; where there are fewer slots, those of the seating stand behind them.
StepSpecs: TypeAlias = tuple[
    list[tf.TensorSpec], tf.TensorSpec, tf.TensorSpec, list[tf.TensorSpec], *tuple[list[tf.TensorSpec], ...]
]
Cells: TypeAlias = dict[int, FusedLSTM]  # by the id of their layer
# What a layer takes and gives.
NestedTensors: TypeAlias = "tf.Tensor | Sequence[NestedTensors] | Mapping[str, NestedTensors]"


def can_loop(step_model: StepModel) -> bool:
    """True where every layer is Keras's own, and none insists on a chunk of its length, as RepeatVector does."""
    outputs = step_model.model.outputs[: len(step_model.output_names)]
    if any(output.shape[1] is not None for output in outputs):  # not one score per row
        return False
    layers = step_model.model._flatten_layers(include_self=False)
    if not all(_is_own(type(layer)) and _is_own(getattr(layer, "activation", None) or tf.identity) for layer in layers):
        return False
    rows = [tf.TensorSpec((2, *shape), dtype) for shape, dtype in step_model.row_shapes()]
    states = [tf.TensorSpec((2, *state.shape), tf.float32) for state in step_model.states]
    live = tf.TensorSpec((2,), tf.bool)
    try:
        tf.function(partial(_timestep, step_model, {}), autograph=False).get_concrete_function(rows, states, live)
    except (ValueError, tf.errors.InvalidArgumentError):  # shapes that do not fit each other
        return False
    return True


def make_narrow(step_model: StepModel, *, width: int, steps: int) -> NarrowStep:
    """The step of some `width` slots as a plain function, as `make_loop`, but `states` are those of all slots.

    seating: the slots (width,) that stand in the rows, and for each slot of all (slot,) where it does, or -1.
    """
    step = make_loop(step_model, width=width, steps=steps)

    def narrow(
        rows: list[tf.Tensor],
        reset: tf.Tensor,
        lengths: tf.Tensor,
        states: list[tf.Tensor],
        seating: list[tf.Tensor],
    ) -> StepOutput:
        slots, place = seating
        scores, after = step(rows, reset, lengths, [tf.gather(state, slots) for state in states])
        back = [tf.gather(state, tf.maximum(place, 0)) for state in after]
        return scores, keep_where(place >= 0, back, states)

    return narrow


def make_loop(step_model: StepModel, *, width: int, steps: int) -> Step:
    """The step of `width` slots as a plain function, to be compiled by the caller.

    rows: per input (width, steps, *row shape). reset, lengths: (width,), no length above `steps`. states: theirs.
    Returns the scores (width, steps, value), without meaning behind a slot's length, and the states.
    """
    outputs = step_model.model.outputs[: len(step_model.output_names)]

    def step(rows: list[tf.Tensor], reset: tf.Tensor, lengths: tf.Tensor, states: list[tf.Tensor]) -> StepOutput:
        before = reset_where(reset, states)
        by_time = [_swapped(array) for array in rows]
        cells = _fused_cells(step_model)

        def rows_at(time: tf.Tensor) -> list[tf.Tensor]:
            # Of an input that is one value per entity the first row of the step counts.
            return [array[0 if fixed else time] for array, fixed in zip(by_time, step_model.static, strict=True)]

        def one(
            time: tf.Tensor, states: list[tf.Tensor], scores: list[tf.TensorArray]
        ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.TensorArray]]:
            found, after = _timestep(step_model, cells, rows_at(time), states, time < lengths)
            return (
                time + 1,
                after,
                [array.write(time, score) for array, score in zip(scores, found, strict=True)],
            )

        scores = [tf.TensorArray(tf.float32, steps, element_shape=(width, *out.shape[2:])) for out in outputs]
        longest = tf.reduce_max(lengths)
        _, after, scores = tf.while_loop(
            lambda time, *_: time < longest, one, (0, before, scores), maximum_iterations=steps
        )
        return [_swapped(array.stack()) for array in scores], after

    return step


def _is_own(code: type | Callable[..., object]) -> bool:
    return str(code.__module__).startswith(("keras.", "tensorflow."))


def _fused_cells(step_model: StepModel) -> Cells:
    """The cells that are not left to Keras."""
    pairs = ((id(layer), fuse_cell(layer.cell)) for _, layer in step_model.rebuilt)
    return {layer: cell for layer, cell in pairs if cell is not None}


def _timestep(
    step_model: StepModel, cells: Cells, rows: list[tf.Tensor], states: list[tf.Tensor], live: tf.Tensor
) -> StepOutput:
    """The model on one row of each slot: scores (slot, value) and states, both float32.

    live: bool (slot,); where a slot has no row its scores have no meaning, and its states stay.
    """
    given = [row if static else row[:, None] for row, static in zip(rows, step_model.static, strict=True)]
    valid = tf.ones((rows[0].shape[0], 1), tf.bool)
    # `valid` and the states are inputs like any other; nothing of the model is called but its layers, one by one.
    found = step_model.model._run_through_graph(
        [*given, valid, *states], operation_fn=_as_it_is, call_fn=partial(_call, cells, live, step_model.masked)
    )
    flat = [tf.cast(tensor, tf.float32) for tensor in tree.flatten(found)]
    count = len(step_model.output_names)
    return [score[:, 0] for score in flat[:count]], flat[count:]


def _as_it_is(layer: keras.Operation) -> keras.Operation:
    return layer


def _call(
    cells: Cells, live: tf.Tensor, masked: frozenset[int], layer: keras.Operation, *args: Any, **kwargs: Any
) -> NestedTensors:
    if is_recurrent(layer):
        row, states = args[0][:, 0], kwargs["initial_state"]
        live = live & kwargs["mask"][:, 0] if id(layer) in masked else live
        if id(layer) in cells:
            hidden, carried = cells[id(layer)](row, list(states), live)
            return [hidden[:, None], hidden, carried]
        return _call_cell(layer.cell, row, list(states), live)
    found: NestedTensors = (
        partial(layer, training=False)(*args, **kwargs) if _can_train(layer) else layer(*args, **kwargs)
    )
    return found


def _call_cell(cell: keras.Layer, row: tf.Tensor, states: list[NestedTensors], live: tf.Tensor) -> list[tf.Tensor]:
    """What the layer would return for one row of each slot: its output along time, then its states."""
    cast = tree.map_structure(lambda state: tf.cast(state, cell.compute_dtype), states)
    output, after = cell(row, cast, training=False) if _can_train(cell) else cell(row, cast)
    found = tree.flatten(after)
    kept = keep_where(live, [tf.cast(state, tf.float32) for state in found], tree.flatten(states))
    output = kept[0] if output is found[0] else output  # one array less to write; without a row it has no meaning
    return [output[:, None], *kept]


def _can_train(layer: keras.Operation) -> bool:
    return bool(getattr(layer, "_call_has_training_arg", False))


def _swapped(array: tf.Tensor) -> tf.Tensor:
    """(slot, step, ...) as (step, slot, ...), and back."""
    return tf.transpose(array, (1, 0, *range(2, len(array.shape))))
