"""The truth: one entity alone, unchunked, from zero state, or from the state that an earlier run has left.

Audits and tests compare every other path with this one, so it shares nothing with the step: the model is cloned by
Keras itself, stateless, and called on the whole series at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lstm_core.inputs import input_shapes, static_inputs
from lstm_core.rebatch import as_functional, is_recurrent, load_model

Array = NDArray[Any]
States = dict[tuple[str, int], Array]  # by the path of a layer and the index of its state tensor


class Reference:
    """A stateless copy of a model for any batch and any length."""

    def __init__(self, model: Any) -> None:
        """`model` is a Keras model, or a `.keras` archive as bytes."""
        if isinstance(model, bytes):
            model = load_model(model, name="the model")
        copy = _stateless(model)
        self._structure = as_functional(copy).input
        shapes = input_shapes(copy)
        self._static = [name in static_inputs(shapes) for name, _, _ in shapes]
        lead = [(1,) if static else (1, None) for static in self._static]
        signature = [
            tf.TensorSpec((*first, *shape[len(first) :]), dtype)
            for first, (_, shape, dtype) in zip(lead, shapes, strict=True)
        ]
        # A graph of its own, not compiled by XLA: eager Keras takes a millisecond a timestep. One graph serves every
        # length, but not with TimeDistributed, which takes an unknown length for 1: there each length has its graph.
        inner = list(copy._flatten_layers())
        self._repeats = [layer for layer in inner if isinstance(layer, keras.layers.RepeatVector)]
        open_time = not self._repeats and not any(isinstance(layer, keras.layers.TimeDistributed) for layer in inner)
        self._call = tf.function(
            partial(self._run, copy), input_signature=[signature] if open_time else None, autograph=False
        )
        self._dtypes = [spec.dtype.as_numpy_dtype for spec in signature]
        self._call_from = tf.function(partial(self._run_from, copy), autograph=False)

    def score(self, rows: Sequence[Array], states: States | None = None) -> list[Array]:
        """Scores of one entity: rows (step, feature) or (step,) per input -> (step, score) per output.

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
            return [output.numpy()[0] for output in self._call(tensors)]
        given = {f"{layer} {index}": tf.constant(values[None], tf.float32) for (layer, index), values in states.items()}
        return [output.numpy()[0] for output in self._call_from(tensors, given)]

    def _run(self, model: Any, rows: list[Any]) -> list[Any]:
        return list(keras.tree.flatten(model(keras.tree.pack_sequence_as(self._structure, rows), training=False)))

    def _run_from(self, model: Any, rows: list[Any], states: dict[str, Any]) -> list[Any]:
        """As `_run`, each recurrent layer being told where it begins; a layer that is applied again has more states."""
        taken: dict[str, int] = {}

        def through(model: Any, tensors: Any, path: str) -> Any:
            def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
                if is_recurrent(layer):
                    place = path + layer.name
                    first, before = taken.get(place, 0), layer.get_initial_state(1)
                    taken[place] = first + len(keras.tree.flatten(before))
                    wanted = [states[f"{place} {index}"] for index in range(first, taken[place])]
                    kwargs["initial_state"] = keras.tree.pack_sequence_as(before, wanted)
                elif isinstance(layer, keras.Model):
                    return through(layer, args[0], f"{path}{layer.name}/")
                return layer(*args, **kwargs)

            return as_functional(model)._run_through_graph(tensors, operation_fn=lambda layer: layer, call_fn=call)

        return list(keras.tree.flatten(through(model, keras.tree.pack_sequence_as(self._structure, rows), "")))


def _stateless(model: Any) -> Any:
    """The model with batch and time open and no layer stateful; weights are shared with a copy, not with `model`."""
    config = _opened(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(model.get_weights())
    assert not any(layer.stateful for layer in copy._flatten_layers() if is_recurrent(layer))
    return copy


def _opened(config: Any, static: frozenset[str] = frozenset()) -> Any:
    """The serialized model without `stateful`, fixed batches, fixed lengths and what was built from them.

    `static` are the inputs, of the model around, whose second axis is no time.
    """
    if isinstance(config, list):
        return [_opened(value, static) for value in config]
    if not isinstance(config, dict):
        return config
    if "layers" in config:
        static = _static_layers(config["layers"])
    opened = {key: _opened(value, static) for key, value in config.items() if key != "build_config"}
    opened |= {option: False for option in ("stateful", "unroll") if opened.get(option)}
    for key in ("batch_shape", "batch_input_shape"):
        if isinstance(opened.get(key), (list, tuple)):
            opened[key] = [None, *(opened[key][1:] if opened.get("name") in static else [None, *opened[key][2:]])]
    if opened.get("class_name") == "__keras_tensor__":
        shape = opened["config"]["shape"]
        opened["config"]["shape"] = [None, None, *shape[2:]]
    return opened


def _static_layers(layers: list[dict[str, Any]]) -> frozenset[str]:
    configs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
    return static_inputs([(config["name"], config["batch_shape"], str(config["dtype"])) for config in configs])
