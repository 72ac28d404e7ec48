"""Keras models of a precision or with layers that are refused: as `unfit_models`, each with words of its refusal."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import layers, ops

from tests.models import custom_layers
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


@unsupported("StringLookup", "input.vocabulary", "Embedding")
def words_looked_up_in_the_model() -> Any:
    words = keras.Input((None,), dtype="string", name="word")
    codes = layers.StringLookup(vocabulary=["AA", "UA"], name="codes")(words)
    hidden = layers.LSTM(4, return_sequences=True)(layers.Embedding(4, 2)(codes))
    return keras.Model(words, layers.Dense(1)(hidden))


@unsupported("IntegerLookup", "input.vocabulary")
def numbers_looked_up_in_the_model() -> Any:
    number = keras.Input((None,), dtype="int64", name="number")
    codes = layers.IntegerLookup(vocabulary=[10, 30])(number)
    hidden = layers.LSTM(4, return_sequences=True)(layers.Embedding(4, 2)(codes))
    return keras.Model(number, layers.Dense(1)(hidden))


@unsupported("EinsumDense", "time", "abc,cd->abd")
def einsum_over_time() -> Any:
    mixing = layers.EinsumDense("abc,bd->adc", output_shape=(6, FEATURES))
    return recurrent_model(mixing, layers.LSTM(4, return_sequences=True), time=6)


@unsupported("Conv1D", "convolution", "kernel_size=1 and strides=1")
def convolution_with_strides() -> Any:
    return recurrent_model(layers.Conv1D(4, 1, strides=2), layers.LSTM(4, return_sequences=True))


@unsupported("Split", "time axis")
def chunk_split_along_time() -> Any:
    rows = keras.Input((6, FEATURES), name="rows")
    early, late = ops.split(rows, 2, axis=1)
    hidden = layers.LSTM(4, return_sequences=True)(layers.Add()([early, late]))
    return keras.Model(rows, layers.Dense(1)(hidden))


@unsupported("PReLU", "'slotcar guide models'")
def activation_with_weights() -> Any:
    lift = layers.Dense(4, activation=layers.PReLU(shared_axes=[1]))
    return recurrent_model(lift, layers.LSTM(4, return_sequences=True))


@unsupported("CategoryEncoding", "input.vocabulary")
def codes_encoded_in_the_model() -> Any:
    rows = keras.Input((None, 1), dtype="int32", name="rows")
    coded = layers.CategoryEncoding(num_tokens=4, output_mode="one_hot")(rows)
    return keras.Model(rows, layers.Dense(1)(layers.LSTM(4, return_sequences=True)(coded)))


@unsupported("'memory'", "custom cell", "mask")
def custom_cell_behind_a_mask() -> Any:
    cell = custom_layers.DecayCell(3)
    return recurrent_model(layers.Masking(), layers.RNN(cell, return_sequences=True, name="memory"))
