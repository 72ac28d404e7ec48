"""Rules for layers that mix the features of a row in other ways than Dense does: EinsumDense, and convolutions.

Along time a convolution is fit where its kernel has one row: then it is a Dense layer. Inside TimeDistributed it is fit
whatever its kernel, as pooling is: there it sees one row at a time, and its own axis is within that row.
"""

from __future__ import annotations

from string import ascii_letters

from lstm_core.contract.activation_rules import check_activation
from lstm_core.contract.operation_rules import flat_size
from lstm_core.contract.symbolic_tensors import Call, Shape, Tensor, words

INSIDE_A_ROW = words(
    "AveragePooling1D Conv1D GlobalAveragePooling1D GlobalMaxPooling1D MaxPooling1D"
)  # that have a rule within TimeDistributed
_MIXES = "mixes the rows of a series along time"
_OUTSIDE = "use recurrent layers for what looks along time"


def einsum_dense(call: Call) -> Tensor:
    """The batch and time must stand first in the equation's input and output, and in no kernel."""
    tensor = call.tensor
    given, kernel, made = _letters(call, tensor.rank)
    lead = given[: tensor.kept]
    if made[: tensor.kept] != lead or set(lead) & {*kernel, *(call.config.get("bias_axes") or "")}:
        call.refuse(
            f"has the equation {call.config['equation']}, which {_MIXES}",
            "leave the axes of batch and time as they are, as in 'abc,cd->abd'",
        )
    check_activation(call)
    sizes = dict(zip(given, tensor.shape, strict=True))
    told = call.config["output_shape"]
    shape = list(told) if isinstance(told, list) else [told]
    sizes |= {letter: size for letter, size in zip(reversed(made), reversed(shape), strict=False) if size is not None}
    return tensor.computed(tuple(sizes.get(letter) for letter in made))


def _letters(call: Call, rank: int) -> tuple[str, str, str]:
    """The equation's input, kernel and output, one letter per axis, with the letters that dots stand for."""
    sides, _, made = str(call.config["equation"]).replace(" ", "").partition("->")
    given, _, kernel = sides.partition(",")
    spare = "".join(letter for letter in ascii_letters if letter not in given + kernel + made)
    dots = spare[: max(0, rank - len(given.replace("...", "")))]
    given, made = (side.replace("...", dots) for side in (given, made))
    if len(given) != rank:
        call.refuse(
            f"has the equation {call.config['equation']} for a tensor of {rank} axes", "give it one letter for each"
        )
    return given, kernel, made


def convolution(call: Call) -> Tensor:
    """A convolution along the axis before the features."""
    tensor, size = call.tensor, _one(call, "kernel_size")
    if call.config.get("data_format") == "channels_first":
        call.refuse("takes the features for its axis of time", "use data_format='channels_last'")
    if tensor.timed and (size != 1 or _one(call, "strides") != 1):
        call.refuse(f"is a convolution: it {_MIXES}", f"{_OUTSIDE}, or kernel_size=1 and strides=1")
    check_activation(call)
    filters = int(call.config["filters"])
    if tensor.timed:
        call.trace.flop += 2 * filters * (flat_size(tensor.shape[2:]) or 0)
    return tensor.computed((*tensor.shape[:-2], _length(call, tensor, size), filters))


def pooling(call: Call) -> Tensor:
    """Pooling along the axis before the features, inside a row."""
    shape = call.tensor.shape
    if not call.kind.startswith("Global"):
        return call.tensor.computed((*shape[:-2], _length(call, call.tensor, _one(call, "pool_size")), shape[-1]))
    kept: Shape = (1,) if call.config.get("keepdims") else ()
    return call.tensor.computed((*shape[:-2], *kept, shape[-1]))


def _length(call: Call, tensor: Tensor, size: int) -> int | None:
    """The length of the axis behind a window of `size` along it."""
    length, stride = tensor.shape[-2], _one(call, "strides")
    if length is None or tensor.timed:
        return length
    reach = (size - 1) * _one(call, "dilation_rate") + 1
    return (length - reach) // stride + 1 if call.config.get("padding") == "valid" else -(-length // stride)


def _one(call: Call, key: str) -> int:
    value = call.config.get(key) or 1
    return int(value[0] if isinstance(value, list) else value)
