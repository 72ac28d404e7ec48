"""Walks a model's configuration from its inputs to its outputs, nested models too, asking each layer's rule on the way.

The walk needs no Keras: the archive's `config.json` holds the layers, and for each of their calls (`inbound_nodes`)
where its tensors come from. It leaves to `model_contract.py` what the whole model must be, beside the sum of its
layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from lstm_core.contract.custom_rules import apply_custom, is_builtin
from lstm_core.contract.layer_rules import apply_layer, check_policy, refuse_unfit
from lstm_core.contract.operation_rules import apply_operation, constant_shape
from lstm_core.contract.recurrent_rules import KINDS, apply_recurrent, check_initial_state
from lstm_core.contract.symbolic_tensors import (
    Argument,
    Call,
    Constant,
    Leaf,
    Promised,
    Tensor,
    Trace,
    Use,
    tensors_of,
)
from lstm_core.json_types import JsonObject, JsonValue

Edge: TypeAlias = tuple[str, int]  # a layer's name, and which of its calls
Origin: TypeAlias = tuple[str, int, int]  # an edge, and which tensor of it
MODELS = frozenset({"Functional", "Sequential", "Model"})
CALLS_MAX = 20_000  # a nested model is walked as often as it is called
_PASS_ON = frozenset({"Identity", "Cast", "GetItem", "TimeDistributed", "Squeeze", *MODELS})
_MAKE_MASKS = frozenset({"NotEqual", "OnesLike", "ZerosLike"})  # these say nothing of how values are meant
_TAKE_MASKS = frozenset({*KINDS, "BatchNormalization", "TimeDistributed"})
_KNOWS_CODES = {"Embedding": "input_dim", "OneHot": "num_classes"}


def input_layers(spec: JsonObject) -> list[JsonObject]:
    """The input layers of a model, in Keras's order."""
    layers = spec["config"]["layers"]
    if spec["class_name"] == "Sequential":
        return [layer for layer in layers[:1] if layer["class_name"] == "InputLayer"]
    by_name = {_layer_name(layer): layer for layer in layers}
    return [by_name[name] for name, _, _ in references(spec["config"]["input_layers"])]


def output_names(spec: JsonObject) -> list[str]:
    """One name per output, in Keras's order: the key in a dict of outputs, else the layer's name."""
    if spec["class_name"] == "Sequential":
        return [str(spec["config"]["layers"][-1]["config"]["name"])]
    outputs = spec["config"]["output_layers"]
    if isinstance(outputs, dict) and all(_is_reference(value) for value in outputs.values()):
        return sorted(outputs)
    return [name for name, _, _ in references(outputs)]


def references(value: JsonValue) -> Iterator[Origin]:
    """Every [layer, call, tensor] in a nest of lists and dicts, in Keras's order."""
    if _is_reference(value):
        yield value[0], value[1], value[2]
        return
    for item in [value[key] for key in sorted(value)] if isinstance(value, dict) else value:
        yield from references(item)


def _is_reference(value: JsonValue) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int)


