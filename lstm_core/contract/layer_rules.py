"""Which Keras layers are fit for chunked scoring, and what shape each gives.

A layer is fit when the score of a row can depend on that row and on carried state only. The tables name what was
thought through; every other layer is refused, since a wrong guess would give wrong scores and say nothing. Recurrent
layers have their rules in `recurrent_rules.py`, operations in `operation_rules.py`, nested models in `graph_walk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from lstm_core.contract.activation_rules import check_activation
from lstm_core.contract.feature_rules import INSIDE_A_ROW, convolution, einsum_dense, pooling
from lstm_core.contract.operation_rules import broadcast, check_axes, concatenate, flat_size
from lstm_core.contract.symbolic_tensors import Call, Precision, Tensor, words
from lstm_core.json_types import JsonValue

Rule: TypeAlias = Callable[[Call], Tensor]

_MIXES = "mixes the rows of a series along time"
_OUTSIDE = "use recurrent layers for what looks along time"
# How the names of unfit layers start, why they are unfit (completes "layer X ..."), and what to do instead.
UNFIT_FAMILIES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Bidirectional",), "reads the series backwards too, so a score would depend on rows that come later",
     "use a forward recurrent layer and train the model again"),
    (("StringLookup", "IntegerLookup", "Hashing", "HashedCrossing", "TextVectorization", "CategoryEncoding"),
     "makes codes of words within the model, and a row's words become codes before it",
     "leave it out, give its words to input.vocabulary, and begin with keras.Input((None,)) into the Embedding"),
    (("Lambda",), "runs code that the archive does not show", "use Keras's own layers or operations instead"),
    (("GroupNormalization",), "normalises over the time axis, so a score would depend on the other rows of its chunk",
     "use LayerNormalization(axis=-1)"),
    (("Global", "Average", "Avg", "MaxPool", "Adaptive"), f"pools: it {_MIXES}", _OUTSIDE),
    (("ConvLSTM",), "keeps a state of images, which is not supported", "use LSTM, GRU, SimpleRNN or RNN(cells)"),
    (("Conv", "SeparableConv", "DepthwiseConv"), f"is a convolution: it {_MIXES}", _OUTSIDE),
    (("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention", "DotProductAttention"),
     f"is attention: it {_MIXES}", _OUTSIDE),
    (("Dot", "Cropping", "ZeroPadding", "UpSampling", "Cumsum", "Cumprod", "Roll", "Flip", "Sort", "Einsum", "Diff"),
     _MIXES, _OUTSIDE),
    (("RepeatVector",), "makes a series of one vector, which belongs to a window and to no row",
     "give that input as a series of its own, one vector per row"),
)  # fmt: skip

SAME_SHAPE = words(
    "Activation ActivityRegularization AlphaDropout Dropout ELU GaussianDropout GaussianNoise Identity LeakyReLU"
    " Masking ReLU SpatialDropout1D"
)
_DECIDES_ITSELF = words("Conv1D EinsumDense")  # their rules know when they are fit
MERGES = words("Add Average Maximum Minimum Multiply Subtract")
NORMALISES_OVER = words("LayerNormalization RMSNormalization Softmax UnitNormalization")
ONE_SCALE_PER_PLACE = words("BatchNormalization Normalization")


def apply_layer(call: Call) -> tuple[Tensor, ...]:
    """The tensor that a plain layer gives, or a refusal."""
    refuse_unfit(call)
    kind = call.kind
    if kind in RULES:
        return (RULES[kind](call),)
    for kinds, rule in _FAMILIES:
        if kind in kinds:
            return (rule(call),)
    call.refuse(
        "is a layer that is not known to keep the rows of a series apart", "use one that 'slotcar guide models' lists"
    )


def refuse_unfit(call: Call) -> None:
    """Refuse a layer or operation known to be unfit, with the reason of its family."""
    if call.kind in _DECIDES_ITSELF and any(tensor.timed for tensor in call.inputs):
        return
    inside = call.inputs and not any(tensor.timed or tensor.static or tensor.window for tensor in call.inputs)
    if inside and call.kind in {*INSIDE_A_ROW, *_DECIDES_ITSELF}:
        return
    for prefixes, does, remedy in UNFIT_FAMILIES:
        if not call.kind.startswith(prefixes) or call.kind in MERGES:
            continue
        if call.inputs and all(tensor.static for tensor in call.inputs):
            if call.kind == "RepeatVector":
                return
            call.refuse("is not supported on an input of one value per entity", "use Dense, Flatten or Concatenate")
        if any(tensor.window for tensor in call.inputs):
            call.refuse(
                "is not supported on one value per window", "use Dense, Flatten, Reshape or normalisation there"
            )
        if call.inputs and not any(tensor.timed for tensor in call.inputs):
            call.refuse("is not supported inside TimeDistributed", "use Dense, Flatten, Reshape or normalisation there")
        call.refuse(does, remedy)


# Weights, kept states and scores are float32.
_MIXED: dict[str, Precision] = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def check_policy(call: Call) -> None:
    """Refuse every precision but float32 and the mixed ones, whose weights are float32."""
    for policy in _policies(call.config):
        quantized = _quantized_as(policy)
        if quantized:
            call.refuse(
                f"is quantized ({quantized}), and only float32, mixed_float16 and mixed_bfloat16 are supported",
                "save the model before model.quantize(...) is called, and score that file",
            )
        name = policy["config"].get("name") if isinstance(policy, dict) else policy
        if name in _MIXED:
            call.trace.precisions.add(_MIXED[name])
        elif not (name == "float32" or str(name).startswith(("int", "uint", "bool", "string"))):
            call.refuse(
                f"computes in {name}, and only float32, mixed_float16 and mixed_bfloat16 are supported",
                "build the model with one of them",
            )


def _policies(config: JsonValue) -> Iterator[JsonValue]:
    """The policies of a layer, and of the cells and layers in its configuration; of nested models' layers not."""
    if not isinstance(config, dict):
        return
    policy = config.get("dtype")
    if isinstance(policy, dict) and "policy_map" in policy.get("config", {}):
        yield policy["config"].get("default_policy")
        yield from policy["config"]["policy_map"].values()
    elif policy is not None:
        yield policy
    for key in ("cell", "layer"):
        if isinstance(config.get(key), dict):
            yield from _policies(config[key].get("config"))
    for cell in config.get("cells", ()):
        yield from _policies(cell.get("config"))


