"""A model of somebody else's: its archive leads to no other file, fills no memory and takes no time."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from lstm_core.contract.archive import read_archive
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused
from tests.models import keras_models
from tests.models.keras_models import save
from tests.paths import ROOT

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
SECRET = b"the secret of another file, of some length"


@pytest.fixture(scope="module")
def blob() -> bytes:
    return save(keras_models.FIT["lstm"]())


def parts_of(blob: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def with_weights(blob: bytes, change: Callable[[h5py.File], None]) -> bytes:
    parts = parts_of(blob)
    file = io.BytesIO(parts[WEIGHTS])
    with h5py.File(file, "r+") as weights:
        change(weights)
    return packed({**parts, WEIGHTS: file.getvalue()})


def with_config(blob: bytes, change: Callable[[Any], Any]) -> bytes:
    parts = parts_of(blob)
    config = json.loads(parts[CONFIG])
    changed = change(config)
    return packed({**parts, CONFIG: json.dumps(config if changed is None else changed).encode()})


def refusal(blob: bytes) -> str:
    with pytest.raises(ModelRefused) as refused:
        read_contract(blob, name="m.keras")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def external(weights: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(SECRET)
    weights.create_dataset("stolen", (8,), np.uint8, external=[(str(folder / "secret"), 0, 8)])


def virtual(weights: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["rows"] = np.arange(8)
    layout = h5py.VirtualLayout(shape=(8,), dtype=np.int64)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "rows", shape=(8,))
    weights.create_virtual_dataset("stolen", layout)


def soft(weights: h5py.File, folder: Path) -> None:
    weights["layers/again"] = h5py.SoftLink("/layers")


def foreign(weights: h5py.File, folder: Path) -> None:
    weights["layers/again"] = h5py.ExternalLink(str(folder / "other.h5"), "/rows")


def empty(weights: h5py.File, folder: Path) -> None:
    weights["nothing"] = h5py.Empty(np.float32)


def texts(weights: h5py.File, folder: Path) -> None:
    weights["texts"] = np.array([b"a", b"bc"], dtype=h5py.string_dtype())


def pointers(weights: h5py.File, folder: Path) -> None:
    weights.create_dataset("pointers", data=weights["layers"].ref, dtype=h5py.ref_dtype)


def shape_bomb(weights: h5py.File, folder: Path) -> None:
    weights.create_dataset("bomb", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip")


def many_bombs(weights: h5py.File, folder: Path) -> None:
    for number in range(64):
        weights.create_dataset(f"bomb/{number}", (1 << 23,), np.float32, chunks=(1 << 20,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (external, "'stolen' lies in another file"),
        (virtual, "'stolen' is put together from other files"),
        (soft, "'layers/again' is a link to something else"),
        (foreign, "'layers/again' is a link to something else"),
        (empty, "'nothing' holds no numbers"),
        (texts, "'texts' holds no numbers"),
        (pointers, "'pointers' holds no numbers"),
        (shape_bomb, "'bomb' declares 4,398,046,511,104 bytes of weights and stores 0"),
        (many_bombs, "it declares 2,147,"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_keras_does_not_write_into_a_weights_file_is_refused(
    change: Callable[[h5py.File, Path], None], said: str, blob: bytes, tmp_path: Path
) -> None:
    assert said in refusal(with_weights(blob, lambda weights: change(weights, tmp_path)))


def test_a_group_within_itself_and_a_group_of_many_names_are_walked_once(blob: bytes) -> None:
    """2^40 paths lead to the last of these groups."""

    def tangle(weights: h5py.File) -> None:
        group = weights.create_group("tangle")
        group["self"] = group
        for _ in range(40):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    assert read_archive(with_weights(blob, tangle), name="m").parameters == read_archive(blob, name="m").parameters


@pytest.mark.parametrize("member", [WEIGHTS, CONFIG, "metadata.json"])
def test_a_member_that_would_grow_out_of_all_proportion_is_not_unpacked(member: str, blob: bytes) -> None:
    bomb = packed({**parts_of(blob), member: bytes(1 << 27)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    assert f"{member} declares 134,217,728 bytes and stores" in refusal(bomb)


def test_an_archive_whose_weights_compress_well_is_read(blob: bytes) -> None:
    """As another program may have packed it."""
    zeros = with_weights(blob, lambda weights: weights.create_dataset("zeros", data=np.zeros(1 << 20, np.float32)))
    again = packed(parts_of(zeros), zipfile.ZIP_DEFLATED)
    assert read_archive(again, name="m").parameters == read_archive(blob, name="m").parameters + (1 << 20)


def nested(depth: int, calls: int) -> bytes:
    """A model within a model, each called so many times by the one around it, in a configuration of linear size."""
    rows = keras_models.numbers()
    inner: Any = keras.Model(rows, layers.LSTM(3, return_sequences=True)(rows))
    outer = keras_models.numbers()
    made = layers.Dense(1)(inner(outer))
    spec = json.loads(parts_of(save(keras.Model(outer, made)))[CONFIG])
    graph = spec["config"]["layers"]
    model = next(layer for layer in graph if layer["class_name"] == "Functional")
    level = json.loads(json.dumps(model))
    for _ in range(depth):
        around = json.loads(json.dumps(level))
        name = level["name"]
        given, entry = around["config"]["layers"][0], around["config"]["layers"][0]["name"]
        nodes = []
        for call in range(calls):
            node = json.loads(json.dumps(model["inbound_nodes"][0]))
            source = [entry, 0, 0] if call == 0 else [name, call - 1, 0]
            node["args"][0]["config"]["keras_history"] = source
            nodes.append(node)
        level["inbound_nodes"] = nodes
        around["config"]["layers"] = [given, level]
        around["config"]["output_layers"] = [[name, calls, 0]]
        around["name"] = around["config"]["name"] = f"{name}_x"
        level = around
    level["inbound_nodes"] = model["inbound_nodes"]
    text = json.dumps(spec).replace(json.dumps(model["name"]), json.dumps(level["name"]))
    spec = json.loads(text)
    spec["config"]["layers"] = [
        level if layer["class_name"] == "Functional" else layer for layer in spec["config"]["layers"]
    ]
    blob = save(keras.Model(outer, made))
    return packed({**parts_of(blob), CONFIG: json.dumps(spec).encode()})


def test_models_that_call_each_other_twice_are_not_walked_a_million_times() -> None:
    assert "it calls its layers more than 20,000 times" in refusal(nested(40, 2))


def test_models_within_models_without_end_are_one_sentence() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    keras_made = save(keras_models.FIT["lstm"]())
    said = refusal(packed({**parts_of(keras_made), CONFIG: deep.encode()}))
    assert "is not a .keras archive of Keras 3" in said
    assert "is not in the form that Keras 3 writes" in refusal(nested(300, 1))


def test_layers_in_the_opposite_order_are_walked_in_linear_time() -> None:
    """The first of 3,000 layers is fed by the second, and so on; each is looked at twice."""
    rows = hidden = keras_models.numbers()
    hidden = layers.LSTM(2, return_sequences=True)(hidden)
    for number in range(40):
        hidden = layers.Dense(2, name=f"d{number}")(hidden)
    blob = save(keras.Model(rows, hidden))
    forward = read_contract(blob, name="m")

    def turned(spec: Any) -> None:
        spec["config"]["layers"].reverse()

    assert read_contract(with_config(blob, turned), name="m").outputs == forward.outputs


SIZES = [
    ("LSTM", "units", 10**9),
    ("Dense", "units", 10**12),
    ("LSTM", "units", 10**400),
]


@pytest.mark.parametrize(("kind", "key", "value"), SIZES, ids=["units", "dense", "endless"])
def test_a_layer_that_declares_more_weights_than_there_are_is_refused(
    kind: str, key: str, value: int, blob: bytes
) -> None:
    def grown(spec: Any) -> None:
        for layer in spec["config"]["layers"]:
            if layer["class_name"] == kind:
                layer["config"][key] = value

    assert f"({kind}) declares at least" in refusal(with_config(blob, grown))


def test_an_embedding_that_declares_more_weights_than_there_are_is_refused() -> None:
    codes = keras.Input((None,), dtype="int32", name="codes")
    hidden = layers.LSTM(2, return_sequences=True)(layers.Embedding(5, 3)(codes))
    blob = save(keras.Model(codes, layers.Dense(1)(hidden)))

    def grown(spec: Any) -> None:
        next(layer for layer in spec["config"]["layers"] if layer["class_name"] == "Embedding")["config"][
            "input_dim"
        ] = 10**10

    assert "(Embedding) declares at least 30,000,000,000 weights" in refusal(with_config(blob, grown))


@keras.saving.register_keras_serializable(package="attacks")
class Metrics(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A layer whose group in the weights file has the name of one that holds no weights."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, rows: Any) -> Any:
        return rows * self.scale


@keras.saving.register_keras_serializable(package="attacks")
class Optimizer(Metrics):
    """The same."""


@keras.saving.register_keras_serializable(package="attacks")
class SeedGenerator(Metrics):
    """The same."""


@pytest.mark.parametrize("layer", [Metrics, Optimizer, SeedGenerator])
def test_the_weights_of_a_layer_of_any_name_are_in_the_fingerprint(layer: type[Metrics]) -> None:
    rows = keras_models.numbers()
    model = keras.Model(rows, layers.Dense(1)(layers.LSTM(2, return_sequences=True)(layer(name="own")(rows))))
    before = read_archive(save(model), name="m")
    assert before.parameters == model.count_params()
    model.get_layer("own").scale.assign([2.0] * keras_models.FEATURES)
    assert read_archive(save(model), name="m").fingerprint != before.fingerprint


def test_what_training_leaves_in_a_nested_model_is_in_no_fingerprint() -> None:
    inner_rows = keras_models.numbers()
    inner = keras.Model(inner_rows, layers.Dense(2)(layers.Dropout(0.5)(inner_rows)), name="inner")
    rows = keras_models.numbers()
    model = keras.Model(rows, layers.Dense(1)(layers.LSTM(2, return_sequences=True)(inner(rows))))
    before = read_archive(save(model), name="m")
    kept = model.get_weights()
    for one, width in ((inner, 2), (model, 1)):
        one.compile("adam", "mse", metrics=["mae"])
        one.train_on_batch(np.ones((2, 3, keras_models.FEATURES), "float32"), np.ones((2, 3, width), "float32"))
    model.set_weights(kept)
    after = read_archive(save(model), name="m")
    assert (after.fingerprint, after.parameters) == (before.fingerprint, before.parameters)


MEMORY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused
try:
    read_contract(sys.stdin.buffer.read(), name="m")
except ModelRefused as refusal:
    print(refusal)
"""


def test_bombs_fit_into_little_memory(blob: bytes, tmp_path: Path) -> None:
    """Whoever asks `inspect` about a download has not promised it his machine."""
    assert resource.RLIMIT_AS
    bombs = [
        with_weights(blob, lambda weights: shape_bomb(weights, tmp_path)),
        packed({**parts_of(blob), WEIGHTS: bytes(1 << 30)}, zipfile.ZIP_DEFLATED),
    ]
    for bomb in bombs:
        done = subprocess.run([sys.executable, "-c", MEMORY], input=bomb, capture_output=True, cwd=ROOT)
        assert b"declares" in done.stdout, done.stderr.decode()[-2000:]


def test_code_of_a_model_is_never_imported_by_reading_it(blob: bytes, tmp_path: Path) -> None:
    """A configuration names modules; only those that the user names are imported, and by a proof alone."""
    named = with_config(blob, lambda spec: spec["config"]["layers"][1].update(module="antigravity", class_name="Run"))
    with pytest.raises(ModelRefused):
        read_contract(named, name="m.keras", code=CustomCode(("this_is_not_imported",)))
    assert not {"antigravity", "this_is_not_imported"} & set(sys.modules)