def walk(model: Call, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of a Sequential or Functional model that is given `tensors`, in the order of its input layers."""
    if model.kind == "Sequential":
        return _walk_sequential(model, tensors)
    return _Walk(model, tensors).outputs()


def _walk_sequential(model: Call, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    for position, spec in enumerate(model.spec["config"]["layers"]):
        if spec["class_name"] != "InputLayer":
            call = _inner(model, spec, position, args=(tensors[0],))
            tensors = list(_apply(replace(call, promised=_promised_to(model, position + 1))))
    return tuple(tensors)


def _promised_to(model: Call, position: int) -> dict[int, Tensor]:
    """What the layer at `position` of a Sequential model was built for."""
    layers = model.spec["config"]["layers"]
    built = layers[position].get("build_config") if position < len(layers) else None
    shape = built.get("input_shape") if isinstance(built, dict) else None
    return {0: Tensor(tuple(shape))} if isinstance(shape, list) else {}


def _promised(value: JsonValue) -> Promised:
    found: Promised = {}
    for config in _tensor_configs(value):
        name, call, index = _history(config)
        found.setdefault((name, call), {})[index] = Tensor(tuple(config["shape"]), dtype=str(config["dtype"]))
    return found


def _tensor_configs(value: JsonValue) -> Iterator[JsonObject]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensor_configs(item)


def _inner(
    model: Call,
    spec: JsonObject,
    position: int,
    *,
    args: tuple[Argument, ...],
    kwargs: dict[str, Argument] | None = None,
) -> Call:
    path = (*model.path, _layer_name(spec))
    return Call(model.trace, spec, path, (*model.place, position), args, kwargs or {})


def _layer_name(spec: JsonObject) -> str:
    """The name that edges use; a custom layer may leave it out of its configuration, and a wrapped one has no edges."""
    return str(spec.get("name") or spec["config"].get("name") or spec["class_name"])


@dataclass(frozen=True)
class _Node:
    position: int
    spec: JsonObject
    edge: Edge
    arguments: JsonObject


class _Walk:
    """One pass over the graph of a Functional model: a node is applied once its tensors are there."""

    def __init__(self, model: Call, tensors: list[Tensor]) -> None:
        self._model = model
        known = model.trace.promised
        if model.place not in known:  # each call of a nested model is walked, and its configuration is read once
            known[model.place] = _promised(model.spec["config"]["layers"])
        self._promised = known[model.place]
        self._made: dict[Edge, tuple[Tensor, ...]] = {}
        for spec, tensor in zip(input_layers(model.spec), tensors, strict=True):
            self._made[(_layer_name(spec), 0)] = (tensor,)

    def outputs(self) -> tuple[Tensor, ...]:
        waiting: dict[Edge, list[_Node]] = {}  # by the first edge that they lack
        for node in _nodes(self._model):
            ready = [node]
            while ready:
                one = ready.pop()
                lacks = self._lacks(one)
                if lacks is not None:
                    waiting.setdefault(lacks, []).append(one)
                    continue
                self._make(one)
                ready += reversed(waiting.pop(one.edge, []))
        for left in waiting.values():
            self._model.trace.refuse(f"its configuration names layer '{left[0].edge[0]}' but not what feeds it")
        return tuple(self._made[edge][index] for edge, index in self._ends())

    def _ends(self) -> Iterator[tuple[Edge, int]]:
        """Where the outputs come from. Among outputs, not elsewhere, Keras counts a nested Functional model's calls
        from 1: it starts with a node of its own."""
        config = self._model.spec["config"]
        nested = {_layer_name(layer) for layer in config["layers"] if layer["class_name"] in ("Functional", "Model")}
        for name, call, index in references(config["output_layers"]):
            yield (name, call - (name in nested)), index

    def _lacks(self, node: _Node) -> Edge | None:
        edges = ((name, call) for name, call, _ in _histories(node.arguments))
        return next((edge for edge in edges if edge not in self._made), None)

    def _make(self, node: _Node) -> None:
        args = tuple(self._value(item) for item in node.arguments["args"])
        kwargs = {key: self._value(item) for key, item in node.arguments["kwargs"].items()}
        call = _inner(self._model, node.spec, node.position, args=args, kwargs=kwargs)
        self._made[node.edge] = _apply(replace(call, promised=self._promised.get(node.edge, {})))

    def _value(self, item: JsonValue) -> Argument:
        """An argument as written in the configuration, with its tensors and arrays as the rules see them."""
        if isinstance(item, list):
            return [self._value(inner) for inner in item]
        if not isinstance(item, dict):
            leaf: Leaf = item
            return leaf
        if item.get("class_name") == "__keras_tensor__":
            name, call, index = _history(item["config"])
            return self._made[(name, call)][index]
        if item.get("class_name") in ("__numpy__", "__tensor__"):
            return Constant(constant_shape(item["config"]["value"]))
        return item if "class_name" in item else {key: self._value(inner) for key, inner in item.items()}


def _nodes(model: Call) -> Iterator[_Node]:
    for position, spec in enumerate(model.spec["config"]["layers"]):
        name = _layer_name(spec)
        for index, arguments in enumerate(spec.get("inbound_nodes", ())):
            if not isinstance(arguments, dict):
                model.trace.refuse("its configuration was written by Keras 2; load it in Keras 3 and save it again")
            if spec["class_name"] != "InputLayer":
                yield _Node(position, spec, (name, index), arguments)


def _histories(value: JsonValue) -> Iterator[Origin]:
    return (_history(config) for config in _tensor_configs(value))


def _history(config: JsonObject) -> Origin:
    name, call, index = config["keras_history"]
    return name, call, index


def _apply(call: Call) -> tuple[Tensor, ...]:
    """Ask the rule of one layer, after what holds for all of them."""
    call.trace.calls += 1
    if call.trace.calls > CALLS_MAX:
        call.trace.refuse(
            f"it calls its layers more than {CALLS_MAX:,} times, as nested models do that call each other twice; give"
            " it one call of each"
        )
    if is_builtin(call.spec):
        refuse_unfit(call)
    _check_arguments(call)
    _record_uses(call)
    if not is_builtin(call.spec):
        return apply_custom(call)
    module = str(call.spec["module"])
    if module.startswith(("keras.src.ops", "keras.src.activations", "keras.ops")):
        return apply_operation(call)
    if call.kind in MODELS:
        return _apply_model(call)
    check_policy(call)
    if call.kind == "TimeDistributed":
        return _apply_time_distributed(call)
    if call.kind == "SpectralNormalization":
        return _apply_wrapped(call)
    return apply_recurrent(call) if call.kind in KINDS else apply_layer(call)


def _check_arguments(call: Call) -> None:
    check_initial_state(call)
    for tensor in tensors_of([call.args, call.kwargs]):
        if tensor.final_of is not None:
            call.refuse(
                f"uses the final state of '{tensor.final_of}', which is one value per chunk and not per row",
                "use the sequence that the layer returns",
            )
    if call.kwargs.get("training") is True:
        call.refuse("is called with training=True, which makes scores random", "leave training out")
    for mask in tensors_of(call.kwargs.get("mask")):
        if mask.source is not None:
            call.refuse(
                f"is given the input '{mask.source}' as its mask, and rows are masked by their values here",
                "use Masking or Embedding(mask_zero=True)",
            )
        if call.kind not in _TAKE_MASKS or not mask.timed or mask.rank != 2:
            call.refuse(
                "is given a mask, which is supported for recurrent layers only, with one value per row",
                "leave the mask out there",
            )


def _record_uses(call: Call) -> None:
    """Note how the values of a model input are used: as codes, as numbers, or (handed on) not yet."""
    for tensor in tensors_of([call.args, call.kwargs]):
        if tensor.source is None or call.kind in _PASS_ON or call.kind in _MAKE_MASKS:
            continue
        key = _KNOWS_CODES.get(call.kind)
        vocabulary = None if key is None else int(call.config[key])
        if vocabulary is None and tensor.rank < 3 and not tensor.sliced and tensor.timed:
            _refuse_flat_input(call.trace, tensor)
        call.trace.uses.setdefault(tensor.source, []).append(Use(call.name, vocabulary, tensor.sliced))


def _refuse_flat_input(trace: Trace, tensor: Tensor) -> None:
    trace.refuse(
        f"input '{tensor.source}' has the shape {tensor.shape}, without one axis for time and one for features; give a"
        " series of numbers as (time, features), codes as (time,) into an Embedding, and values of the whole entity"
        " with their number fixed, as in keras.Input((2,))"
    )


def _apply_model(call: Call) -> tuple[Tensor, ...]:
    given = call.args[0] if call.args else call.kwargs.get("inputs")
    layers = input_layers(call.spec)
    names = [layer["config"]["name"] for layer in layers]
    if isinstance(given, dict) and set(names) <= set(given) and not isinstance(_struct(call), dict):
        given = [given[name] for name in names]  # Keras takes a dict for a list of inputs, by their names
    tensors = list(tensors_of(given))
    _check_inner_inputs(call, layers, tensors)
    return walk(call, tensors)


def _struct(call: Call) -> JsonValue:
    return call.spec["config"].get("input_layers")


def _check_inner_inputs(call: Call, layers: list[JsonObject], tensors: list[Tensor]) -> None:
    if call.kind != "Sequential" and len(layers) != len(tensors):
        call.refuse(f"takes {len(layers)} inputs and is given {len(tensors)}", "give it one tensor per input")
    for layer, tensor in zip(layers, tensors, strict=False):
        shape = layer["config"]["batch_shape"]
        if len(shape) != tensor.rank:
            call.refuse(f"takes a tensor of shape {tuple(shape)} and is given {tensor.shape}", "give it the same rank")
        if tensor.timed and shape[1] is not None:
            call.trace.lengths.setdefault(shape[1], call.name)


def _apply_wrapped(call: Call) -> tuple[Tensor, ...]:
    """The wrapper divides its layer's kernel by a number that is fixed when it scores."""
    return _apply(_inner(call, call.config["layer"], 0, args=(call.tensor,)))


def _apply_time_distributed(call: Call) -> tuple[Tensor, ...]:
    """The wrapped layer sees one row at a time: whatever it does inside that row is fit."""
    tensor = call.tensor
    if not tensor.timed or tensor.rank < 3:
        call.refuse(f"is given a tensor of shape {tensor.shape}, without features behind time", "give it one with them")
    row = replace(tensor, shape=(tensor.shape[0], *tensor.shape[2:]), timed=False)
    inner = _apply(_inner(call, call.config["layer"], 0, args=(row,)))
    return tuple(replace(made, shape=(*tensor.shape[:2], *made.shape[1:]), timed=True) for made in inner)
