"""Which inputs of a model are series, and which are static: one value per entity, fed to every chunk.

Keras does not say which axis is time. A vector per row has rank 3 and is a series. An input of rank 2 is a series of
codes where its length is open, or is whole numbers of the length that the series have; else it is static: its fixed
axis holds columns. One rule, for the archive and for the loaded model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

InputShape: TypeAlias = tuple[str, Sequence[int | None], str]  # (name, (batch, ...), dtype)


class InputTensor(Protocol):
    """What Keras says of one input of a loaded model."""

    name: str
    shape: Sequence[int | None]  # (batch, ...)
    dtype: str


class LoadedModel(Protocol):
    """A `keras.Model`, by what is asked of it here: this file is read where Keras is not loaded."""

    @property
    def inputs(self) -> Sequence[InputTensor]: ...


def static_inputs(inputs: Sequence[InputShape]) -> frozenset[str]:
    """The names of the static inputs among all inputs of a model."""
    times = _times(inputs)
    return frozenset(name for name, shape, dtype in inputs if len(shape) == 2 and not _is_series(shape, dtype, times))


def input_shapes(model: LoadedModel) -> list[InputShape]:
    """The inputs of a loaded Keras model, in its order."""
    return [(tensor.name.split(":")[0], tensor.shape, str(tensor.dtype)) for tensor in model.inputs]


def _is_series(shape: Sequence[int | None], dtype: str, times: set[int | None]) -> bool:
    return shape[1] is None or (shape[1] in times and dtype.startswith(("int", "uint")))


def _times(inputs: Sequence[InputShape]) -> set[int | None]:
    """The lengths in time of the inputs that are series beyond doubt; of codes alone the longest."""
    vectors = {shape[1] for _, shape, _ in inputs if len(shape) == 3}
    flat = {shape[1] for _, shape, _ in inputs if len(shape) == 2}
    fixed = [length for length in flat if length is not None]
    return vectors or ({None} if None in flat else {max(fixed, default=None)})
