"""A checkpoint of a training as bytes: every variable, and what the callbacks keep.

Decides the form: one NumPy archive, without pickled objects, that holds arrays by number and everything else as JSON.
It knows no Keras: variables are what NumPy can read and `assign` can set.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

from cluster.run_errors import RunFailed
from lstm_core.array_types import Array
from lstm_core.json_types import JsonValue

if TYPE_CHECKING:
    from lstm_core.training.training_settings import Kept

_PLAIN = "plain"


class Variable(Protocol):
    """A variable of a model or an optimizer."""

    @property
    def shape(self) -> Sequence[int]:
        """Its lengths."""

    def __array__(self) -> Array:
        """Its values, for NumPy."""

    def assign(self, value: Array, /) -> object:
        """Gives it other values."""


class _How(TypedDict, total=False):
    """How a value is kept: by one of these."""

    arrays: int  # so many, by number
    array: bool  # one
    value: JsonValue  # as it is, here


def save_checkpoint(variables: Sequence[Variable], kept: Sequence[Kept]) -> bytes:
    """The bytes of a checkpoint."""
    arrays = {f"variable_{index}": np.array(variable) for index, variable in enumerate(variables)}
    plain: list[dict[str, _How]] = [{} for _ in kept]
    for index, state in enumerate(kept):
        for name, value in state.items():
            key = f"kept_{index}_{name}"
            if isinstance(value, list):
                arrays |= {f"{key}_{place}": item for place, item in enumerate(value)}
                plain[index][name] = {"arrays": len(value)}
            elif isinstance(value, np.ndarray | np.generic):
                arrays[key] = np.asarray(value)
                plain[index][name] = {"array": True}
            else:
                plain[index][name] = {"value": value}
    arrays[_PLAIN] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def restore_checkpoint(blob: bytes, variables: Sequence[Variable]) -> list[Kept]:
    """Puts the variables back; returns what the callbacks kept. Raises `RunFailed` where they do not fit."""
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as found:
            values = [found[f"variable_{index}"] for index in range(len(variables))]
            shapes = [tuple(variable.shape) for variable in variables]
            if [value.shape for value in values] != shapes:
                raise ValueError("its variables have other shapes")
            kept = _kept(found)
    except (KeyError, ValueError, OSError) as error:
        raise RunFailed(
            f"The checkpoint of the training cannot be taken up ({error}): set train.restart = true to begin anew."
        ) from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return kept


def _kept(found: Mapping[str, Array]) -> list[Kept]:
    plain: list[dict[str, _How]] = json.loads(found[_PLAIN].tobytes())
    return [
        {name: _value(found, f"kept_{index}_{name}", how) for name, how in state.items()}
        for index, state in enumerate(plain)
    ]


def _value(found: Mapping[str, Array], key: str, how: _How) -> JsonValue | Array | list[Array]:
    if "arrays" in how:
        return [found[f"{key}_{place}"] for place in range(how["arrays"])]
    return found[key][()] if "array" in how else how["value"]
