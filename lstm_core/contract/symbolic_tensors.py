"""What following a model's tensors through its graph means: an abstract tensor, one call of a layer, what was learned.

The one thing every rule watches is `Tensor.kept`: the leading axes (batch, and time in a series) that a layer must
treat one position at a time. A layer that touches only the axes behind them gives the same scores in chunks as at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn, TypeAlias

from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.errors import ModelRefused
from lstm_core.json_types import JsonObject

Shape: TypeAlias = tuple[int | None, ...]
Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, without values."""

    shape: Shape  # (batch, time, ...) where timed, else (batch, ...)
    timed: bool = True  # axis 1 is time; False inside TimeDistributed, which hands out one row at a time
    static: bool = False  # not timed, since it is one value per entity
    window: bool = False  # not timed, since it is one value per window
    dtype: str = "float32"
    source: str | None = None  # the model input whose values these still are
    sliced: bool = False  # only some columns of `source`
    final_of: str | None = None  # the RNN layer whose final state this is: one value per chunk, none per row

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def kept(self) -> int:
        """Leading axes that no layer may mix."""
        return 2 if self.timed else 1

    def computed(self, shape: Shape | None = None, dtype: str = "float32") -> Tensor:
        """The tensor a layer makes of this one: new values, so no longer an input's."""
        given = self.shape if shape is None else shape
        return Tensor(given, timed=self.timed, static=self.static, window=self.window, dtype=dtype)

    def as_source(self, source: str) -> Tensor:
        return replace(self, source=source)


@dataclass(frozen=True)
class Constant:
    """An array that the graph holds by value."""

    shape: tuple[int, ...]


Leaf: TypeAlias = Tensor | Constant | str | float | bool | None
# What a layer is called with. A dict holds more of it by name, or is an object as the archive writes it: a slice, say.
Argument: TypeAlias = "Leaf | list[Argument] | tuple[Argument, ...] | JsonObject"


@dataclass(frozen=True)
class Use:
    """One way in which the values of a model input are used."""

    layer: str
    vocabulary: int | None  # codes that an Embedding (or one-hot) knows; None where the values count as numbers
    sliced: bool


@dataclass(frozen=True)
class Recurrence:
    """One recurrent layer, as found in the graph."""

    name: str
    kind: str
    state_shapes: tuple[tuple[int, ...], ...]
    stateful: bool
    without_cudnn: str  # why cuDNN has no kernel for it; "" where it has


# The tensors of a model as those that take them have written them down: by layer and call, then by index.
Promised: TypeAlias = "dict[tuple[str, int], dict[int, Tensor]]"


@dataclass
class Trace:
    """What the walk over one model has learned so far."""

    model: str
    recurrent: dict[tuple[int, ...], Recurrence] = field(default_factory=dict)  # by place in the configuration
    uses: dict[str, list[Use]] = field(default_factory=dict)  # by model input
    lengths: dict[int | None, str] = field(default_factory=dict)  # fixed length in time (None: open) -> an input's name
    flop: int = 0  # per row
    flop_window: int = 0  # per window, behind the layer that gives one value for it
    precisions: set[Precision] = field(default_factory=set)  # of layers that compute in less than float32
    code: CustomCode = NO_CODE
    unproved: list[str] = field(default_factory=list)  # layers whose code is not Keras's own, by name
    calls: int = 0  # of layers, so far
    promised: dict[tuple[int, ...], Promised] = field(default_factory=dict)  # in each nested model, by its place

    def refuse(self, reason: str) -> NoReturn:
        raise ModelRefused(f"Model '{self.model}' cannot be scored in chunks: {reason}.")


@dataclass(frozen=True)
class Call:
    """One call of one layer or operation: a node of the graph."""

    trace: Trace
    spec: JsonObject  # the layer's entry in the configuration
    path: tuple[str, ...]  # names of the models around it, and its own
    place: tuple[int, ...]  # its position in each of their lists of layers
    args: tuple[Argument, ...] = ()
    kwargs: dict[str, Argument] = field(default_factory=dict)
    promised: dict[int, Tensor] = field(default_factory=dict)  # what those behind it say that they are given, by index

    @property
    def kind(self) -> str:
        return str(self.spec["class_name"])

    @property
    def config(self) -> JsonObject:
        return dict(self.spec["config"])

    @property
    def name(self) -> str:
        return "/".join(self.path)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors of a layer's first argument."""
        return tuple(tensors_of(self.args[:1] or tuple(self.kwargs.get(key) for key in ("inputs", "sequences", "x"))))

    @property
    def tensor(self) -> Tensor:
        """The only input; refuses a layer that is given several."""
        if len(self.inputs) != 1:
            self.refuse(f"takes one tensor and is given {len(self.inputs)}", "give it one")
        return self.inputs[0]

    def refuse(self, does: str, remedy: str) -> NoReturn:
        """Refuse the model for this layer: what it `does`, and what to do about it."""
        self.trace.refuse(f"layer '{self.name}' ({self.kind}) {does}; {remedy}")

    def axes(self, key: str = "axis", *, rank: int | None = None) -> tuple[int, ...]:
        """The configured axes, counted from the front."""
        value = self.config.get(key)
        axes = value if isinstance(value, list) else [] if value is None else [value]
        size = self.tensor.rank if rank is None else rank
        return tuple(int(axis) + size if int(axis) < 0 else int(axis) for axis in axes)


def tensors_of(value: Argument) -> Iterator[Tensor]:
    """Every tensor in a nest of lists and dicts, in Keras's order (dicts by sorted key)."""
    return (leaf for leaf in leaves_of(value) if isinstance(leaf, Tensor))


def leaves_of(value: Argument) -> Iterator[Leaf]:
    """Every leaf of a nest of lists and dicts, in Keras's order (dicts by sorted key)."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves_of(item)
    else:
        yield value


def words(text: str) -> frozenset[str]:
    """The names in `text`, separated by spaces: how the tables of layers are written."""
    return frozenset(text.split())
