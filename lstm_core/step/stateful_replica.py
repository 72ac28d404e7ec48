"""One replica: a model on fixed batch slots, stepped by a compiled function of one signature per size.

What it decides: the kernel and its compilation, the reset of single slots inside the step, and that an idle slot can
neither fail the batch nor lose its state. The kernel is a function of model, device and settings, never of a timing:
`timestep_loop` where XLA compiles Keras's own layers for a CPU, else the layers on the whole chunk, which is
what cuDNN wants.

Limits: a step gives the bits that `slots` rows of `chunk` timesteps give. A looped step may run on fewer slots and
timesteps, where these hold all its rows and the bits were found to be the same (see `step_sizes`).

It leaves alone: which rows stand where (`packer`), and where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from lstm_core.array_types import AnyInts, Array, Bools, Int32s, Ints
from lstm_core.packing.packer import busy_first, seating
from lstm_core.step.compiled_function import ArrayOrTensor, CompiledFunction
from lstm_core.step.known_shapes import known_shape
from lstm_core.step.rebatch import StepModel, build_step_model, load_model
from lstm_core.step.same_bits import group_has_same_bits, has_same_bits
from lstm_core.step.slot_states import keep_where, reset_where
from lstm_core.step.step_cost import StepCost
from lstm_core.step.step_groups import COUNT_MAX, Group, GroupShape, Restores, group_count
from lstm_core.step.step_sizes import Size, Sizes
from lstm_core.step.timestep_loop import Step, StepOutput, StepSpecs, can_loop, make_loop, make_narrow


@dataclass(frozen=True)
class StepShape:
    """The fixed shape of a replica's steps, and how they are compiled."""

    slots: int
    chunk: int
    jit: bool = True


