"""The user's function that makes a model: found beside the configuration, and its faults said in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.training.model_builder import archive_of, build_model

MODULE = """
import keras

def build():
    rows = keras.Input((None, 2))
    return keras.Model(rows, keras.layers.Dense(1)(keras.layers.LSTM(3, return_sequences=True)(rows)))

def broken():
    raise KeyError("units")

def nothing():
    return 3

def subclassed():
    class Own(keras.Model):
        def call(self, rows):
            return rows
    return Own()

def compiled():
    model = build()
    model.compile("adam", "mae")
    return model

number = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a_users_models.py").write_text(MODULE)
    (tmp_path / "a_users_typo.py").write_text("import keras.layerz\n")
    path, modules = list(sys.path), set(sys.modules)
    yield str(tmp_path)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("a_users"):
            del sys.modules[name]


def test_the_function_is_found_in_the_folder(folder: str) -> None:
    model = build_model("a_users_models:build", folders=[folder])
    assert isinstance(model, keras.Model)
    assert read_contract(archive_of(model, name="it"), name="it").score_values == 1


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("a_users_models:compiled", r"returned a compiled model, whose optimizer.*: leave out compile\(\)"),
        ("a_users_modelz:build", "module 'a_users_modelz' cannot be imported .*it is looked for in"),
        ("a_users_typo:build", "module 'a_users_typo' cannot be imported .*keras.layerz"),
        ("a_users_models:bild", "has no function 'bild'"),
        ("a_users_models:number", "has no function 'number'"),
        ("a_users_models:broken", "the function raised KeyError: 'units'"),
        ("a_users_models:nothing", "expected a Keras model, but the function returned int"),
    ],
)
def test_a_fault_of_the_users_code_is_one_sentence(folder: str, source: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build_model(source, folders=[folder])


def test_a_subclassed_model_is_refused_as_when_scoring(folder: str) -> None:
    model = build_model("a_users_models:subclassed", folders=[folder])
    with pytest.raises(ModelRefused):
        read_contract(archive_of(model, name="it"), name="it")
