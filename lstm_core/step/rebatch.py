"""Rebatch: any accepted Keras model -> the same model as one step with its state explicit.

The step model maps (rows, valid mask, states) to (scores, new states). State that is an argument, not a variable
hidden in a layer, can be reset slot by slot, read, kept, shipped and set; and holding a reference to it is a snapshot.
Nothing of Keras's own `stateful=True` is used: it pins the batch size, resets all slots at once, and is lost on save.

Every layer but the recurrent ones is used as it is, with its weights. A recurrent layer is rebuilt from its config, not
stateful, returning its state, with the same weights, and called with the carried state and the valid mask: the mask
freezes the state behind a series' last row, so that a state that is kept is the state after that row.

It leaves alone: whether the model is fit for chunks (`model_contract`), and the fixed signature and compilation
(`stateful_replica`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import tree

from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.contract.static_inputs import input_shapes, statics_of
from lstm_core.errors import ModelRefused
from lstm_core.step.known_shapes import known_shape

if TYPE_CHECKING:
    import tensorflow as tf

# What a layer takes and gives.
NestedKerasTensors: TypeAlias = "keras.KerasTensor | Sequence[NestedKerasTensors] | Mapping[str, NestedKerasTensors]"
RebuiltLayer: TypeAlias = tuple[keras.layers.RNN, keras.layers.RNN]  # the given model's, and what takes its place


@dataclass(frozen=True)
class StateTensor:
    """One tensor of recurrent state."""

    layer: str  # path of the layer: the names of the models that it is nested in, and its own
    index: int  # position among the layer's states, flattened; those of a second application follow
    shape: tuple[int, ...]  # without the slot axis


@dataclass(frozen=True)
class StepModel:
    """A model with explicit state: inputs [*rows, valid, *states], outputs [*scores, *states]."""

    model: keras.Model
    input_names: tuple[str, ...]
    static: tuple[bool, ...]  # (input,) one value per entity, without an axis for time
    output_names: tuple[str, ...]
    states: tuple[StateTensor, ...]
    rebuilt: tuple[RebuiltLayer, ...]
    recurrent: tuple[tuple[str, keras.layers.RNN], ...]  # (path as in `states`, layer of the given model)
    masked: frozenset[int] = frozenset()  # ids of rebuilt layers that are given a mask of the model's own

    @property
    def windowed(self) -> bool:
        """True for one score per window, (slot, score), where others give (slot, step, score)."""
        return len(self.model.outputs[0].shape) == 2

    def row_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """(shape of one row, dtype) of every input as it is packed, static ones with every row."""
        inputs = zip(self.model.inputs, self.static, strict=False)
        return [(tuple(tensor.shape[1 if static else 2 :]), tensor.dtype) for tensor, static in inputs]

    def copy_in(self) -> None:
        """Gives the layers in their place the weights of the given model's."""
        for original, rebuilt in self.rebuilt:
            _copy_variables(original, rebuilt)

    def copy_back(self) -> None:
        """Gives the layers of the given model the weights of those in their place; all others are shared anyway."""
        for original, rebuilt in self.rebuilt:
            _copy_variables(rebuilt, original)


