"""Models of layers and inputs that are seldom seen beside a memory, and are fit."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tests.models import custom_layers
from tests.models.model_parts import FEATURES, fit, numbers, recurrent_model, seeded, sequence_of


@fit
def activations_that_are_layers() -> Any:
    first = layers.Dense(4, activation=layers.LeakyReLU(negative_slope=0.2), name="lift")
    memory = sequence_of(layers.GRU, activation=layers.ELU(), name="memory")
    return recurrent_model(first, memory, layers.Activation(layers.ReLU(), name="act"))


@fit
def convolutions_of_one_row() -> Any:
    narrow = layers.Conv1D(2, 1, padding="causal", use_bias=False, name="narrow")
    return recurrent_model(
        layers.Conv1D(4, 1, activation="relu", name="wide"), sequence_of(layers.LSTM, name="memory"), narrow
    )


@fit
def convolutions_within_a_row() -> Any:
    within = [layers.Reshape((6, 1)), layers.Conv1D(3, 2), layers.MaxPooling1D(2), layers.Conv1D(2, 2, padding="same")]
    each = [layers.TimeDistributed(layer) for layer in (*within, layers.GlobalAveragePooling1D())]
    rows = hidden = numbers(columns=6)
    for layer in each:
        hidden = layer(hidden)
    hidden = sequence_of(layers.LSTM, name="memory")(hidden)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(hidden)))


@fit
def einsums_over_features() -> Any:
    first = layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", activation="tanh", name="first")
    return recurrent_model(
        first, sequence_of(layers.GRU, name="memory"), layers.EinsumDense("...x,xy->...y", output_shape=3, name="last")
    )


@fit
def spectral_normalization() -> Any:
    return recurrent_model(
        layers.SpectralNormalization(layers.Dense(4, name="inside"), name="smooth"),
        sequence_of(layers.LSTM, name="memory"),
    )


@fit
def features_split_in_parts() -> Any:
    rows = numbers(columns=5)
    first, second, third = ops.split(rows, [2, 3], axis=-1)
    left, right = ops.split(sequence_of(layers.LSTM, name="memory")(layers.Concatenate()([third, first])), 2, axis=2)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(layers.Concatenate()([left * right, second]))))


@fit
def whole_numbers_and_flags() -> Any:
    counts = keras.Input((None, FEATURES), dtype="int64", name="counts")
    flags = keras.Input((2,), dtype="bool", name="flags")
    hidden = sequence_of(layers.LSTM, name="memory")(ops.cast(counts, "float32"))
    beside = layers.Dense(4, name="beside")(ops.cast(flags, "float32"))
    return seeded(keras.Model([counts, flags], layers.Dense(1, name="score")(hidden + beside[:, None, :])))


@fit
def custom_cell_with_a_zero_state_of_its_own() -> Any:
    return recurrent_model(layers.RNN(custom_layers.BegunCell(4, begin=0.0), return_sequences=True, name="memory"))