class StatefulReplica:
    """A rebuilt model with the state of its slots.

    The state is a list of tensors of shape (slot, *state) that a step replaces and never changes: a reference taken
    after a step stays the state after that step.
    """

    def __init__(self, model: keras.Model | bytes, shape: StepShape) -> None:
        """`model` is a Keras model that `model_contract` has accepted, or a `.keras` archive as bytes."""
        if isinstance(model, bytes):
            model = load_model(model, name="the model")
        self.shape = shape
        self.step_model: StepModel = build_step_model(model, cudnn=not shape.jit)
        self.row_dtypes = tuple(np.dtype(spec.dtype.as_numpy_dtype) for spec in self._row_specs())
        self._states: list[tf.Tensor] = []
        self.loops = shape.jit and not tf.config.get_visible_devices("GPU") and can_loop(self.step_model)
        cost = cost_of(self.step_model)
        self.sizes = Sizes((shape.slots, shape.chunk), self._compile_size, cost)
        enough = cost.steps_of_call(shape.slots, shape.chunk)  # of a larger model one is
        self._full = self._make_group(shape.chunk, enough) if self.loops else None
        self._layers = None if self.loops else self._compile_layers()  # what is not looped
        self._short: dict[int, Group | None] = {}  # by the timesteps of their steps; None where the bits differ
        self._group = self._full  # that is used
        self.reset_all()

    def step(self, rows: Sequence[Array], reset: Bools, lengths: Int32s) -> list[tf.Tensor]:
        """One model call, on all slots or, where `fit` allowed it, on fewer.

        rows: one array per model input, (slot, step, feature) or (slot, step); cast to `row_dtypes` where they differ.
        Fewer slots are those of `packer.busy_first`, in one block of a compiled size or several, one after the other.
        Of a static input the chunk's first row counts.
        reset: bool (slot,); the slot starts from zero state. lengths: int32 (slot,); valid rows, 0 for an idle slot;
        more than a chunk where `reach` allowed it.
        Returns one tensor per model output, (slot, step, score), as many slots and timesteps as `rows` has; what stands
        behind a slot's length has no meaning. A score per window stands at each of its rows.
        """
        cast = [array.astype(dtype, copy=False) for array, dtype in zip(rows, self.row_dtypes, strict=True)]
        size = cast[0].shape[:2]
        if size == self.sizes.whole:
            return self._call(self.full_step, cast, reset, lengths)
        block = self.sizes.block(size)
        function = self.sizes.get(block)
        if block[0] == self.shape.slots:
            return self._call(function, cast, reset, lengths)
        slots, found = busy_first(lengths, size[0]), []
        for begin in range(0, size[0], block[0]):
            here = slice(begin, begin + block[0])
            own = slots[here]
            seats = seating(own, len(lengths))
            found.append(self._call(function, [array[here] for array in cast], reset[own], lengths[own], seats))
        return found[0] if len(found) == 1 else [tf.concat(scores, 0) for scores in zip(*found, strict=True)]

    def full_step(
        self, rows: Sequence[Array], reset: Bools, lengths: Int32s, states: Sequence[ArrayOrTensor]
    ) -> StepOutput:
        """The step of all slots for a chunk, on given states: scores and states. Every other size has its bits."""
        if self._layers is not None:
            return self._layers(rows, reset, lengths, states)
        assert self._full is not None, "a model is looped, or its layers are compiled"
        scores, _, after = self._full(rows, reset, lengths, states)
        return [values[: self.shape.slots] for values in scores], after

    def _call(
        self,
        function: Callable[..., StepOutput],
        rows: list[Array],
        reset: Bools,
        lengths: Int32s,
        *seats: tuple[Int32s, Int32s],
    ) -> list[tf.Tensor]:
        scores, self._states = function(rows, reset, lengths, self._states, *seats)
        return scores

    def step_group(
        self, rows: Sequence[Array], reset: Bools, lengths: Int32s, restores: Restores
    ) -> tuple[list[Array], list[Array]]:
        """The steps of a group, one after the other; every array has them so on its first axis: (steps * slots, ...).

        As `step` otherwise, and no more steps than `group` says. restores: places on that axis, and the states
        (place, *state) that they begin with.
        Returns the scores and, per state tensor, the states after each step: arrays (steps * slots, ...).
        """
        assert self._group is not None, "a model that is not looped has no groups"
        cast = [array.astype(dtype, copy=False) for array, dtype in zip(rows, self.row_dtypes, strict=True)]
        scores, kept, self._states = self._group(cast, reset, lengths, self._states, restores)
        found, after = ([tensor.numpy()[: len(reset)] for tensor in tensors] for tensors in (scores, kept))
        return found, after

    @property
    def group(self) -> Size:
        """How many steps a call may have, and of how many timesteps each."""
        return (1, self.shape.chunk) if self._group is None else self._group.size

    @property
    def kernel(self) -> str:
        """What the step is, and why."""
        compiler = "XLA" if self.shape.jit else "plain, as model.jit is false"
        if self.loops:
            together = f"{self.group[0]} steps to a call"
            return f"loop, {compiler}: one timestep through all layers, on as many slots as are busy, {together}"
        if not self.shape.jit or tf.config.get_visible_devices("GPU"):
            return f"layers, {compiler}: the whole chunk through each layer"
        because = "one has custom code or names the chunk's length"
        if self.step_model.windowed:
            because = "there is one score for it"
        return f"layers, {compiler}: the whole chunk through each, as {because}"

    def fit(self, lengths: AnyInts) -> Size:
        """The size (slots, timesteps) to bring rows in, of which the slots have `lengths` (slot,)."""
        return self.sizes.fit(lengths) if self.loops else self.sizes.whole

    def prepare(self, width: int, steps: int, tail: int = 0) -> None:
        """Compiles what series of at most `steps` rows in `width` slots will run on: a group, or a size.

        Also what the last `tail` of them will run on, where these go on for long when the others have ended.
        """
        if not self.loops:
            return
        whole = self.sizes.whole
        size = self.sizes.smallest(min(max(width, 1), whole[0]), max(steps, 1))
        short = self._short_group(size[1]) if size[0] == whole[0] and size[1] < whole[1] else None
        self._group = short or self._full
        if short is None and size[0] < whole[0]:
            self.sizes.prepare(size)
        if short is None and tail:
            self.sizes.prepare(self.sizes.smallest(min(tail, whole[0]), steps))

    def reach(self, left: AnyInts, chunks: int) -> int:
        """How many of the next `chunks` chunks a step may take, where busy slots have `left` (busy slot,) to come."""
        return self.sizes.reach(left, chunks) if self.loops and self._group is self._full else 1

    @property
    def states(self) -> list[tf.Tensor]:
        """The state after the last step: one tensor (slot, *state) per state tensor, never changed in place."""
        return list(self._states)

    def slot_state(self, slots: Ints) -> list[Array]:
        """The state of the given slots: one array (len(slots), *state) per state tensor."""
        return [tensor.numpy()[slots] for tensor in self._states]

    def set_slot_state(self, slots: Ints, states: Sequence[Array]) -> None:
        """Sets the state of the given slots; the others keep theirs. The next step must not reset them."""
        for index, (tensor, values) in enumerate(zip(self._states, states, strict=True)):
            changed = tensor.numpy().copy()
            changed[slots] = values
            self._states[index] = tf.constant(changed)

    def reset_all(self) -> None:
        """Zero state in every slot."""
        slots = self.shape.slots
        self._states = [tf.zeros((slots, *state.shape), tf.float32) for state in self.step_model.states]

    def warm_up(self) -> None:
        """Compiles the step on zeros, and leaves the state at zero."""
        rows = [np.zeros(known_shape(spec), spec.dtype.as_numpy_dtype) for spec in self._row_specs()]
        slots = self.shape.slots
        self.step(rows, np.zeros(slots, np.bool_), np.zeros(slots, np.int32))
        self.reset_all()

    def signature(self, size: Size | None = None) -> StepSpecs:
        """The TensorSpecs of a step, for whoever compiles one of its own: rows, reset, lengths, states.

        Behind them, where it has fewer slots, which ones they are; see `timestep_loop.make_narrow`.
        """
        slots, (width, _) = self.shape.slots, size or self.sizes.whole
        states = [tf.TensorSpec((slots, *state.shape), tf.float32) for state in self.step_model.states]
        specs = (self._row_specs(size), tf.TensorSpec((width,), tf.bool), tf.TensorSpec((width,), tf.int32), states)
        seats = [tf.TensorSpec((count,), tf.int32) for count in (width, slots)]
        return specs if width == slots else (*specs, seats)

    def _row_specs(self, size: Size | None = None) -> list[tf.TensorSpec]:
        lead = size or (self.shape.slots, self.shape.chunk)
        return [tf.TensorSpec((*lead, *shape), dtype) for shape, dtype in self.step_model.row_shapes()]

    def _compile_layers(self) -> CompiledFunction[StepOutput]:
        return CompiledFunction(make_step(self.step_model, self.shape.chunk), self.signature(), jit=self.shape.jit)

    def _short_group(self, steps: int) -> Group | None:
        """The group of steps of so few timesteps, or None where its bits are not those of the full step."""
        if steps not in self._short:
            group, specs = self._make_group(steps), self.signature((self.shape.slots, steps))
            same = group_has_same_bits(group, self.full_step, specs, self.signature())
            self._short[steps] = group if same else None
        return self._short[steps]

    def _make_group(self, steps: int, most: int = COUNT_MAX) -> Group:
        slots, count = self.shape.slots, min(most, group_count(self.shape.chunk, steps))
        outputs = self.step_model.model.outputs[: len(self.step_model.output_names)]
        scores = tuple((slots, steps, *output.shape[2:]) for output in outputs)
        shape = GroupShape(count, slots, scores)
        return Group(make_loop(self.step_model, width=slots, steps=steps), shape, self.signature((slots, steps)))

    def _compile_size(self, size: Size) -> CompiledFunction[StepOutput] | None:
        """The step of a smaller size, or None where its bits are not those of the full step."""
        width, steps = size
        make: Callable[..., Callable[..., StepOutput]] = make_loop if width == self.shape.slots else make_narrow
        specs = self.signature(size), self.signature()
        smaller = CompiledFunction(make(self.step_model, width=width, steps=steps), specs[0], jit=True)
        return smaller if has_same_bits(smaller, self.full_step, *specs, self.step_model.static) else None


