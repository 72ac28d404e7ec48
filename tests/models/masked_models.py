"""Models with codes in Keras's default type, with masks of Keras's own, and with layers of one name."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.models.model_parts import FEATURES, VOCABULARY, fit, numbers, recurrent_model, seeded, sequence_of


def _gaps() -> list[Any]:
    """Layers behind which about a third of all rows is masked."""
    return [layers.Rescaling(1.0, offset=-0.5), layers.ReLU(), layers.Masking(0.0, name="gaps")]


@fit
def codes_of_the_default_type() -> Any:
    stack = [keras.Input((None,)), layers.Embedding(VOCABULARY, 4), sequence_of(layers.LSTM, 5, name="memory")]
    return seeded(keras.Sequential([*stack, layers.Dense(1, name="score")]))


@fit
def codes_of_the_default_type_and_a_fixed_length() -> Any:
    stack = [keras.Input((8,)), layers.Embedding(VOCABULARY, 4), sequence_of(layers.LSTM, 5, name="memory")]
    return seeded(keras.Sequential([*stack, layers.Dense(1, name="score")]))


@fit
def codes_of_the_default_type_in_a_nested_model() -> Any:
    encoder = keras.Sequential([keras.Input((8,)), layers.Embedding(VOCABULARY, 4)], name="encoder")
    kind, fixed = keras.Input((8,), name="kind"), keras.Input((2,), name="fixed")
    hidden = sequence_of(layers.GRU, 5, name="memory")(encoder(kind))
    hidden = hidden + layers.Dense(5, name="beside")(fixed)[:, None, :]
    return seeded(keras.Model([kind, fixed], layers.Dense(1, name="score")(hidden)))


@fit
def masked_codes() -> Any:
    stack = [keras.Input((None,)), layers.Embedding(VOCABULARY, 4, mask_zero=True)]
    stack += [sequence_of(layers.LSTM, 5, name="first"), sequence_of(layers.GRU, 4, name="second")]
    return seeded(keras.Sequential([*stack, layers.Dense(1, name="score")]))


@fit
def masked_codes_beside_numbers() -> Any:
    rows, carrier = numbers(name="numeric"), keras.Input((None,), name="carrier")
    embedded = layers.Embedding(VOCABULARY, 2, mask_zero=True, name="embedded")(carrier)
    seen = sequence_of(layers.SimpleRNN, 4, name="seen")(embedded)
    hidden = sequence_of(layers.LSTM, name="memory")(layers.Concatenate(name="joined")([rows, embedded]))
    return seeded(keras.Model([rows, carrier], layers.Dense(1, name="score")(layers.Concatenate()([hidden, seen]))))


@fit
def masked_numbers() -> Any:
    return recurrent_model(*_gaps(), sequence_of(layers.LSTM, name="first"), sequence_of(layers.LSTM, name="second"))


@fit
def masked_numbers_of_stacked_cells() -> Any:
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    return recurrent_model(*_gaps(), layers.RNN(cells, return_sequences=True, name="memory"))


@fit
def masked_numbers_and_a_residual() -> Any:
    """Beside the memory the masked rows themselves."""
    rows = hidden = numbers()
    for layer in _gaps():
        hidden = layer(hidden)
    memory = sequence_of(layers.GRU, FEATURES, name="memory")(hidden)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(layers.Add(name="both")([memory, hidden]))))


@fit
def layers_of_one_name() -> Any:
    """A nested model is often trained apart, where its layers had the names that these have."""
    stack = [keras.Input((None, FEATURES)), sequence_of(layers.LSTM, 3, name="memory"), layers.Dense(3, name="score")]
    encoder = keras.Sequential(stack, name="encoder")
    return recurrent_model(encoder, sequence_of(layers.LSTM, 4, name="memory"))


@fit
def layers_called_by_keyword() -> Any:
    rows = keras.Input((None, FEATURES), name="rows")
    inner = keras.Sequential([keras.Input((None, 4)), layers.Dense(3, name="lift")], name="inner")
    hidden = sequence_of(layers.LSTM, name="memory")(sequences=layers.Dense(4, name="before")(inputs=rows))
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(inputs=inner(inputs=hidden))))


@fit
def names_with_signs() -> Any:
    columns = [keras.Input((None, 1), name=name) for name in ("s1:temp", "s1:press", "slotcar_valid", "wind speed")]
    hidden = sequence_of(layers.LSTM, name="state__memory__0")(layers.Concatenate()(columns))
    return seeded(keras.Model(columns, layers.Dense(1, name="score")(hidden)))
