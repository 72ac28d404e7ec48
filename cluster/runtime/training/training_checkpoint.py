"""A checkpoint of a training as bytes: every variable, and what the callbacks keep.

Decides the form: one NumPy archive, without pickled objects, that holds arrays by number and everything else as JSON.
It knows no Keras: variables are what NumPy can read and `assign` can set.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.run_errors import RunFailed

_PLAIN = "plain"


def save_checkpoint(variables: Sequence[Any], kept: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a checkpoint."""
    arrays = {f"variable_{index}": np.array(variable) for index, variable in enumerate(variables)}
    plain: list[dict[str, Any]] = [{} for _ in kept]
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


def restore_checkpoint(blob: bytes, variables: Sequence[Any]) -> list[dict[str, Any]]:
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


def _kept(found: Any) -> list[dict[str, Any]]:
    plain = json.loads(found[_PLAIN].tobytes())
    return [
        {name: _value(found, f"kept_{index}_{name}", how) for name, how in state.items()}
        for index, state in enumerate(plain)
    ]


def _value(found: Any, key: str, how: dict[str, Any]) -> Any:
    if "arrays" in how:
        return [found[f"{key}_{place}"] for place in range(how["arrays"])]
    return found[key][()] if "array" in how else how["value"]