def cost_of(step_model: StepModel) -> StepCost:
    """What its steps cost: a weight is used once per row, but for tables, of which a row takes one line."""
    layers = step_model.model._flatten_layers()
    tables = {id(weight) for layer in layers if isinstance(layer, keras.layers.Embedding) for weight in layer.weights}
    used = [weight for weight in step_model.model.weights if id(weight) not in tables]
    products = 2 * sum(int(np.prod(weight.shape)) for weight in used)
    return StepCost.of(products, sum(int(np.prod(state.shape)) for state in step_model.states))


def make_step(step_model: StepModel, chunk: int | tf.Tensor, *, training: bool = False) -> Step:
    """The step as a plain function (rows, reset, lengths, states) -> (scores, states), to be compiled by the caller.

    An idle slot gets one dummy valid row, since cuDNN refuses a batch with a fully masked row; its state is put back.
    """
    score_count = len(step_model.output_names)

    def step(rows: list[tf.Tensor], reset: tf.Tensor, lengths: tf.Tensor, states: list[tf.Tensor]) -> StepOutput:
        before = reset_where(reset, states)
        valid = tf.sequence_mask(tf.maximum(lengths, 1), chunk)
        given = [row[:, 0] if static else row for row, static in zip(rows, step_model.static, strict=True)]
        outputs = step_model.model([*given, valid, *before], training=training)
        after = [tf.cast(state, tf.float32) for state in outputs[score_count:]]
        kept = keep_where(lengths > 0, after, before)
        scores = [tf.cast(score, tf.float32) for score in outputs[:score_count]]
        if step_model.windowed:
            scores = [tf.repeat(score[:, None], chunk, axis=1) for score in scores]
        return scores, kept

    return step
