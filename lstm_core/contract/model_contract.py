"""What a model asks and gives, read from its archive: inputs, outputs, states; and whether it may be scored in chunks.

A model is accepted when its scores cannot depend on where a chunk starts: it is a Functional or Sequential model, all
that looks along time are recurrent layers that read forward, and it gives one score per row, or one per window: then
the window is the chunk, and its length part of the model. Everything else raises ModelRefused with the reason and the
remedy, before anything is started. Rows are those of Parquet, so an input is a
vector of numbers per row, or one or several codes. No weights are looked at, and Keras is not needed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Literal

from lstm_core.contract.archive import Archive, read_archive
from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.contract.custom_rules import is_builtin
from lstm_core.contract.graph_walk import MODELS, input_layers, output_names, walk
from lstm_core.contract.static_inputs import static_inputs
from lstm_core.contract.symbolic_tensors import Call, Precision, Tensor, Trace, Use
from lstm_core.errors import SlotcarError
from lstm_core.json_types import JsonObject, JsonValue

_FLOAT32_BYTES = 4
_PACKED = 2  # weights that one stored value may hold, where they are quantized
NO_STATE = (
    "it has no recurrent layer, so there is no state to carry and rows need no order; score it with model.predict or"
    " any batch tool"
)
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_NUMBERS = (*_FLOATS, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class InputContract:
    """One input of the model: so many columns per row."""

    name: str
    kind: Literal["numeric", "categorical"]
    columns: int  # feature columns wanted
    rank: int  # of the packed batch; 3: (slot, step, column); 2: (slot, step), one column
    dtype: Literal["float32", "int32"]  # of the packed batch: numbers, codes
    vocabulary: int | None  # codes are below it; None for numbers, or where not known
    static: bool = False  # one value per entity: packed with every row, of which the step takes a chunk's first


@dataclass(frozen=True)
class OutputContract:
    """One output of the model: so many scores per row, or per window."""

    name: str
    values: int

    @property
    def names(self) -> tuple[str, ...]:
        """One name per score value: the output's own, numbered where it has several."""
        if self.values == 1:
            return (self.name,)
        return tuple(f"{self.name}_{index}" for index in range(self.values))


@dataclass(frozen=True)
class RecurrentContract:
    """One recurrent layer; `name` is its path, "outer/inner" inside a nested model."""

    name: str
    kind: str  # "LSTM", "GRU", "SimpleRNN" or "RNN"
    state_shapes: tuple[tuple[int, ...], ...]  # per slot, flattened in the order of Keras's `layer.states`
    stateful: bool  # as saved; scoring makes every layer stateful
    without_cudnn: str = ""  # why cuDNN has no kernel for it; "" where it has


@dataclass(frozen=True)
class ModelContract:
    """Everything that a run must know of its model before a replica loads it; inputs and outputs in Keras's order."""

    inputs: tuple[InputContract, ...]
    outputs: tuple[OutputContract, ...]
    recurrent: tuple[RecurrentContract, ...]
    chunk: int | None  # the length in time that the model fixes, None where it is open
    batch: int | None  # the batch size that the model fixes; a run may choose another
    fingerprint: str
    parameters: int
    flop_per_row: int  # matrix products of recurrent and dense layers only
    precision: Precision = "float32"  # the least that a layer computes in
    code: CustomCode = NO_CODE  # what must be imported before the model is loaded
    unproved: tuple[str, ...] = ()  # layers of custom code: fit only where `chunk_proof` says so
    window: int | None = None  # rows of a window, which is the chunk, where there is one score for it; None: for a row
    earlier_fingerprint: str = ""  # by which earlier versions knew the model

    def is_of(self, fingerprint: str) -> bool:
        """Whether a fingerprint that was kept by this version or an earlier one is this model's."""
        return fingerprint in (self.fingerprint, self.earlier_fingerprint)

    @property
    def tolerance(self) -> float:
        """How far scores of the same rows may be apart, whatever they were batched with; `score_gaps` measures it."""
        return {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}[self.precision]

    @property
    def score_names(self) -> tuple[str, ...]:
        """One name per score value, over all outputs."""
        return tuple(name for output in self.outputs for name in output.names)

    @property
    def score_values(self) -> int:
        """Score values per row or window, over all outputs."""
        return sum(output.values for output in self.outputs)

    @property
    def state_bytes(self) -> int:
        """Bytes of state that one slot holds."""
        return _FLOAT32_BYTES * sum(prod(shape) for layer in self.recurrent for shape in layer.state_shapes)


