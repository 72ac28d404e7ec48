"""The truth: one entity alone, unchunked, from zero state, or from the state that an earlier run has left.

Audits and tests compare every other path with this one, so it shares nothing with the step: the model is cloned by
Keras itself, stateless, and called on the whole series at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeGuard, TypeVar

import keras
import numpy as np
import tensorflow as tf

from lstm_core.array_types import Array, Floats
from lstm_core.contract.static_inputs import input_shapes, static_inputs, statics_of
from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.step.rebatch import as_functional, is_recurrent, load_model

States: TypeAlias = dict[tuple[str, int], Floats]  # by the path of a layer and the index of its state tensor

Item = TypeVar("Item")
Nest: TypeAlias = "Item | list[Nest[Item]] | tuple[Nest[Item], ...] | dict[str, Nest[Item]]"  # as Keras nests things
Leaf: TypeAlias = "tf.Tensor | str | float | bool | None"  # a layer is called with plain values too
Arguments: TypeAlias = "tuple[tuple[Nest[Leaf], ...], dict[str, Nest[Leaf]]]"  # by place, by name


class Reference:
    """A stateless copy of a model for any batch and any length."""

    def __init__(self, model: keras.Model | bytes) -> None:
        """`model` may be a `.keras` archive, as bytes."""
        if isinstance(model, bytes):
            model = load_model(model, name="the model")
        self.window = _window_of(model)  # rows of a window, where there is one score for it; None: for a row
        copy = _stateless(model)
        self._ending = _give_sequences(copy)
        self._structure: Nest[keras.KerasTensor] = as_functional(copy).input
        shapes = input_shapes(copy)
        static = statics_of(copy)
        self._static = [name in static for name, _, _ in shapes]
        lead = [(1,) if static else (1, None) for static in self._static]
        signature = [
            tf.TensorSpec((*first, *shape[len(first) :]), dtype)
            for first, (_, shape, dtype) in zip(lead, shapes, strict=True)
        ]
        # A graph of its own, not compiled by XLA: eager Keras takes a millisecond a timestep. One graph serves every
        # length, but not with TimeDistributed, which takes an unknown length for 1: there each length has its graph.
        inner = list(copy._flatten_layers())
        self._repeats: list[keras.layers.RepeatVector] = [
            layer for layer in inner if isinstance(layer, keras.layers.RepeatVector)
        ]
        open_time = not self._repeats and not any(isinstance(layer, keras.layers.TimeDistributed) for layer in inner)
        run = partial(self._run, copy) if self.window is None else partial(self._walk, copy, states=None)
        self._call: Callable[[list[tf.Tensor]], list[tf.Tensor]]
        self._call = tf.function(run, input_signature=[signature] if open_time else None, autograph=False)
        self._dtypes = [spec.dtype.as_numpy_dtype for spec in signature]
        self._call_from: Callable[[list[tf.Tensor], dict[str, tf.Tensor]], list[tf.Tensor]]
        self._call_from = tf.function(partial(self._walk, copy), autograph=False)

    def score(self, rows: Sequence[Array], states: States | None = None) -> list[Array]:
        """Scores of one entity: rows (step, feature) or (step,) per input -> (step, score) per output.

        A model with one score per window gives (window, score); the last window may be incomplete.
        Of a static input the first row counts. With `states` the entity goes on from there instead of zero: one array
        (*state) per state tensor, by the path of its layer and its index.
        """
        for layer in self._repeats:  # what an entity has once is repeated over the whole series
            layer.n = len(rows[self._static.index(False)])
        arrays = [
            np.asarray(array[:1] if static else array[None], dtype)
            for array, static, dtype in zip(map(np.asarray, rows), self._static, self._dtypes, strict=True)
        ]
        tensors = [tf.constant(array) for array in arrays]
        if states is None:
            return self._of_entity(self._call(tensors))
        given = {f"{layer} {index}": tf.constant(values[None], tf.float32) for (layer, index), values in states.items()}
        return self._of_entity(self._call_from(tensors, given))

    def _of_entity(self, outputs: list[tf.Tensor]) -> list[Array]:
        """Without the batch, which is one entity, or the windows of one."""
        return [output.numpy() if self.window is not None else output.numpy()[0] for output in outputs]

    def _run(self, model: keras.Model, rows: list[tf.Tensor]) -> list[tf.Tensor]:
        return list(keras.tree.flatten(model(keras.tree.pack_sequence_as(self._structure, rows), training=False)))

    def _walk(self, model: keras.Model, rows: list[tf.Tensor], states: dict[str, tf.Tensor] | None) -> list[tf.Tensor]:
        """As `_run`, layer by layer: each recurrent one is told where it begins, where that is not at zero, and of one
        that gives a value per window the rows that end a window go on, as a batch of windows."""
        taken: dict[str, int] = {}

        def through(model: keras.Model, tensors: Nest[Leaf], path: str) -> Nest[Leaf]:
            def call(layer: keras.Operation, *args: Nest[Leaf], **kwargs: Nest[Leaf]) -> Nest[Leaf]:
                output: Nest[Leaf]
                if is_recurrent(layer):
                    if states is not None:
                        kwargs["initial_state"] = _initial(layer, path + layer.name, states, taken)
                    output = layer(*args, **kwargs)
                    mask = kwargs.get("mask")
                    if states is not None and _is_tensor(mask):
                        output = _repeated(layer, output, mask, kwargs["initial_state"])
                    return self._at_window_ends(output) if layer in self._ending else output
                if isinstance(layer, keras.Model):
                    return through(layer, args[0], f"{path}{layer.name}/")
                args, kwargs = _one_per_window((args, kwargs)) if self._ending else (args, kwargs)
                output = layer(*args, **kwargs)
                return output

            graph = as_functional(model)
            outputs: Nest[Leaf] = graph._run_through_graph(tensors, operation_fn=lambda layer: layer, call_fn=call)
            return outputs

        return list(keras.tree.flatten(through(model, keras.tree.pack_sequence_as(self._structure, rows), "")))

    def _at_window_ends(self, output: Nest[Leaf]) -> Nest[Leaf]:
        """(1, step, unit) -> (window, unit); of a layer that returns its state that is handed on, which nobody uses."""
        assert self.window is not None, "only a window has an end"
        sequence, *rest = keras.tree.flatten(output)
        length = tf.shape(sequence)[1]
        ends = tf.minimum(tf.range(self.window, length + self.window, self.window), length) - 1
        last = tf.gather(sequence[0], ends)
        return [last, *rest] if rest else last


def _initial(layer: keras.layers.RNN, place: str, states: dict[str, tf.Tensor], taken: dict[str, int]) -> Nest[Leaf]:
    """The state that a recurrent layer goes on from; one that is applied again has more of them."""
    first, before = taken.get(place, 0), layer.get_initial_state(1)
    taken[place] = first + len(keras.tree.flatten(before))
    wanted = [states[f"{place} {index}"] for index in range(first, taken[place])]
    initial: Nest[Leaf] = keras.tree.pack_sequence_as(before, wanted)
    return initial


def _repeated(layer: keras.layers.RNN, output: Nest[Leaf], mask: tf.Tensor, initial: Nest[Leaf]) -> Nest[Leaf]:
    """The output with that of the row before it in the first rows that are masked; Keras gives zeros there.

    Of Keras's own cells the output is the first of the last cell's states.
    """
    sequence, *rest = keras.tree.flatten(output)
    cells = layer.cell.cells[:-1] if isinstance(layer.cell, keras.layers.StackedRNNCells) else []
    place = len(keras.tree.flatten([cell.state_size for cell in cells]))
    given: list[tf.Tensor] = keras.tree.flatten(initial)
    before = tf.cast(given[place], sequence.dtype)[:, None]
    begun = tf.cumsum(tf.cast(mask, tf.int32), axis=1)[..., None] > 0
    full = tf.where(begun, sequence, before)
    return [full, *rest] if rest else full


def _one_per_window(given: Arguments) -> Arguments:
    """The arguments of a layer, with what an entity has once repeated for each of its windows."""
    tensors = [leaf for leaf in keras.tree.flatten(given) if _is_tensor(leaf)]
    if len(tensors) < 2:
        return given
    most = tf.reduce_max([tf.shape(tensor)[0] for tensor in tensors])

    def repeat(leaf: Leaf) -> Leaf:
        repeated: Leaf = tf.repeat(leaf, most // tf.shape(leaf)[0], axis=0) if _is_tensor(leaf) else leaf
        return repeated

    arguments: Arguments = keras.tree.map_structure(repeat, given)
    return arguments


def _is_tensor(leaf: Nest[Leaf]) -> TypeGuard[tf.Tensor]:
    return bool(tf.is_tensor(leaf))


def _window_of(model: keras.Model) -> int | None:
    """The length in time that the inputs fix, where the outputs have no axis for time."""
    if any(len(output.shape) != 2 for output in as_functional(model).outputs):
        return None
    static = statics_of(model)
    length = next(shape[1] for name, shape, _ in input_shapes(model) if name not in static)
    assert length is not None, "a window's length is part of the model"
    return length


def _give_sequences(model: keras.Model) -> tuple[keras.layers.RNN, ...]:
    """Makes every recurrent layer give all its rows; returns those that gave only the last one."""
    ending = [layer for layer in model._flatten_layers() if is_recurrent(layer) and not layer.return_sequences]
    for layer in ending:
        layer.return_sequences = True
    return tuple(ending)


def _stateless(model: keras.Model) -> keras.Model:
    """The model with batch and time open and no layer stateful; weights are shared with a copy, not with `model`."""
    config = _opened(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(config)
    with tempfile.TemporaryDirectory() as folder:  # as a file is loaded: some layers derive constants only then
        weights = os.path.join(folder, "model.weights.h5")
        model.save_weights(weights)
        copy.load_weights(weights)
    assert not any(layer.stateful for layer in copy._flatten_layers() if is_recurrent(layer))
    return copy


def _opened(config: JsonValue, static: frozenset[str] = frozenset()) -> JsonValue:
    """The serialized model without `stateful`, fixed batches, fixed lengths and what was built from them.

    `static` are the inputs, of the model around, whose second axis is no time.
    """
    if isinstance(config, list):
        return [_opened(value, static) for value in config]
    if not isinstance(config, dict):
        return config
    if "layers" in config:
        static = _static_layers(config)
    opened = {key: _opened(value, static) for key, value in config.items() if key != "build_config"}
    opened |= {option: False for option in ("stateful", "unroll") if opened.get(option)}
    for key in ("batch_shape", "batch_input_shape"):
        if isinstance(opened.get(key), (list, tuple)):
            opened[key] = [None, *(opened[key][1:] if opened.get("name") in static else [None, *opened[key][2:]])]
    if opened.get("class_name") == "__keras_tensor__":
        shape = opened["config"]["shape"]
        opened["config"]["shape"] = [None, None, *shape[2:]]
    return opened


def _static_layers(model: JsonObject) -> frozenset[str]:
    configs = [layer["config"] for layer in model["layers"] if layer["class_name"] == "InputLayer"]
    return static_inputs([(config["name"], config["batch_shape"], str(config["dtype"])) for config in configs], model)
