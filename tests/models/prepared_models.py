"""Models whose rows are prepared by layers that learned their numbers from data before any training: `adapt`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tests.models import custom_layers
from tests.models.model_parts import FEATURES, fit, numbers, recurrent_model, seeded, sequence_of


def _rows() -> Any:
    return np.random.default_rng(3).normal([5.0, -40.0, 300.0], [2.0, 0.1, 90.0], (500, FEATURES)).astype(np.float32)


def _adapted(model: Any) -> Any:
    """The model with all that its Normalization layers derive, as after `adapt`; their weights count too."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.adapt(_rows().reshape(*[1] * (len(layer._build_input_shape) - 2), -1, FEATURES))
    return model


@fit
def adapted_normalization() -> Any:
    return _adapted(recurrent_model(layers.Normalization(name="normalise"), sequence_of(layers.LSTM, name="memory")))


@fit
def adapted_normalization_of_all_features_at_once() -> Any:
    normalise = layers.Normalization(axis=None, name="normalise")
    return _adapted(recurrent_model(normalise, sequence_of(layers.GRU, name="memory")))


@fit
def adapted_and_inverted() -> Any:
    """Scores in the units of the target."""
    rows = numbers()
    hidden = sequence_of(layers.LSTM, FEATURES, name="memory")(layers.Normalization(name="normalise")(rows))
    back = layers.Normalization(invert=True, name="score")(hidden)
    return _adapted(seeded(keras.Model(rows, back, name="model")))


@fit
def scores_in_their_own_units() -> Any:
    """A load of some 1,500, whose last bit is 1e-4, and beside it a change of the load, around zero."""
    rows = numbers()
    hidden = sequence_of(layers.LSTM, 32, name="memory")(rows)
    load = layers.Normalization(invert=True, mean=[1500.0], variance=[300.0**2], name="load")
    change = layers.Normalization(invert=True, mean=[0.0], variance=[1000.0**2], name="change")
    return seeded(keras.Model(rows, [load(layers.Dense(1)(hidden)), change(layers.Dense(1)(hidden))]))


@fit
def adapted_in_a_nested_model() -> Any:
    inner = keras.Sequential(
        [keras.Input((None, FEATURES)), layers.Normalization(), layers.Dense(4, activation="tanh")], name="prepared"
    )
    return _adapted(recurrent_model(inner, sequence_of(layers.SimpleRNN, name="memory")))


@fit
def adapted_under_time_distributed() -> Any:
    each = layers.TimeDistributed(layers.Normalization(), name="each")
    return _adapted(recurrent_model(each, sequence_of(layers.LSTM, name="memory")))


@fit
def adapted_static() -> Any:
    rows, fixed = numbers(), keras.Input((FEATURES,), name="fixed")
    beside = layers.Dense(4, name="beside")(layers.Normalization(name="normalise")(fixed))
    hidden = sequence_of(layers.LSTM, name="memory")(rows)
    return _adapted(seeded(keras.Model([rows, fixed], layers.Dense(1, name="score")(hidden + beside[:, None, :]))))


@fit
def adapted_discretization() -> Any:
    rows = numbers()
    bins = layers.Discretization(num_bins=6, name="bins")
    bins.adapt(np.random.default_rng(4).normal(size=(500, 1)).astype(np.float32))
    embedded = layers.TimeDistributed(layers.Flatten(), name="flat")(layers.Embedding(6, 2)(bins(rows)))
    hidden = sequence_of(layers.GRU, name="memory")(embedded)
    return seeded(keras.Model(rows, layers.Dense(1, name="score")(hidden)))


@fit
def custom_derived_constants() -> Any:
    """A layer of the user's own, and one in the memory itself, that derive constants when their weights are loaded."""
    memory = layers.RNN(custom_layers.DerivedCell(4), return_sequences=True, name="memory")
    model = recurrent_model(custom_layers.Derived(name="derived"), memory)
    for layer in model._flatten_layers():
        if isinstance(layer, custom_layers.Derived):
            layer.derive()
    return model