def read_contract(blob: bytes, *, name: str, code: CustomCode = NO_CODE) -> ModelContract:
    """The contract of the `.keras` archive in `blob`; `name` is what errors call it. Raises ModelRefused.

    Where it has `unproved` layers it is only what the archive shows: `chunk_proof` tells the rest, their states too.
    """
    archive = read_archive(blob, name=name)
    trace = Trace(name, code=code)
    try:
        return _contract(archive, trace)
    except SlotcarError:
        raise
    except Exception as fault:  # a configuration may hold anything in any place
        trace.refuse(
            f"its configuration is not in the form that Keras 3 writes ({fault!r}); save it again with Keras 3"
        )


def _contract(archive: Archive, trace: Trace) -> ModelContract:
    spec = archive.config
    _check_model(spec, trace)
    _check_sizes(archive, trace)
    layers = input_layers(spec)
    configs = [layer["config"] for layer in layers]
    shapes = [(config["name"], config["batch_shape"], str(config["dtype"])) for config in configs]
    static = static_inputs(shapes, spec["config"])
    tensors = [_input_tensor(config, trace, static=config["name"] in static) for config in configs]
    made = walk(Call(trace, spec, (), ()), tensors)
    chunk = _chunk(trace)
    window = _window(made, chunk, trace)
    return ModelContract(
        inputs=tuple(_input(tensor, trace) for tensor in tensors),
        outputs=_outputs(output_names(spec), made, trace),
        recurrent=_recurrent(trace),
        chunk=chunk,
        batch=_batch(layers, trace),
        fingerprint=archive.fingerprint,
        parameters=archive.parameters,
        flop_per_row=trace.flop + trace.flop_window // (window or 1),
        precision=min(trace.precisions, default="float32"),  # bfloat16 is the coarser one
        code=trace.code,
        unproved=tuple(trace.unproved),
        window=window,
        earlier_fingerprint=archive.earlier_fingerprint,
    )


def _check_model(spec: JsonObject, trace: Trace) -> None:
    if spec["class_name"] not in MODELS or not is_builtin(spec) or "layers" not in spec["config"]:
        trace.refuse(
            f"it is a subclassed model ({spec['class_name']}), whose graph the archive does not show; build it with"
            " keras.Model(inputs, outputs) or keras.Sequential"
        )
    if not input_layers(spec):
        trace.refuse("it was saved before it was built, without its inputs; put keras.Input(...) first")


def _check_sizes(archive: Archive, trace: Trace) -> None:
    """Keras allocates what the configuration declares, before it finds that the weights do not fill it."""
    todo: list[JsonValue] = [archive.config]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
            config = value.get("config")
            if not isinstance(config, dict) or not is_builtin(value):
                continue
            size = _declared(str(value.get("class_name")), config)
            if size > _PACKED * archive.parameters:
                trace.refuse(
                    f"layer '{config.get('name')}' ({value['class_name']}) declares at least {size:,} weights, and the"
                    f" archive holds {archive.parameters:,}; save the model again with model.save()"
                )


def _declared(kind: str, config: JsonObject) -> int:
    """Weights that a layer has at least, whatever it is given."""
    if kind == "Embedding":
        return int(config["input_dim"]) * int(config["output_dim"])
    units = int(config.get("units") or 0)
    return units if kind == "Dense" else units * units if kind.startswith(("LSTM", "GRU", "SimpleRNN")) else 0


def _input_tensor(config: JsonObject, trace: Trace, *, static: bool) -> Tensor:
    name, shape = str(config["name"]), tuple(config["batch_shape"])
    odd = next((key for key in ("sparse", "ragged", "optional") if config.get(key)), None)
    if odd is not None:
        trace.refuse(f"input '{name}' is {odd}, and every row has every value; leave {odd}=True out")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] is None):
        trace.refuse(
            f"input '{name}' has the shape {shape}, and a row is a vector of numbers; declare it as"
            " keras.Input((None, features)), or codes as keras.Input((None,), dtype='int32') into an Embedding"
        )
    if static:
        return Tensor(shape, timed=False, static=True, dtype=str(config["dtype"]), source=name)
    trace.lengths.setdefault(shape[1], name)
    return Tensor(shape, dtype=str(config["dtype"]), source=name)


