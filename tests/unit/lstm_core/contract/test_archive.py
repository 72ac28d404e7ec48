"""The archive: what is none is refused; the fingerprint follows what moves a score, and nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lstm_core.contract.archive import read_archive
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused
from tests.models import keras_models
from tests.models.keras_models import save
from tests.paths import ROOT


def fingerprint_of(model: Any) -> str:
    return read_archive(save(model), name="model.keras").fingerprint


def one_layer(*, seed: int = 0, batch: int | None = None, **options: Any) -> Any:
    """rows -> LSTM -> Dense, with weights of `seed`."""
    rows = keras_models.numbers(batch=batch)
    hidden = layers.LSTM(4, return_sequences=True, name="memory", **options)(rows)
    return keras_models.seeded(keras.Model(rows, layers.Dense(1, name="score")(hidden), name="model"), seed)


def rewritten(archive: bytes, **members: bytes) -> bytes:
    """The archive with some members replaced: `config_json=...`."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(target, "w") as made:
        for name in source.namelist():
            made.writestr(name, members.get(name.replace(".", "_"), source.read(name)))
    return target.getvalue()


def test_the_same_model_saved_twice_has_one_fingerprint() -> None:
    model = one_layer()
    assert fingerprint_of(model) == fingerprint_of(model)


@pytest.mark.parametrize("name", ["sequential", "nested_twice", "rnn_of_stacked_cells", "normalised_and_dropped"])
def test_a_model_loaded_and_saved_again_keeps_its_fingerprint(name: str, tmp_path: Any) -> None:
    archive = save(keras_models.FIT[name]())
    path = tmp_path / "model.keras"
    path.write_bytes(archive)
    again = save(keras.saving.load_model(path))
    assert read_archive(again, name=name).fingerprint == read_archive(archive, name=name).fingerprint


# By an earlier version of this project, over what the file says as it says it.
KEPT = {
    "keras-3.0.5": "aafbb761dec0399a2513bd0cdc8b82501bab4010a2a724ebf801282a3ad079b8",
    "keras-3.3.3": "03b484157e14e1139dd3188ac001a28c5107e0c3fae95e2c3b3aa514cb3aae16",
    "keras-3.6.0": "60dda893587416d97b6fb0e32dc4c0df5eb3d4aa35326b22dfc6843fd3bd1bfe",
    "keras-3.9.2": "817c7497ba01d485462636006931ebf36bbb5ccc565e5ec5de38c4d68d1aa3ed",
    "sequential-3.0.5": "486c62e8849e7a2bfbc400c8dfeba1d3ede38435e48a2b64a7a198d27937778c",
}
OLDER = sorted((ROOT / "tests/stored").glob("*.keras"), key=lambda path: path.name)  # by their versions of Keras


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_a_model_of_an_older_keras_keeps_its_fingerprint_when_this_one_saves_it_again(path: Path) -> None:
    blob = path.read_bytes()
    found, again = (read_archive(one, name=path.name) for one in (blob, save(keras.saving.load_model(path))))
    assert found.fingerprint == again.fingerprint
    assert again.fingerprint == again.earlier_fingerprint  # what earlier versions kept of today's files still counts
    assert found.earlier_fingerprint != found.fingerprint  # the case is one: the files do differ


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_what_was_kept_of_a_model_of_an_older_keras_is_still_known(path: Path) -> None:
    contract = read_contract(path.read_bytes(), name=path.name)
    assert contract.is_of(contract.fingerprint)
    assert contract.is_of(KEPT[path.stem])
    assert not contract.is_of(KEPT[next(stem for stem in KEPT if stem != path.stem)])


@pytest.mark.parametrize("name", sorted(keras_models.FIT))
def test_the_fingerprint_of_a_file_of_today_is_the_one_that_earlier_versions_kept(name: str) -> None:
    archive = read_archive(save(keras_models.FIT[name]()), name=name)
    assert archive.fingerprint == archive.earlier_fingerprint


def test_one_changed_weight_changes_the_fingerprint() -> None:
    model = one_layer()
    before = fingerprint_of(model)
    kernel = model.get_layer("memory").cell.kernel
    values = np.array(kernel)
    values[0, 0] = np.nextafter(values[0, 0], np.float32(9))
    kernel.assign(values)
    assert fingerprint_of(model) != before


def test_one_changed_layer_changes_the_fingerprint() -> None:
    assert fingerprint_of(one_layer(recurrent_activation="hard_sigmoid")) != fingerprint_of(one_layer())


def test_a_changed_edge_changes_the_fingerprint() -> None:
    def wired(*, crossed: bool) -> Any:
        rows = keras_models.numbers()
        first, second = (layers.GRU(2, return_sequences=True, name=name)(rows) for name in ("first", "second"))
        pair = [second, first] if crossed else [first, second]
        return keras_models.seeded(keras.Model(rows, layers.Subtract(name="score")(pair), name="model"))

    assert fingerprint_of(wired(crossed=True)) != fingerprint_of(wired(crossed=False))


def test_batch_size_and_stateful_do_not_change_the_fingerprint() -> None:
    assert fingerprint_of(one_layer(batch=4, stateful=True)) == fingerprint_of(one_layer())


def test_how_weights_began_does_not_change_the_fingerprint() -> None:
    assert fingerprint_of(one_layer(kernel_initializer="he_normal")) == fingerprint_of(one_layer())


def test_an_optimizer_and_its_moments_do_not_change_the_fingerprint() -> None:
    model = one_layer()
    before = read_archive(save(model), name="before")
    model.compile("adam", "mse", metrics=["mae"])
    rows = np.zeros((2, 3, keras_models.FEATURES), "float32")
    kept = model.get_weights()
    model.train_on_batch(rows, rows[..., :1])
    model.set_weights(kept)
    after = read_archive(save(model), name="after")
    assert after.fingerprint == before.fingerprint
    assert after.parameters == before.parameters == model.count_params()


@pytest.mark.parametrize("blob", [b"", b"not a model", b"\x89HDF\r\n\x1a\n" + bytes(64)], ids=["empty", "text", "hdf5"])
def test_a_file_that_is_no_archive_is_refused(blob: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"'delays\.h5' is not a \.keras archive.*model\.save"):
        read_archive(blob, name="delays.h5")


def test_a_zip_file_without_a_model_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("notes.txt", "nothing")
    with pytest.raises(ModelRefused, match=r"config\.json"):
        read_archive(target.getvalue(), name="model.keras")


def test_a_truncated_archive_is_refused() -> None:
    archive = save(one_layer())
    with pytest.raises(ModelRefused, match=r"is not a \.keras archive"):
        read_archive(archive[: len(archive) // 2], name="model.keras")


def test_weights_that_are_no_hdf5_are_refused() -> None:
    broken = rewritten(save(one_layer()), model_weights_h5=b"weights")
    with pytest.raises(ModelRefused, match="weights that cannot be read"):
        read_archive(broken, name="model.keras")


def test_an_archive_of_keras_2_is_refused() -> None:
    metadata = json.dumps({"keras_version": "2.15.0"}).encode()
    with pytest.raises(ModelRefused, match=r"Keras 2\.15\.0"):
        read_archive(rewritten(save(one_layer()), metadata_json=metadata), name="model.keras")


def test_a_configuration_that_describes_no_model_is_refused() -> None:
    with pytest.raises(ModelRefused, match="describes no model"):
        read_archive(rewritten(save(one_layer()), config_json=b"[]"), name="model.keras")
