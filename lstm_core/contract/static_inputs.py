"""Which inputs of a model are series, and which are static: one value per entity, fed to every chunk.

Keras does not say which axis is time. A vector per row has rank 3 and is a series. An input of rank 2 is a series of
codes where its length is open, or is codes of the length that the series have; else it is static: its fixed axis holds
columns. Codes are whole numbers, and also what Embedding layers alone look at: Keras's default type for an input is
float32, for codes too. One rule, for the archive and for the loaded model.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Protocol, TypeAlias

from lstm_core.json_types import JsonObject, JsonValue

_LOOKS_AT_NO_VALUE = frozenset({"NotEqual", "OnesLike", "ZerosLike"})  # of which Keras makes masks
_EVERYWHERE = range(2**31)
InputShape: TypeAlias = tuple[str, Sequence[int | None], str]  # (name, (batch, ...), dtype)


class InputLayer(Protocol):
    """The layer of one input of a loaded model."""

    name: str


class History(Protocol):
    """Where a tensor comes from."""

    operation: InputLayer


class InputTensor(Protocol):
    """What Keras says of one input of a loaded model; it has the input's name only where the input was given one."""

    _keras_history: History
    shape: Sequence[int | None]  # (batch, ...)
    dtype: str


class LoadedModel(Protocol):
    """A `keras.Model`, by what is asked of it here: this file is read where Keras is not loaded."""

    @property
    def inputs(self) -> Sequence[InputTensor]: ...

    def get_config(self) -> JsonObject: ...


def static_inputs(inputs: Sequence[InputShape], config: JsonObject) -> frozenset[str]:
    """The names of the static inputs among all inputs of a model, whose configuration holds its layers."""
    embedded = embedded_inputs(config)
    codes = {name for name, _, dtype in inputs if dtype.startswith(("int", "uint")) or name in embedded}
    times = _times(inputs, codes)
    flat = [(name, shape[1]) for name, shape, _ in inputs if len(shape) == 2]
    return frozenset(name for name, size in flat if size is not None and not (size in times and name in codes))


def statics_of(model: LoadedModel) -> frozenset[str]:
    """The names of the static inputs of a loaded Keras model."""
    return static_inputs(input_shapes(model), model.get_config())


def embedded_inputs(config: JsonObject) -> frozenset[str]:
    """The inputs of a model whose values nothing but Embedding layers looks at, also within nested models."""
    layers = config["layers"]
    if layers and not any("inbound_nodes" in layer for layer in layers):  # Sequential: each layer feeds the next one
        first, *rest = layers
        is_code = first["class_name"] == "InputLayer" and rest and 0 in _code_places(rest[0])
        return frozenset({str(first["config"]["name"])} if is_code else ())
    looks: dict[str, list[bool]] = {}
    for layer in (layer for layer in layers if layer["class_name"] not in _LOOKS_AT_NO_VALUE):
        codes = _code_places(layer)  # once, however often it is called: models may be nested deeply
        for node in layer.get("inbound_nodes", ()):
            for place, name in enumerate(_fed_by(node)):
                looks.setdefault(name, []).append(place in codes)
    inputs = {str(layer["config"]["name"]) for layer in layers if layer["class_name"] == "InputLayer"}
    return frozenset(name for name in inputs if looks.get(name) and all(looks[name]))


def _code_places(layer: JsonObject) -> Container[int]:
    """The places of a layer's arguments at which it takes codes."""
    inner = layer["config"].get("layers")
    if not isinstance(inner, list):
        return _EVERYWHERE if layer["class_name"] == "Embedding" else ()
    codes = embedded_inputs(layer["config"])
    names = [str(one["config"]["name"]) for one in inner if one["class_name"] == "InputLayer"]
    return {place for place, name in enumerate(names) if name in codes}


def _fed_by(node: JsonValue | tuple[JsonValue, ...]) -> Iterator[str]:
    """The layers whose tensors a call takes, in its order."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        yield str(node["config"]["keras_history"][0])
    elif isinstance(node, dict | list | tuple):  # a loaded model has tuples where its file has lists
        for item in node.values() if isinstance(node, dict) else node:
            yield from _fed_by(item)


def input_shapes(model: LoadedModel) -> list[InputShape]:
    """The inputs of a loaded Keras model, in its order."""
    return [(tensor._keras_history.operation.name, tensor.shape, str(tensor.dtype)) for tensor in model.inputs]


def _times(inputs: Sequence[InputShape], codes: set[str]) -> set[int | None]:
    """The lengths in time of the inputs that are series beyond doubt; of codes alone the longest."""
    vectors = {shape[1] for _, shape, _ in inputs if len(shape) == 3}
    flat = {shape[1] for name, shape, _ in inputs if len(shape) == 2 and (shape[1] is None or name in codes)}
    fixed = [length for length in flat if length is not None]
    return vectors or ({None} if None in flat else {max(fixed, default=None)})
