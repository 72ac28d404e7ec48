"""Keras models in a precision that is refused: as `unfit_models`, each with the words that its refusal must hold."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import layers

from tests.models.keras_models import FEATURES, recurrent_model
from tests.models.unfit_models import Refused, refused_in

UNSUPPORTED: Refused = {}
unsupported = refused_in(UNSUPPORTED)
REMEDY = "save the model before model.quantize(...) is called"


def _plain() -> Any:
    return recurrent_model(layers.LSTM(4, return_sequences=True, name="memory"), layers.Dense(4, name="lift"))


def _quantized(model: Any, mode: str) -> Any:
    with warnings.catch_warnings(action="ignore"):  # of layers that it leaves as they are
        model.quantize(mode)
    return model


@unsupported("'lift'", "quantized (int8", REMEDY)
def quantized_to_int8() -> Any:
    return _quantized(_plain(), "int8")


@unsupported("'lift'", "quantized (int4", REMEDY)
def quantized_to_int4() -> Any:
    return _quantized(_plain(), "int4")


@unsupported("'lift'", "quantized (float8", REMEDY)
def quantized_to_float8() -> Any:
    return _quantized(_plain(), "float8")


@unsupported("'inner/lift'", "quantized (int8", REMEDY)
def quantized_in_a_nested_model() -> Any:
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.Dense(4, name="lift")], name="inner")
    return _quantized(recurrent_model(inner, layers.LSTM(4, return_sequences=True, name="memory")), "int8")


@unsupported("quantized (int8", REMEDY)
def quantized_under_time_distributed() -> Any:
    each = layers.TimeDistributed(layers.Dense(4, dtype="int8_from_float32"), name="each")
    return recurrent_model(each, layers.LSTM(4, return_sequences=True, name="memory"))


@unsupported("'memory'", "float64")
def a_cell_of_float64() -> Any:
    cell = layers.LSTMCell(4, dtype="float64")
    return recurrent_model(layers.RNN(cell, return_sequences=True, name="memory"))


@unsupported("float16", "mixed_float16")
def pure_float16() -> Any:
    return recurrent_model(layers.LSTM(4, return_sequences=True, dtype="float16", name="memory"))
