"""Reads a `.keras` archive without Keras: its configuration, the size of its weights and its fingerprint.

Decides what makes two models the same one: everything that moves a score or a state. Left out of the fingerprint are
the optimizer, the compile configuration and the dates (training bookkeeping), and also the batch size and the flag
`stateful`: a run sets both by itself, so a carry-over must outlive a change of them. Names of layers do count, since
the carry-over's columns bear them. And a model that another version of Keras 3 has saved again is the same: the
configuration counts as Keras 3.15 writes it. Earlier versions of this project took it as it was written, so what they
have kept of a model of an older Keras bears another fingerprint, which is known still. Whether the model is fit for
scoring is decided in `model_contract.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from lstm_core.array_types import Array
from lstm_core.errors import ModelRefused
from lstm_core.json_types import JsonObject, JsonValue

_CONFIG = "config.json"
_METADATA = "metadata.json"
_WEIGHTS = "model.weights.h5"

# Keys of a layer's configuration that cannot move a score: how it was built, trained or shaped for one batch.
_UNTOUCHED_BY = frozenset(
    {
        "build_config",
        "compile_config",
        "build_input_shape",
        "shared_object_id",
        "trainable",
        "stateful",
        "unroll",
        "seed",
    }
)
# What Keras 3.15 writes of a layer that older versions leave out, with the only value that their layers could have.
_ADDED: dict[str, JsonObject] = {
    "InputLayer": {"optional": False, "ragged": False, "sparse": False},
    "BatchNormalization": {"renorm": False, "renorm_momentum": 0.99, "synchronized": False},
    "LayerNormalization": {"rms_scaling": False},
    **{kind: {"zero_output_for_mask": False} for kind in ("LSTM", "GRU", "SimpleRNN", "RNN")},
}
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
# Groups of the weights file that hold no weights: a dropout's random seed, and what `compile` and `fit` leave behind.
_NOT_WEIGHTS = frozenset({"optimizer", "metrics", "seed_generator", "_random_generator"})


@dataclass(frozen=True)
class Archive:
    """What a `.keras` file says without being loaded."""

    config: JsonObject  # config.json
    fingerprint: str  # sha256, hex, over architecture and weights
    earlier_fingerprint: str  # as earlier versions of this project have made it: the same for a file of Keras 3.15
    parameters: int  # weight values, the optimizer's not counted


def read_archive(blob: bytes, *, name: str) -> Archive:
    """Read the archive in `blob`; `name` is what errors call it. Raises ModelRefused where it is none of Keras 3."""
    config, weights = _open(blob, name=name)
    told = [json.dumps(_canonical(one), sort_keys=True) for one in (_as_written_now(config), config)]
    digests = {text: hashlib.sha256(text.encode()) for text in told}  # one where both are the same
    parameters = 0
    for path, values in _weights(weights, name=name):
        for digest in digests.values():
            digest.update(f"{path} {values.dtype.str} {values.shape};".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        parameters += values.size
    fingerprint, earlier = (digests[text].hexdigest() for text in told)
    return Archive(config, fingerprint, earlier, parameters)


def _as_written_now(value: JsonValue) -> JsonValue:
    """A configuration as Keras 3.15 would write it."""
    if isinstance(value, list):
        return [_as_written_now(item) for item in value]
    if not isinstance(value, dict):
        return value
    told = {key: _as_written_now(item) for key, item in value.items()}
    config = told.get("config")
    if not isinstance(config, dict):
        return told
    if str(told.get("module") or "").split(".")[0] == "keras":
        told["config"] = config = {**_ADDED.get(str(told.get("class_name")), {}), **config}
    if told.get("class_name") == "FloatDTypePolicy":
        told["class_name"] = "DTypePolicy"
    if isinstance(config.get("dtype"), str) and {"name", "trainable"} <= config.keys():  # a layer's policy, by its name
        policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": config["dtype"]}}
        told["config"] = {**config, "dtype": policy}
    return told


def _open(blob: bytes, *, name: str) -> tuple[JsonObject, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            config = json.loads(archive.read(_CONFIG))
            metadata = json.loads(archive.read(_METADATA))
            weights = archive.read(_WEIGHTS)
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, OSError) as fault:
        raise ModelRefused(
            f"Model '{name}' is not a .keras archive of Keras 3 (a zip file with {_CONFIG}, {_METADATA} and"
            f" {_WEIGHTS}): {_first_line(fault)}; save it with model.save('name.keras')."
        ) from fault
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelRefused(f"Model '{name}' has a {_CONFIG} that describes no model; save it again with model.save().")
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    if version.startswith(("1.", "2.")):
        raise ModelRefused(
            f"Model '{name}' was saved by Keras {version}, and Keras 3 is needed; load it there and save it again."
        )
    return config, weights


def _weights(blob: bytes, *, name: str) -> Iterator[tuple[str, Array]]:
    """Every weight as (path, values), in the order of their paths."""
    try:
        with h5py.File(io.BytesIO(blob), "r") as file:
            for path in sorted(_weight_paths(file)):
                yield path, np.asarray(file[path])
    except OSError as fault:
        raise ModelRefused(
            f"Model '{name}' has weights that cannot be read ({_first_line(fault)}); save it again with model.save()."
        ) from fault


def _weight_paths(file: h5py.File) -> list[str]:
    paths: list[str] = []

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and _NOT_WEIGHTS.isdisjoint(path.split("/")):
            paths.append(path)

    file.visititems(visit)
    return paths


def _canonical(value: JsonValue) -> JsonValue:
    """`value` without what cannot move a score or a state."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":  # its shape repeats the batch size; its history is the edge
        return value["config"]["keras_history"]
    return {key: _canonical_entry(key, item) for key, item in value.items() if _counts(key, item)}


def _counts(key: str, value: JsonValue) -> bool:
    """Whether an entry can move a score. None is Keras's default, written by some of its versions and not by others."""
    if value is None or (key == "training" and value is False):
        return False
    return key not in _UNTOUCHED_BY and not key.endswith(_TRAINING_ONLY)


def _canonical_entry(key: str, value: JsonValue) -> JsonValue:
    if key == "batch_shape" and isinstance(value, list):
        return [None, *value[1:]]
    return _canonical(value)


def _first_line(fault: Exception) -> str:
    return str(fault.args[0] if fault.args else fault).split("\n")[0].strip().rstrip(".")
