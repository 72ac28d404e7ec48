"""Keras models that the tests score: small, uncompiled, with seeded weights, one per thing a user may build.

`FIT` holds every builder that chunked scoring must accept, by name. A builder is called without arguments, or with
`batch` and `time` to fix them. `save` gives the bytes of the `.keras` archive.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tests.models import custom_layers, masked_models, prepared_models, unusual_models
from tests.models.model_parts import (
    CODE,
    FEATURES,
    FIT,
    VOCABULARY,
    Builder,
    codes,
    contract_of,
    fit,
    numbers,
    recurrent_model,
    save,
    seeded,
)
from tests.models.model_parts import sequence_of as _rnn

__all__ = [
    "CODE",
    "FEATURES",
    "FIT",
    "VOCABULARY",
    "Builder",
    "codes",
    "contract_of",
    "fit",
    "masked_models",
    "numbers",
    "prepared_models",
    "recurrent_model",
    "save",
    "seeded",
    "unusual_models",
]


@fit
def lstm(*, batch: int | None = None, time: int | None = None) -> Any:
    return recurrent_model(_rnn(layers.LSTM, name="memory"), batch=batch, time=time)


@fit
def gru(*, batch: int | None = None, time: int | None = None) -> Any:
    return recurrent_model(_rnn(layers.GRU, name="memory"), batch=batch, time=time)


@fit
def gru_reset_before(*, batch: int | None = None, time: int | None = None) -> Any:
    return recurrent_model(_rnn(layers.GRU, reset_after=False, name="memory"), batch=batch, time=time)


@fit
def simple_rnn(*, batch: int | None = None, time: int | None = None) -> Any:
    return recurrent_model(_rnn(layers.SimpleRNN, name="memory"), batch=batch, time=time)


@fit
def lstm_other_activations() -> Any:
    options = {"activation": "relu", "recurrent_activation": "hard_sigmoid", "use_bias": False}
    return recurrent_model(_rnn(layers.LSTM, name="memory", **options))


@fit
def rnn_of_one_cell() -> Any:
    return recurrent_model(layers.RNN(layers.SimpleRNNCell(4), return_sequences=True, name="memory"))


@fit
def rnn_of_stacked_cells() -> Any:
    cells = [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(2)]
    return recurrent_model(layers.RNN(cells, return_sequences=True, name="memory"))


@fit
def stacked() -> Any:
    return recurrent_model(
        _rnn(layers.LSTM, 5, name="first"), _rnn(layers.GRU, 4, name="second"), _rnn(layers.SimpleRNN, 3, name="third")
    )


@fit
def stateful_lstm() -> Any:
    return recurrent_model(_rnn(layers.LSTM, stateful=True, name="memory"), batch=4, time=7)


@fit
def stateful_stacked_time_open() -> Any:
    first, second = (_rnn(layers.LSTM, stateful=True, name=name) for name in ("first", "second"))
    return recurrent_model(first, second, batch=2)


@fit
def stateful_rnn_of_cells() -> Any:
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    return recurrent_model(layers.RNN(cells, return_sequences=True, stateful=True, name="memory"), batch=3, time=5)


@fit
def fixed_time() -> Any:
    return recurrent_model(_rnn(layers.LSTM, name="memory"), time=7)


@fit
def unrolled() -> Any:
    return recurrent_model(_rnn(layers.LSTM, unroll=True, name="memory"), time=5)


@fit
def state_returned_and_dropped() -> Any:
    rows = numbers()
    sequence, *_ = _rnn(layers.LSTM, return_state=True, name="memory")(rows)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(sequence)))


@fit
def sequential() -> Any:
    model = keras.Sequential(
        [keras.Input((None, FEATURES), name="rows"), _rnn(layers.LSTM, name="memory"), layers.Dense(1, name="score")]
    )
    return seeded(model)


@fit
def sequential_built_on_call() -> Any:
    model = keras.Sequential([_rnn(layers.GRU, name="memory"), layers.Dense(2, name="score")])
    model(np.zeros((2, 3, FEATURES), "float32"))
    return seeded(model)


@fit
def time_distributed() -> Any:
    return recurrent_model(
        layers.TimeDistributed(layers.Dense(4, activation="relu"), name="each"),
        _rnn(layers.LSTM, name="memory"),
        layers.TimeDistributed(layers.LayerNormalization(), name="each_norm"),
    )


@fit
def normalised_and_dropped() -> Any:
    return recurrent_model(
        layers.BatchNormalization(name="frozen"),
        _rnn(layers.LSTM, dropout=0.3, recurrent_dropout=0.2, name="memory"),
        layers.LayerNormalization(name="norm"),
        layers.Dropout(0.5, name="drop"),
        layers.Activation("tanh", name="act"),
    )


@fit
def softmax_head() -> Any:
    rows = numbers()
    hidden = _rnn(layers.LSTM, name="memory")(rows)
    return seeded(keras.Model(rows, layers.Dense(3, activation="softmax", name="score")(hidden)))


@fit
def residual() -> Any:
    rows = numbers()
    first = _rnn(layers.LSTM, FEATURES, name="first")(rows)
    hidden = layers.Add(name="shortcut")([rows, first])
    second = _rnn(layers.GRU, FEATURES, name="second")(hidden)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(hidden + second)))


@fit
def branches() -> Any:
    """A dense branch beside the recurrent one, and operations on features."""
    rows = numbers()
    memory = _rnn(layers.LSTM, name="memory")(rows)
    beside = layers.Dense(4, activation="relu", name="beside")(rows[..., :2])
    joined = layers.Concatenate(name="joined")([memory, beside * 0.5, keras.ops.tanh(rows)])
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(joined)))


@fit
def two_inputs(*, batch: int | None = None, time: int | None = None) -> Any:
    rows, carrier = numbers(batch=batch, time=time, name="numeric"), codes(batch=batch, time=time)
    embedded = layers.Embedding(VOCABULARY, 2, name="embedded")(carrier)
    hidden = _rnn(layers.LSTM, name="memory")(layers.Concatenate(name="joined")([rows, embedded]))
    return seeded(keras.Model([rows, carrier], layers.Dense(1, name="score")(hidden)))


@fit
def two_inputs_by_name() -> Any:
    """Inputs as a dict, which Keras takes in sorted order, and codes in an input of floats."""
    rows, carrier = numbers(name="numeric"), codes(dtype="float32")
    embedded = layers.Embedding(VOCABULARY, 2, name="embedded")(carrier)
    hidden = _rnn(layers.LSTM, name="memory")(layers.Concatenate(name="joined")([rows, embedded]))
    return seeded(keras.Model({"numeric": rows, "carrier": carrier}, layers.Dense(1, name="score")(hidden)))


@fit
def several_codes_per_row() -> Any:
    rows, pair = numbers(name="numeric"), keras.Input((None, 2), dtype="int32", name="pair")
    embedded = layers.TimeDistributed(layers.Flatten(), name="flat")(layers.Embedding(VOCABULARY, 2)(pair))
    hidden = _rnn(layers.GRU, name="memory")(layers.Concatenate(name="joined")([rows, embedded]))
    return seeded(keras.Model([rows, pair], layers.Dense(1, name="score")(hidden)))


@fit
def several_outputs() -> Any:
    rows = numbers()
    hidden = _rnn(layers.LSTM, name="memory")(rows)
    delay = layers.Dense(1, name="delay")(hidden)
    kinds = layers.Dense(3, activation="softmax", name="kinds")(hidden)
    return seeded(keras.Model(rows, [delay, kinds]))


@fit
def outputs_by_name() -> Any:
    rows = numbers()
    hidden = _rnn(layers.GRU, name="memory")(rows)
    outputs = {"zeta": layers.Dense(1, name="first")(hidden), "alpha": layers.Dense(2, name="second")(hidden)}
    return seeded(keras.Model(rows, outputs))


@fit
def nested_functional() -> Any:
    inner_rows = keras.Input((None, FEATURES), name="inner_rows")
    memory = _rnn(layers.LSTM, name="memory")(inner_rows)
    inner = keras.Model(inner_rows, [memory, layers.Dense(2, name="beside")(inner_rows)], name="inner")
    rows = numbers()
    first, second = inner(rows)
    hidden = _rnn(layers.GRU, name="second")(layers.Concatenate(name="joined")([first, second]))
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(hidden)))


@fit
def nested_sequential() -> Any:
    inner = keras.Sequential([layers.Dense(4, name="lift"), _rnn(layers.SimpleRNN, name="memory")], name="inner")
    rows = numbers()
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(inner(rows))))


@fit
def nested_twice() -> Any:
    """A stateful model in a Sequential in a Functional model."""
    innermost = keras.Sequential([_rnn(layers.LSTM, name="memory"), layers.Dense(3, name="narrow")], name="innermost")
    inner = keras.Sequential([layers.Dense(4, name="lift"), innermost], name="inner")
    rows = numbers()
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(inner(rows))))


@fit
def shared_dense() -> Any:
    """One dense layer in two places: fit, since it has no state."""
    rows = numbers()
    lift = layers.Dense(FEATURES, activation="tanh", name="lift")
    hidden = _rnn(layers.LSTM, FEATURES, name="memory")(lift(rows))
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(lift(hidden))))


@fit
def shared_inner_model() -> Any:
    """A nested model without state, applied twice."""
    lift = keras.Sequential([keras.Input((None, FEATURES)), layers.Dense(FEATURES, name="inside")], name="lift")
    rows = numbers()
    hidden = _rnn(layers.LSTM, FEATURES, name="memory")(lift(rows))
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(lift(hidden))))


@fit
def parallel_memories() -> Any:
    rows = numbers()
    fast, slow = _rnn(layers.SimpleRNN, 3, name="fast")(rows), _rnn(layers.GRU, 3, name="slow")(rows)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(layers.Multiply(name="both")([fast, slow]))))


@fit
def prepared_rows() -> Any:
    """Rescaling, Normalization, PReLU shared over time, UnitNormalization: all on features only."""
    normalise = layers.Normalization(mean=[1.0, 0.0, -1.0], variance=[1.0, 4.0, 2.0], name="normalise")
    return recurrent_model(
        layers.Rescaling(0.5, offset=0.1, name="rescale"),
        normalise,
        layers.PReLU(shared_axes=[1], name="slope"),
        _rnn(layers.LSTM, name="memory"),
        layers.UnitNormalization(name="unit"),
    )


@fit
def nested_model_at_the_end() -> Any:
    """Outputs that come straight from a nested Functional model, called twice over."""
    inner_rows = keras.Input((None, FEATURES), name="inner_rows")
    inner = keras.Model(
        inner_rows, [layers.Dense(1, name="up")(inner_rows), layers.Dense(2, name="down")(inner_rows)], name="inner"
    )
    rows = numbers()
    hidden = _rnn(layers.LSTM, FEATURES, name="memory")(rows)
    return seeded(keras.Model(rows, [*inner(hidden), inner(rows)[0]]))


@fit
def memory_applied_twice() -> Any:
    """One set of weights, two states."""
    rows, memory = numbers(columns=4), _rnn(layers.LSTM, name="memory")
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(memory(memory(rows)))))


@fit
def nested_memory_applied_twice() -> Any:
    inner = keras.Sequential([keras.Input((None, 4)), _rnn(layers.GRU, name="memory")], name="inner")
    rows = numbers(columns=4)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(layers.Add()([inner(rows), inner(inner(rows))]))))


@fit
def mixed_float16() -> Any:
    return recurrent_model(_rnn(layers.LSTM, dtype="mixed_float16", name="memory"))


@fit
def mixed_bfloat16() -> Any:
    lift = layers.Dense(4, activation="tanh", dtype="mixed_bfloat16", name="lift")
    return recurrent_model(lift, _rnn(layers.GRU, dtype="mixed_bfloat16", name="memory"))


@fit
def static_numbers() -> Any:
    rows, fixed = numbers(), keras.Input((2,), name="fixed")
    beside = layers.Dense(4, name="beside")(fixed)
    hidden = _rnn(layers.LSTM, name="memory")(rows)
    return seeded(keras.Model([rows, fixed], layers.Dense(1, name="score")(hidden + beside[:, None, :])))


@fit
def static_code_before_the_memory() -> Any:
    rows, kind = numbers(), keras.Input((1,), dtype="int32", name="kind")
    shift = layers.Embedding(VOCABULARY, FEATURES, name="embedded")(kind)  # (slot, 1, feature)
    hidden = _rnn(layers.GRU, name="memory")(layers.Add(name="shifted")([rows, shift]))
    return seeded(keras.Model({"rows": rows, "kind": kind}, layers.Dense(1, name="score")(hidden)))


@fit
def static_numbers_and_codes_repeated() -> Any:
    rows, fixed = numbers(), keras.Input((2,), name="fixed")
    kinds = keras.Input((2,), dtype="int32", name="kinds")
    flat = layers.Flatten(name="flat")(layers.Embedding(VOCABULARY, 2, name="embedded")(kinds))
    once = layers.Dense(3, activation="relu", name="once")(layers.Concatenate(name="known")([fixed, flat]))
    repeated = layers.RepeatVector(5, name="repeated")(once)
    hidden = _rnn(layers.LSTM, name="memory")(layers.Concatenate(name="joined")([rows, repeated]))
    return seeded(keras.Model([rows, fixed, kinds], layers.Dense(1, name="score")(hidden)))


@fit
def static_numbers_through_a_nested_model() -> Any:
    inner_fixed = keras.Input((2,), name="inner_fixed")
    gate = keras.Model(inner_fixed, layers.Dense(4, activation="sigmoid", name="gate")(inner_fixed), name="gates")
    rows, fixed = numbers(), keras.Input((2,), name="fixed")
    hidden = _rnn(layers.SimpleRNN, name="memory")(rows) * keras.ops.expand_dims(gate(fixed), 1)
    return seeded(keras.Model([rows, fixed], layers.Dense(1, name="score")(hidden)))


@fit
def custom_layers_of_two_kinds() -> Any:
    return recurrent_model(
        custom_layers.Scaled(name="scaled"), _rnn(layers.LSTM, name="memory"), custom_layers.Halved(name="halved")
    )


@fit
def custom_layer_at_the_end() -> Any:
    """The archive does not show how many scores it gives."""
    rows = numbers()
    hidden = _rnn(layers.GRU, name="memory")(rows)
    return seeded(keras.Model(rows, custom_layers.Halved(name="score")(hidden)))


@fit
def custom_layers_in_a_sequential() -> Any:
    stack = [keras.Input((None, FEATURES), name="rows"), custom_layers.Scaled(), _rnn(layers.LSTM, name="memory")]
    return seeded(keras.Sequential([*stack, custom_layers.Halved(), layers.Dense(1, name="score")]))


@fit
def custom_cell() -> Any:
    return recurrent_model(layers.RNN(custom_layers.DecayCell(5), return_sequences=True, name="memory"))


@fit
def custom_cell_among_others() -> Any:
    cells = [layers.LSTMCell(4), custom_layers.DecayCell(3)]
    return recurrent_model(layers.RNN(cells, return_sequences=True, name="memory"), _rnn(layers.GRU, name="second"))


@fit
def custom_recurrent_layer() -> Any:
    return recurrent_model(custom_layers.OwnLSTM(4, return_sequences=True, stateful=True, name="memory"), batch=2)


@fit
def custom_activations() -> Any:
    memory = _rnn(layers.SimpleRNN, activation=custom_layers.shrunk, name="memory")
    return recurrent_model(memory, layers.Dense(3, activation=custom_layers.shrunk, name="lift"))