def _quantized_as(policy: JsonValue) -> str:
    """How a policy quantizes, as Keras writes it: "int8", "int4/128", "float8"; "" where it does not.

    Keras writes it as a mode beside the name of the policy before, and as one name in older files.
    """
    if isinstance(policy, dict) and policy["config"].get("mode"):
        return str(policy["config"]["mode"])
    name = str(policy["config"].get("name") if isinstance(policy, dict) else policy)
    return name.partition("_from_")[0] if "_from_" in name else ""


def _same_shape(call: Call) -> Tensor:
    check_activation(call)
    tensor = call.tensor
    return tensor if call.kind == "Identity" else tensor.computed()


def _rescaling(call: Call) -> Tensor:
    for key in ("scale", "offset"):
        value = call.config.get(key)
        if not isinstance(value, int | float):
            call.refuse(f"has a {key} that is no single number", "use one number, or Normalization(axis=-1)")
    return call.tensor.computed()


def _dense(call: Call) -> Tensor:
    tensor, units = call.tensor, int(call.config["units"])
    check_axes(call, (tensor.rank - 1,), does="has weights over")
    check_activation(call)
    flop = 2 * units * (flat_size(tensor.shape[tensor.kept :]) or 0)
    if tensor.window:
        call.trace.flop_window += flop
    else:
        call.trace.flop += flop
    return tensor.computed((*tensor.shape[:-1], units))


def _embedding(call: Call) -> Tensor:
    return call.tensor.computed((*call.tensor.shape, int(call.config["output_dim"])))


def _normalises_over(call: Call) -> Tensor:
    check_axes(call, call.axes(), does="normalises over")
    return call.tensor.computed()


def _one_scale_per_place(call: Call) -> Tensor:
    """Frozen statistics: one pair per position of `axis`, so time must not be among them."""
    check_axes(call, call.axes(), does="normalises with statistics that differ along")
    return call.tensor.computed()


def _prelu(call: Call) -> Tensor:
    if call.tensor.timed and 1 not in call.axes("shared_axes"):
        call.refuse("learns a slope per position in time, and a chunk may start anywhere", "use PReLU(shared_axes=[1])")
    return call.tensor.computed()


def _discretization(call: Call) -> Tensor:
    if call.config.get("output_mode") != "int":
        call.refuse("does not give whole numbers", "use output_mode='int'")
    return call.tensor.computed(dtype="int32")


def _merge(call: Call) -> Tensor:
    return broadcast(call, call.inputs)


def _flatten(call: Call) -> Tensor:
    tensor = call.tensor
    _check_inside_a_row(call)
    return tensor.computed((tensor.shape[0], flat_size(tensor.shape[1:])))


def _reshape(call: Call) -> Tensor:
    tensor = call.tensor
    _check_inside_a_row(call)
    target = tuple(int(size) for size in call.config["target_shape"])
    values = flat_size(tensor.shape[1:])
    known = flat_size(tuple(size for size in target if size != -1)) or 1
    sizes = tuple((None if values is None else values // known) if size == -1 else size for size in target)
    return tensor.computed((tensor.shape[0], *sizes))


def _permute(call: Call) -> Tensor:
    tensor = call.tensor
    _check_inside_a_row(call)
    return tensor.computed((tensor.shape[0], *(tensor.shape[int(axis)] for axis in call.config["dims"])))


def _repeat_vector(call: Call) -> Tensor:
    """One value per entity, given to every row: the length must be that of the chunk."""
    length, tensor = int(call.config["n"]), call.tensor
    call.trace.lengths.setdefault(length, call.name)
    return replace(tensor, shape=(tensor.shape[0], length, *tensor.shape[1:]), timed=True, static=False, source=None)


def _check_inside_a_row(call: Call) -> None:
    if call.tensor.timed:
        call.refuse(f"rearranges a whole chunk: it {_MIXES}", f"wrap it as TimeDistributed({call.kind}(...))")


_FAMILIES: tuple[tuple[frozenset[str], Rule], ...] = (
    (SAME_SHAPE, _same_shape),
    (MERGES, _merge),
    (NORMALISES_OVER, _normalises_over),
    (ONE_SCALE_PER_PLACE, _one_scale_per_place),
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(INSIDE_A_ROW, pooling),
    "Concatenate": concatenate,
    "Conv1D": convolution,
    "Dense": _dense,
    "Discretization": _discretization,
    "EinsumDense": einsum_dense,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "PReLU": _prelu,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
}