def _input(tensor: Tensor, trace: Trace) -> InputContract:
    name = str(tensor.source)
    uses = trace.uses.get(name, [])
    if uses and all(use.vocabulary is not None for use in uses):
        columns = int(tensor.shape[-1] or 0) if tensor.rank == 3 or tensor.static else 1
        rank = 3 if tensor.static else tensor.rank
        return InputContract(name, "categorical", columns, rank, "int32", _vocabulary(uses), tensor.static)
    if tensor.static and tensor.dtype in _NUMBERS:
        return InputContract(name, "numeric", int(tensor.shape[1] or 0), 3, "float32", None, static=True)
    if tensor.rank != 3 or tensor.dtype not in _NUMBERS:
        trace.refuse(
            f"input '{name}' of shape {tensor.shape} and type {tensor.dtype} is neither a series of vectors of"
            " numbers nor of codes that only feed Embedding layers; declare numbers as keras.Input((None, features))"
        )
    return InputContract(name, "numeric", int(tensor.shape[2] or 0), tensor.rank, "float32", None)


def _vocabulary(uses: list[Use]) -> int:
    """The bound that all columns share; the widest one where each column has an Embedding of its own."""
    sizes = [use.vocabulary or 0 for use in uses]
    return max(sizes) if any(use.sliced for use in uses) else min(sizes)


def _outputs(names: list[str], made: tuple[Tensor, ...], trace: Trace) -> tuple[OutputContract, ...]:
    repeated = Counter(names)
    seen: Counter[str] = Counter()
    outputs = []
    for name, tensor in zip(names, made, strict=True):
        unique = f"{name}_{seen[name]}" if repeated[name] > 1 else name
        seen[name] += 1
        outputs.append(OutputContract(unique, _values(unique, tensor, trace)))
    return tuple(outputs)


def _values(name: str, tensor: Tensor, trace: Trace) -> int:
    if tensor.final_of is not None:
        trace.refuse(
            f"output '{name}' is the final state of '{tensor.final_of}', which is one value per chunk and not per row;"
            " give out the sequence instead"
        )
    if tensor.static:
        trace.refuse(f"output '{name}' is one value per entity, and a score per row is needed; leave it out")
    values = tensor.shape[-1]
    if tensor.rank != tensor.kept + 1 or values is None:
        wanted = "(batch, scores)" if tensor.window else "(batch, time, scores)"
        trace.refuse(
            f"output '{name}' has the shape {tensor.shape}, and {wanted} is needed: one score per"
            f" {'window' if tensor.window else 'row'}; end with a layer such as Dense(1)"
        )
    if tensor.dtype not in _FLOATS:
        trace.refuse(f"output '{name}' gives {tensor.dtype}, and scores are numbers; cast it to float32")
    return values


def _window(made: tuple[Tensor, ...], chunk: int | None, trace: Trace) -> int | None:
    """The length of a window where every output is one value for it, None where there is one for each row."""
    if not any(tensor.window for tensor in made):
        return None
    if not all(tensor.window for tensor in made):
        trace.refuse(
            "some of its outputs are one score per window and others one per row, and a row of the output has either;"
            " split it into two models"
        )
    if chunk is None:
        trace.refuse(
            "it gives one score per window, but leaves the window's length open; build it with the length fixed, as"
            " keras.Input((20, features)), or set return_sequences=True in the last recurrent layer for one score per"
            " row"
        )
    return chunk


def _recurrent(trace: Trace) -> tuple[RecurrentContract, ...]:
    if not trace.recurrent and not trace.unproved:
        trace.refuse(NO_STATE)
    found = [trace.recurrent[place] for place in sorted(trace.recurrent)]
    return tuple(
        RecurrentContract(layer.name, layer.kind, layer.state_shapes, layer.stateful, layer.without_cudnn)
        for layer in found
    )


def _chunk(trace: Trace) -> int | None:
    """The length in time that all inputs fix. A 1 beside an open length would be broadcast: one value per chunk."""
    fixed = {length: name for length, name in trace.lengths.items() if length is not None}
    if len(fixed) > 1 or (1 in fixed and None in trace.lengths):
        found = ", ".join(f"{length or 'open'} in '{name}'" for length, name in trace.lengths.items())
        trace.refuse(f"its inputs have different lengths in time ({found}); give all of them the same, or None")
    return next(iter(fixed), None)


def _batch(layers: list[JsonObject], trace: Trace) -> int | None:
    sizes = {layer["config"]["batch_shape"][0] for layer in layers} - {None}
    if len(sizes) > 1:
        trace.refuse(f"its inputs have different batch sizes ({sorted(sizes)}); give all of them the same, or None")
    return next(iter(sizes), None)
