"""Rules for `keras.ops` in a graph (`x + y`, `x[..., :2]`, `ops.mean(x, axis=-1)`): fit where they leave time alone.

An operation that is not listed is refused: the list holds what was thought through, not what happens to work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import TypeAlias

from lstm_core.contract.symbolic_tensors import Argument, Call, Constant, Leaf, Shape, Tensor, leaves_of, words
from lstm_core.json_types import JsonValue

Rule: TypeAlias = Callable[[Call], Tensor]

ELEMENTWISE = words(
    "Abs Absolute Add Arctan Ceil Celu Clip Cos Cosh Divide DivideNoNan Elu Erf Exp Exp2 Expm1 Floor FloorDivide"
    " Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu Log Log10 Log1p Log2 LogSigmoid Logaddexp Maximum Minimum"
    " Mish Mod Multiply NanToNum Negative Power ReLU Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid Sign Silu Sin Sinh"
    " SoftShrink Softplus Softsign SparsePlus Sqrt Square StopGradient Squareplus Subtract Tan Tanh TanhShrink"
    " TrueDivide Trunc Where"
)
TESTS = words(
    "Equal Greater GreaterEqual Isfinite Isinf Isnan Less LessEqual LogicalAnd LogicalNot LogicalOr LogicalXor NotEqual"
)
REDUCTIONS = words("All Amax Amin Any Logsumexp Max Mean Min Prod Std Sum Var")
ALONG_AXIS = words("LogSoftmax Softmax Normalize")
LIKE = words("OnesLike ZerosLike")
_FLOATS = ("float16", "float32", "float64", "bfloat16")


def apply_operation(call: Call) -> tuple[Tensor, ...]:
    """The tensor that the operation gives, or a refusal."""
    if any(isinstance(leaf, Tensor) and leaf.final_of for leaf in leaves_of([call.args, call.kwargs])):
        raise AssertionError("final states are refused before any rule is asked")
    return _split(call) if call.kind == "Split" else (_rule(call)(call),)


def _rule(call: Call) -> Rule:
    kind = call.kind
    if kind in RULES:
        return RULES[kind]
    for kinds, rule in _FAMILIES:
        if kind in kinds:
            return rule
    call.refuse(
        "is an operation that is not known to keep the rows of a series apart",
        "use one that 'slotcar guide models' lists",
    )


def broadcast(call: Call, leaves: Sequence[Leaf], *, dtype: str = "float32") -> Tensor:
    """Values of the same row only: equal ranks, and constants that do not differ along batch and time.

    Equal ranks, since a tensor of lower rank is aligned at the last axis: (batch, time) beside (batch, time, feature)
    would put the rows of one along the features of the other.
    """
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    first = _leading(tensors)
    _check_window(call, tensors)
    _check_static(call, tensors, first)
    if any(tensor.rank != first.rank for tensor in tensors):
        shapes = " and ".join(str(tensor.shape) for tensor in tensors)
        call.refuse(f"combines tensors of shapes {shapes}, which mixes rows along time", "give them equal ranks")
    shapes_all: list[Shape] = [tensor.shape for tensor in tensors]
    for leaf in leaves:
        if isinstance(leaf, Constant):
            shapes_all.append(_aligned(call, leaf.shape, tensor=first))
    trailing = tuple(_widest([shape[axis] for shape in shapes_all]) for axis in range(first.kept, first.rank))
    return first.computed((*first.shape[: first.kept], *trailing), dtype)


def _leading(tensors: Sequence[Tensor]) -> Tensor:
    """The tensor that says what the others are combined to: a series, else one value per window."""
    return max(tensors, key=lambda tensor: (tensor.timed, tensor.window))


def _check_window(call: Call, tensors: Sequence[Tensor]) -> None:
    if any(tensor.window for tensor in tensors) and any(tensor.timed for tensor in tensors):
        call.refuse(
            "combines one value per window with a series",
            "set return_sequences=True in the layer before, or combine it with values per window or per entity",
        )


def _check_static(call: Call, tensors: list[Tensor], first: Tensor) -> None:
    """One value per entity beside a series has no time: its axis there is 1."""
    for tensor in tensors:
        if tensor.static and first.timed and (tensor.rank != first.rank or tensor.shape[1] != 1):
            call.refuse(
                f"combines one value per entity, of shape {tensor.shape}, with a series of shape {first.shape}",
                "give it an axis of 1 in the place of time, as in fixed[:, None, :]",
            )


def _aligned(call: Call, shape: tuple[int, ...], *, tensor: Tensor) -> Shape:
    full = (1,) * (tensor.rank - len(shape)) + shape
    if len(full) != tensor.rank or any(size != 1 for size in full[: tensor.kept]):
        call.refuse(
            f"holds a constant of shape {shape} that differs along batch or time, and a chunk may start anywhere",
            "use a constant with one value per feature",
        )
    return full


def _widest(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None and size != 1]
    return known[0] if known else None if None in sizes else 1


def _elementwise(call: Call) -> Tensor:
    return broadcast(call, tuple(leaves_of([call.args, call.kwargs])))


def _test(call: Call) -> Tensor:
    return broadcast(call, tuple(leaves_of([call.args, call.kwargs])), dtype="bool")


def _like(call: Call) -> Tensor:
    return call.tensor.computed(dtype=str(call.config.get("dtype") or call.tensor.dtype))


def _cast(call: Call) -> Tensor:
    dtype = str(call.config.get("dtype"))
    if dtype in _FLOATS and dtype != "float32":
        call.refuse(f"casts to {dtype}, and only float32 is supported yet", "cast to float32")
    return replace(call.tensor, dtype=dtype)


def check_axes(call: Call, axes: tuple[int, ...], *, does: str, tensor: Tensor | None = None) -> None:
    """Refuse where one of `axes` is batch or time; `does` completes "layer X ...  over the time axis"."""
    kept = (tensor or call.tensor).kept
    if any(axis < kept for axis in axes):
        over = "the time axis" if any(axis == 1 for axis in axes) else "the batch axis"
        call.refuse(f"{does} {over}, so a score would depend on where a chunk starts", "use axis=-1, the features")


def _reduce(call: Call) -> Tensor:
    tensor = call.tensor
    axes = call.axes() if call.config.get("axis") is not None else tuple(range(tensor.rank))
    check_axes(call, axes, does="reduces over")
    keep = bool(call.config.get("keepdims"))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(tensor.shape) if keep or axis not in axes)
    return tensor.computed(shape, "bool" if call.kind in ("All", "Any") else tensor.dtype)


def _along_axis(call: Call) -> Tensor:
    axes = call.axes() if call.config.get("axis") is not None else tuple(range(call.tensor.rank))
    check_axes(call, axes, does="normalises over")
    return call.tensor.computed()


def concatenate(call: Call) -> Tensor:
    """Join along an axis behind time; the tensors are those of the first argument."""
    tensors = call.inputs
    first = _leading(tensors)
    _check_window(call, tensors)
    if len({tensor.timed for tensor in tensors}) > 1:
        call.refuse(
            "joins one value per entity with a series",
            "repeat it along the chunk with RepeatVector, or add it as Dense(units)(fixed)[:, None, :]",
        )
    (axis,) = call.axes(rank=first.rank)
    check_axes(call, (axis,), does="joins series along", tensor=first)
    sizes = [tensor.shape[axis] for tensor in tensors if tensor.rank == first.rank]
    if len(sizes) != len(tensors):
        call.refuse("joins tensors of different ranks", "give them equal ranks")
    known = [size for size in sizes if size is not None]
    total = sum(known) if len(known) == len(sizes) else None
    return first.computed((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _stack(call: Call) -> Tensor:
    first = call.inputs[0]
    (axis,) = call.axes(rank=first.rank + 1)
    check_axes(call, (axis,), does="stacks series along", tensor=first)
    return broadcast(call, call.inputs).computed((*first.shape[:axis], len(call.inputs), *first.shape[axis:]))


def _split(call: Call) -> tuple[Tensor, ...]:
    """Parts of equal size, or those between the given places, along an axis behind time."""
    (axis,) = call.axes()
    check_axes(call, (axis,), does="splits")
    size, asked = call.tensor.shape[axis], call.config["indices_or_sections"]
    if size is None:
        call.refuse("splits an axis whose size is open", "fix the number of features")
    places = list(asked) if isinstance(asked, list) else [size // asked * place for place in range(1, int(asked))]
    parts = [end - start for start, end in pairwise([0, *(min(int(place), size) for place in places), size])]
    shape = call.tensor.shape
    return tuple(call.tensor.computed((*shape[:axis], part, *shape[axis + 1 :]), call.tensor.dtype) for part in parts)


def _expand(call: Call) -> Tensor:
    tensor = call.tensor
    axes = call.axes(rank=tensor.rank + 1)
    check_axes(call, axes, does="adds an axis before")
    shape = list(tensor.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return replace(tensor, shape=tuple(shape))


def _squeeze(call: Call) -> Tensor:
    axes = call.axes()
    check_axes(call, axes or (0,), does="may drop")
    return replace(call.tensor, shape=tuple(size for axis, size in enumerate(call.tensor.shape) if axis not in axes))


def _one_hot(call: Call) -> Tensor:
    (axis,) = call.axes(rank=call.tensor.rank + 1)
    check_axes(call, (axis,), does="spreads codes before")
    shape = (*call.tensor.shape[:axis], int(call.config["num_classes"]), *call.tensor.shape[axis:])
    return call.tensor.computed(shape)


def _get_item(call: Call) -> Tensor:
    """`x[key]`: every row in its place, only features selected."""
    tensor = next(leaf for leaf in leaves_of([call.args, call.kwargs]) if isinstance(leaf, Tensor))
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    shape = _sliced(call, tensor, list(key) if isinstance(key, list | tuple) else [key])
    return replace(tensor.computed(shape, tensor.dtype), source=tensor.source, sliced=True)


def _sliced(call: Call, tensor: Tensor, key: list[Argument]) -> Shape:
    filled = _without_ellipsis(key, rank=tensor.rank)
    if tensor.static and None in filled[1:]:  # fixed[:, None, :]: an axis of 1 in the place of time
        place = filled.index(None)
        sliced = _sliced(call, tensor, [*filled[:place], *filled[place + 1 :]])
        return (*sliced[:place], 1, *sliced[place:])
    whole = [_extent(item) == (None, None, None) for item in filled[: tensor.kept]]
    if not all(whole):
        call.refuse("takes some rows of a chunk and leaves others", "select features only, as in x[:, :, :2]")
    shape: list[int | None] = list(tensor.shape[: tensor.kept])
    for size, item in zip(tensor.shape[tensor.kept :], filled[tensor.kept :], strict=False):
        extent = _extent(item)
        if isinstance(item, int):
            continue
        if extent is None or size is None:
            call.refuse("selects features in a way that is not known here", "use slices and whole numbers")
        shape.append(len(range(*slice(*extent).indices(size))))
    return (*shape, *tensor.shape[len(filled) :])


def _without_ellipsis(key: list[Argument], *, rank: int) -> list[Argument]:
    whole = {"class_name": "__slice__", "config": {}}
    dots = [place for place, item in enumerate(key) if isinstance(item, dict) and item["class_name"] == "__ellipsis__"]
    if not dots:
        return key
    return [*key[: dots[0]], *[whole] * (rank - len(key) + 1 + key.count(None)), *key[dots[0] + 1 :]]


def _extent(item: Argument) -> tuple[int | None, int | None, int | None] | None:
    if not isinstance(item, dict) or item.get("class_name") != "__slice__":
        return None
    config = item["config"]
    return config.get("start"), config.get("stop"), config.get("step")


def constant_shape(value: JsonValue) -> tuple[int, ...]:
    """The shape of an array written as nested lists."""
    return (len(value), *constant_shape(value[0])) if isinstance(value, list) and value else ()


def flat_size(shape: Shape) -> int | None:
    """Values behind one position, None where a size is open."""
    sizes = [size for size in shape if size is not None]
    return prod(sizes) if len(sizes) == len(shape) else None


_FAMILIES: tuple[tuple[frozenset[str], Rule], ...] = (
    (ELEMENTWISE, _elementwise),
    (TESTS, _test),
    (REDUCTIONS, _reduce),
    (ALONG_AXIS, _along_axis),
    (LIKE, _like),
)
RULES: dict[str, Rule] = {
    "Cast": _cast,
    "Concatenate": concatenate,
    "ExpandDims": _expand,
    "GetItem": _get_item,
    "OneHot": _one_hot,
    "Squeeze": _squeeze,
    "Stack": _stack,
}
