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
from dataclasses import dataclass

import numpy as np

from lstm_core.contract.archive_weights import EXPANSION_MAX, ROOM_BYTES, first_line, read_weights
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
    try:
        told = [json.dumps(_canonical(one), sort_keys=True) for one in (_as_written_now(config), config)]
    except Exception as fault:  # a configuration may hold anything in any place, to any depth
        raise ModelRefused(
            f"Model '{name}' has a {_CONFIG} that is not in the form that Keras 3 writes ({fault!r}); save it again"
            " with Keras 3."
        ) from fault
    digests = {text: hashlib.sha256(text.encode()) for text in told}  # one where both are the same
    parameters = 0
    for path, values in read_weights(weights, name=name):
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
            config = json.loads(_member(archive, _CONFIG, name))
            metadata = json.loads(_member(archive, _METADATA, name))
            weights = _member(archive, _WEIGHTS, name)
    except ModelRefused:
        raise
    except Exception as fault:  # zipfile, its decompressors and JSON raise anything on damaged bytes
        raise ModelRefused(
            f"Model '{name}' is not a .keras archive of Keras 3 (a zip file with {_CONFIG}, {_METADATA} and"
            f" {_WEIGHTS}): {first_line(fault)}; save it with model.save('name.keras')."
        ) from fault
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelRefused(f"Model '{name}' has a {_CONFIG} that describes no model; save it again with model.save().")
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    if version.startswith(("1.", "2.")):
        raise ModelRefused(
            f"Model '{name}' was saved by Keras {version}, and Keras 3 is needed; load it there and save it again."
        )
    return config, weights


def _member(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    """A file of the archive, unless it would grow out of all proportion."""
    info = archive.getinfo(member)
    if info.file_size > max(ROOM_BYTES, EXPANSION_MAX * info.compress_size):
        raise ModelRefused(
            f"Model '{name}' is not an archive that Keras writes: {member} declares {info.file_size:,} bytes and "
            f"stores {info.compress_size:,}; take the model from whoever trained it, or save it again with"
            " model.save()."
        )
    return archive.read(info)


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
