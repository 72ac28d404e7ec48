"""Reads the weights file of a `.keras` archive: every weight, and nothing that the file only points to.

HDF5 lets a file name other files, declare more than it stores and call one thing by many names. What it decides: what
Keras's own reader refuses is refused here too (links, external and virtual storage, arrays out of all proportion to the
bytes that are there), and whatever the library makes of damaged bytes is one sentence. Which groups hold no weights
follows from where they stand: a layer may bear the name of one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from math import prod

import h5py
import numpy as np

from lstm_core.array_types import Array
from lstm_core.errors import ModelRefused

ROOM_BYTES = 1 << 26  # what an array may take, however little of it is stored
EXPANSION_MAX = 100  # beyond that: bytes declared for one that is there
_NUMBERS = "biufcV"  # kinds of NumPy's types; V: types of machine learning, as bfloat16
_VARIABLES, _LAYERS = "vars", "layers"
_SEEDS = frozenset({"seed_generator", "_random_generator"})  # of a dropout


def read_weights(blob: bytes, *, name: str) -> Iterator[tuple[str, Array]]:
    """Every weight as (path, values), in the order of their paths. Raises `ModelRefused`."""
    try:
        with h5py.File(io.BytesIO(blob), "r") as file:
            arrays = _arrays(file, len(blob), name)
            for path in sorted(path for path in arrays if not _is_bookkeeping(path, file)):
                yield path, np.asarray(arrays[path])
    except ModelRefused:
        raise
    except Exception as fault:  # HDF5 raises anything on damaged bytes
        raise ModelRefused(
            f"Model '{name}' has weights that cannot be read ({first_line(fault)}); save it again with model.save()."
        ) from fault


def first_line(fault: Exception) -> str:
    """What a foreign exception says, on one line."""
    said = str(fault.args[0] if fault.args else fault).strip() or type(fault).__name__
    return said.split("\n")[0].strip().rstrip(".")


def _arrays(file: h5py.File, stored_bytes: int, name: str) -> dict[str, h5py.Dataset]:
    """All arrays of the file, each once, by path; read none of them. Raises `ModelRefused`."""
    found: dict[str, h5py.Dataset] = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[path] = item

    # Nothing is raised within HDF5's walks, which do not stand it.
    pointer = file.visititems_links(lambda path, link: None if isinstance(link, h5py.HardLink) else path)
    if pointer is not None:
        _refuse(name, f"'{pointer}' is a link to something else")
    file.visititems(visit)
    "".join(found).encode()  # ValueError for a path that is no text, and so in no fingerprint
    declared = {path: _declared_bytes(path, item, name) for path, item in found.items()}
    for path, item in found.items():
        # Of an array in one piece HDF5 says what it takes, and not what is there.
        there = min(item.id.get_storage_size(), stored_bytes)
        if declared[path] > max(ROOM_BYTES, EXPANSION_MAX * there):
            _refuse(name, f"'{path}' declares {declared[path]:,} bytes of weights and stores {there:,}")
    if sum(declared.values()) > max(ROOM_BYTES, EXPANSION_MAX * stored_bytes):
        _refuse(name, f"it declares {sum(declared.values()):,} bytes of weights in a file of {stored_bytes:,}")
    return found


def _declared_bytes(path: str, item: h5py.Dataset, name: str) -> int:
    if item.external:
        _refuse(name, f"'{path}' lies in another file")
    if item.is_virtual:
        _refuse(name, f"'{path}' is put together from other files")
    if item.shape is None or item.dtype.kind not in _NUMBERS or item.dtype.hasobject:
        _refuse(name, f"'{path}' holds no numbers")
    return int(prod(item.shape) * item.dtype.itemsize)


def _refuse(name: str, found: str) -> None:
    raise ModelRefused(
        f"Model '{name}' has a weights file that Keras does not write: {found}; take the model from whoever trained "
        "it, or save it again with model.save()."
    )


def _is_bookkeeping(path: str, file: h5py.File) -> bool:
    """What `compile` and `fit` leave behind, or a random seed: attributes of a layer or a model, which has variables.

    Below a list of layers the same name is a layer's.
    """
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1]):
        holder = file["/".join(parts[:depth]) or "/"]
        if part in _SEEDS or part == "metrics":
            if _VARIABLES in holder:
                return True
        elif part == "optimizer" and (depth == 0 or (_VARIABLES in holder and _LAYERS in holder)):
            return True
    return False