def load_model(blob: bytes, *, name: str, code: CustomCode = NO_CODE) -> keras.Model:
    """The Keras model of a `.keras` archive, in safe mode and uncompiled. Raises `ModelRefused` and `UsageError`."""
    code.load()
    with tempfile.NamedTemporaryFile(suffix=".keras", delete=False) as file:
        file.write(blob)
    try:
        return keras.saving.load_model(file.name, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises anything on what is no model
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ModelRefused(
            f"{name} cannot be loaded by Keras {keras.version()}: expected a .keras file that loads in safe mode, "
            f"found: {first_line} Save it again with this version of Keras."
        ) from None
    finally:
        os.unlink(file.name)


def save_model(model: keras.Model) -> bytes:
    """The `.keras` archive of a model, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        with open(path, "rb") as file:
            return file.read()


def build_step_model(model: keras.Model, *, cudnn: bool = False) -> StepModel:
    """Rebuilds `model` as a step model. Any slot count and any chunk fit it: `stateful_replica` fixes both.

    With `cudnn` its layers run on cuDNN where Keras finds a GPU and has a kernel; XLA compiles no step that does.
    """
    walk = _Walk(cudnn=cudnn)
    shapes = input_shapes(model)
    static = statics_of(model)
    rows = [
        keras.Input(batch_shape=(None, *(shape[1:] if name in static else (None, *shape[2:]))), dtype=dtype)
        for name, shape, dtype in shapes
    ]
    scores = tree.flatten(walk.through(model, tree.pack_sequence_as(as_functional(model).input, rows)))
    step = _joined([*rows, walk.valid, *walk.states_in], [*scores, *walk.states_out], walk.called)
    rebuilt = StepModel(
        model=step,
        input_names=tuple(name for name, _, _ in shapes),
        static=tuple(name in static for name, _, _ in shapes),
        output_names=tuple(as_functional(model).output_names),
        states=tuple(walk.states),
        rebuilt=walk.rebuilt,
        recurrent=tuple(walk.recurrent.items()),
        masked=frozenset(walk.masked),
    )
    rebuilt.copy_in()
    return rebuilt


def _joined(
    inputs: list[keras.KerasTensor], outputs: list[keras.KerasTensor], called: list[keras.Operation]
) -> keras.Model:
    """The model from inputs to outputs, whose operations may have one name.

    Two nested models may each have a layer of one name, and in one graph Keras wants different ones. It asks for them
    only while it joins the graph; the layers are the given model's, so they get their own names back.
    """
    named = {id(operation): (operation, operation.name) for operation in called}
    try:
        for number, (operation, _) in enumerate(named.values()):
            operation.name = f"called_{number}"
        return keras.Model(inputs, outputs)
    finally:
        for operation, name in named.values():
            operation.name = name


def as_functional(model: keras.Model) -> keras.Model:
    """The Functional model behind a Sequential one; a Functional model is its own."""
    return model._functional if isinstance(model, keras.Sequential) else model


def is_recurrent(layer: keras.Operation) -> bool:
    """True for LSTM, GRU, SimpleRNN and RNN(cells): layers that keep state along time."""
    return isinstance(layer, keras.layers.RNN)


def _copy_variables(source: keras.Layer, target: keras.Layer) -> None:
    """Gives a layer what another of the same build would save, as Keras loads a file.

    `set_weights` would not do: a layer may derive constants from its weights when they are loaded, as Normalization
    does, and only `load_own_variables` tells it that they are.
    """
    for one, other in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        kept: dict[str, keras.Variable] = {}
        one.save_own_variables(kept)
        other.load_own_variables({key: keras.ops.convert_to_numpy(value) for key, value in kept.items()})


def _repeated(
    layer: keras.layers.RNN, output: keras.KerasTensor, mask: keras.KerasTensor, before: NestedKerasTensors
) -> keras.KerasTensor:
    """The output of a layer with that of the row before the chunk in the first rows that are masked.

    Keras repeats the row before within a call, and begins each call with zeros. Of its own cells the output is the
    first of the last cell's states, and those of others the contract refuses under a mask.
    """
    held = keras.ops.cast(tree.flatten(before)[_place_of_output(layer)], output.dtype)
    begun = keras.ops.cumsum(keras.ops.cast(mask, "int32"), axis=1) > 0
    if layer.return_sequences:
        return keras.ops.where(begun[..., None], output, held[:, None])
    return keras.ops.where(begun[:, -1:], output, held)


def _place_of_output(layer: keras.layers.RNN) -> int:
    """Which of the layer's states, flattened, is its output, where its cells are Keras's own."""
    if not isinstance(layer.cell, keras.layers.StackedRNNCells):
        return 0
    return len(tree.flatten([cell.state_size for cell in layer.cell.cells[:-1]]))


def _no_mask(*_: object) -> None:
    """The valid mask ends at the recurrent layer: others would warn of it, or skip what they must score."""


class _Walk:
    """One pass through a model's graph, nested models included, that swaps the recurrent layers."""

    def __init__(self, *, cudnn: bool) -> None:
        self._cudnn = cudnn
        self.valid = keras.Input(batch_shape=(None, None), dtype="bool")
        self.states: list[StateTensor] = []
        self.states_in: list[keras.KerasTensor] = []
        self.states_out: list[keras.KerasTensor] = []
        self.recurrent: dict[str, keras.layers.RNN] = {}  # path -> layer of the given model
        self.called: list[keras.Operation] = []  # the nodes of the step's graph
        self.masked: set[int] = set()
        self._rebuilt: dict[int, RebuiltLayer] = {}  # by the id of the given model's layer

    def through(self, model: keras.Model, tensors: NestedKerasTensors, path: str = "") -> NestedKerasTensors:
        """The outputs of `model` on new input tensors, in the structure of each; `path` is where the model is nested.

        `keras.models.clone_model` wraps the same traversal, but it makes a model of what comes out, and refuses a graph
        that has gained inputs on the way: the states.
        """
        call = partial(self._call, path)
        return as_functional(model)._run_through_graph(tensors, operation_fn=lambda layer: layer, call_fn=call)

    @property
    def rebuilt(self) -> tuple[RebuiltLayer, ...]:
        """Every recurrent layer and the one that takes its place."""
        return tuple(self._rebuilt.values())

    def _call(self, path: str, layer: keras.Operation, *args: Any, **kwargs: Any) -> NestedKerasTensors:
        if is_recurrent(layer):
            rows = args[0] if args else kwargs["sequences"]
            return self._call_recurrent(layer, rows, kwargs.get("mask"), path + layer.name)
        if isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras."):  # a subclass may do anything
            return self.through(layer, args[0] if args else kwargs["inputs"], f"{path}{layer.name}/")
        self.called.append(layer)
        return layer(*args, **kwargs)

    def _call_recurrent(
        self, layer: keras.layers.RNN, rows: keras.KerasTensor, mask: keras.KerasTensor | None, path: str
    ) -> keras.KerasTensor:
        rebuilt = self._rebuild(layer)
        self.called.append(rebuilt)
        self.recurrent[path] = layer
        before = tree.map_structure(self._state_input(path), rebuilt.get_initial_state(1))
        if mask is None:
            output, *after = tree.flatten(rebuilt(rows, initial_state=before, mask=self.valid))
        else:
            self.masked.add(id(rebuilt))
            rebuilt.use_cudnn = False  # its kernels take padding at the end, and no other mask
            seen = keras.ops.logical_and(self.valid, mask)
            output, *after = tree.flatten(rebuilt(rows, initial_state=before, mask=seen))
            output = _repeated(rebuilt, output, seen, before)
        self.states_out += after
        return output

    def _rebuild(self, layer: keras.layers.RNN) -> keras.layers.RNN:
        if id(layer) in self._rebuilt:  # applied once more: the same weights, states of its own
            return self._rebuilt[id(layer)][1]
        config = layer.get_config() | {"stateful": False, "return_state": True}
        rebuilt = type(layer).from_config(config)
        rebuilt.compute_mask = _no_mask
        if not self._cudnn and hasattr(rebuilt, "use_cudnn"):
            rebuilt.use_cudnn = False  # else Keras puts cuDNN's op into the graph of any process that sees a GPU
        self._rebuilt[id(layer)] = (layer, rebuilt)
        return rebuilt

    def _state_input(self, path: str) -> Callable[[tf.Tensor], keras.KerasTensor]:
        def make(initial: tf.Tensor) -> keras.KerasTensor:
            index = sum(state.layer == path for state in self.states)
            state = StateTensor(path, index, known_shape(initial)[1:])
            self.states.append(state)
            tensor = keras.Input(batch_shape=(None, *state.shape), dtype="float32")
            self.states_in.append(tensor)
            return tensor

        return make
