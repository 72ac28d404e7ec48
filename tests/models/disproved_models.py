"""Keras models with custom code that must be refused, though nothing in the archive speaks against them.

`DISPROVED` maps a name to a builder and to words of the refusal: only the proof, by their scores, finds them.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from tests.models import custom_layers
from tests.models.keras_models import recurrent_model
from tests.models.unfit_models import Refused, refused_in

DISPROVED: Refused = {}
TIME = 6  # where a layer needs a fixed length


disproved = refused_in(DISPROVED)


def _with(layer: Any, *, time: int | None = None) -> Any:
    """rows -> memory -> `layer` -> score."""
    return recurrent_model(layers.LSTM(4, return_sequences=True, name="memory"), layer, time=time)


@disproved("differ", "'mixes'", "along time")
def custom_layer_that_mixes_time_and_says_nothing() -> Any:
    return _with(custom_layers.RunningMean(name="mixes"))


@disproved("differ", "'lagged'")
def custom_layer_that_looks_far_back() -> Any:
    return _with(custom_layers.Lagged(name="lagged"))


@disproved("differ", "'mixes'", "other series")
def custom_layer_that_mixes_the_batch() -> Any:
    return _with(custom_layers.Neighbourly(name="mixes"))


@disproved("differ", "'counting'")
def custom_layer_with_a_hidden_state() -> Any:
    return _with(custom_layers.Counting(name="counting"))


@disproved("differ", "'hidden'")
def custom_layer_that_hides_a_memory() -> Any:
    return _with(custom_layers.Remembering(name="hidden"))


@disproved("differ", "'noisy'")
def custom_layer_that_is_random() -> Any:
    return _with(custom_layers.Noisy(name="noisy"))


@disproved("differ", "'lift'")
def custom_activation_that_mixes_time() -> Any:
    return _with(layers.Dense(4, activation=custom_layers.centred, name="lift"))


@disproved("'placed'", "raised", "any length")
def custom_layer_of_one_length() -> Any:
    return _with(custom_layers.Placed(name="placed"), time=TIME)


@disproved("no recurrent layer")
def custom_layer_without_memory() -> Any:
    return recurrent_model(custom_layers.Scaled(name="scaled"))


@disproved("'memory'", "begins with a state of its own", "get_initial_state")
def custom_cell_that_begins_elsewhere() -> Any:
    cell = custom_layers.BegunCell(3, begin=0.5)
    return recurrent_model(layers.RNN(cell, return_sequences=True, name="memory"))
