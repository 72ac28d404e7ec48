"""Keras models that must be refused, each with the words that its refusal must hold.

`UNFIT` maps a name to a builder and to those words: what is at fault, and a part of the remedy. Most of these models
load and run in Keras without a complaint, and give wrong scores in chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.models.keras_models import FEATURES, numbers, recurrent_model, seeded

Builder = Callable[[], Any]
Refused = dict[str, tuple[Builder, tuple[str, ...]]]  # name -> (builder, words of the refusal)

UNFIT: Refused = {}
TIME = 6  # where a layer needs a fixed length


def refused_in(models: Refused) -> Callable[..., Callable[[Builder], Builder]]:
    """A decorator that lists a builder in `models`, with the words that the sentence of its refusal must have."""

    def refused(*words: str) -> Callable[[Builder], Builder]:
        def listed(builder: Builder) -> Builder:
            models[builder.__name__] = (builder, words)
            return builder

        return listed

    return refused


unfit = refused_in(UNFIT)


def _memory(**options: Any) -> Any:
    return layers.LSTM(4, **{"return_sequences": True, "name": "memory", **options})


def _after(layer: Any, *, time: int | None = None) -> Any:
    """rows -> memory -> `layer` (or any function) -> score."""
    return recurrent_model(_memory(), layer, time=time)


@unfit("'both'", "Bidirectional", "later", "forward")
def bidirectional() -> Any:
    return recurrent_model(layers.Bidirectional(_memory(), name="both"))


@unfit("'inner/both'", "Bidirectional")
def bidirectional_in_a_nested_model() -> Any:
    inner = keras.Sequential([layers.Bidirectional(_memory(), name="both")], name="inner")
    return recurrent_model(inner)


@unfit("'memory'", "go_backwards")
def go_backwards() -> Any:
    return recurrent_model(_memory(go_backwards=True))


@unfit("'memory'", "go_backwards")
def go_backwards_over_cells() -> Any:
    return recurrent_model(layers.RNN(layers.GRUCell(3), return_sequences=True, go_backwards=True, name="memory"))


@unfit("Conv1D", "convolution", "time")
def convolution() -> Any:
    return recurrent_model(layers.Conv1D(4, 3, padding="same"), _memory())


@unfit("Conv1D", "convolution")
def causal_convolution() -> Any:
    return recurrent_model(layers.Conv1D(4, 3, padding="causal"), _memory())


@unfit("SeparableConv1D", "convolution")
def separable_convolution() -> Any:
    return recurrent_model(layers.SeparableConv1D(4, 3, padding="same"), _memory())


@unfit("MaxPooling1D", "pools")
def pooling() -> Any:
    return _after(layers.MaxPooling1D(2, strides=1, padding="same"))


@unfit("GlobalAveragePooling1D", "pools")
def global_pooling() -> Any:
    return _after(layers.GlobalAveragePooling1D(keepdims=True))


@unfit("MultiHeadAttention", "attention")
def self_attention() -> Any:
    attend = layers.MultiHeadAttention(2, 4)
    return _after(lambda hidden: attend(hidden, hidden))


@unfit("Attention", "attention")
def plain_attention() -> Any:
    return _after(lambda hidden: layers.Attention()([hidden, hidden]))


@unfit("Dot", "time")
def dot_product() -> Any:
    return _after(lambda hidden: layers.Dot(axes=2)([hidden, hidden]), time=TIME)


@unfit("'norm'", "LayerNormalization", "time axis", "axis=-1")
def layer_normalisation_over_time() -> Any:
    return _after(layers.LayerNormalization(axis=1, name="norm"), time=TIME)


@unfit("LayerNormalization", "time axis")
def layer_normalisation_over_time_and_features() -> Any:
    return _after(layers.LayerNormalization(axis=[1, 2]), time=TIME)


@unfit("BatchNormalization", "time axis")
def batch_normalisation_by_position() -> Any:
    return _after(layers.BatchNormalization(axis=1), time=TIME)


@unfit("Normalization", "time axis")
def normalisation_by_position() -> Any:
    return recurrent_model(layers.Normalization(axis=1, mean=[0.0] * TIME, variance=[1.0] * TIME), _memory(), time=TIME)


@unfit("GroupNormalization", "time axis")
def group_normalisation() -> Any:
    return _after(layers.GroupNormalization(2))


@unfit("UnitNormalization", "time axis")
def unit_normalisation_over_time() -> Any:
    return _after(layers.UnitNormalization(axis=1))


@unfit("RMSNormalization", "time axis")
def rms_normalisation_over_time() -> Any:
    return _after(layers.RMSNormalization(axis=1), time=TIME)


@unfit("Softmax", "time axis")
def softmax_over_time() -> Any:
    return _after(layers.Softmax(axis=1))


@unfit("Softmax", "time axis")
def softmax_operation_over_time() -> Any:
    return _after(lambda hidden: ops.softmax(hidden, axis=1))


@unfit("Flatten", "TimeDistributed")
def flattened() -> Any:
    def mixed(hidden: Any) -> Any:
        return layers.Reshape((TIME, 4))(layers.Dense(TIME * 4)(layers.Flatten()(hidden)))

    return _after(mixed, time=TIME)


@unfit("Reshape", "time")
def reshaped() -> Any:
    return recurrent_model(layers.Reshape((FEATURES, TIME)), _memory(), time=TIME)


@unfit("Permute", "time")
def permuted() -> Any:
    return recurrent_model(layers.Permute((2, 1)), _memory(), time=TIME)


@unfit("Concatenate", "time axis")
def joined_along_time() -> Any:
    return recurrent_model(lambda rows: layers.Concatenate(axis=1)([rows, rows]), _memory())


@unfit("Mean", "time axis")
def mean_over_time() -> Any:
    return _after(lambda hidden: hidden - ops.mean(hidden, axis=1, keepdims=True))


@unfit("Max", "time axis")
def maximum_over_everything() -> Any:
    return _after(lambda hidden: hidden / ops.max(hidden))


@unfit("Sum", "batch axis")
def sum_over_the_batch() -> Any:
    return _after(lambda hidden: hidden + ops.sum(hidden, axis=0, keepdims=True))


@unfit("Cumsum", "time")
def running_sum() -> Any:
    return _after(lambda hidden: ops.cumsum(hidden, axis=1))


@unfit("Roll", "time")
def shifted_in_time() -> Any:
    return _after(lambda hidden: ops.roll(hidden, 1, axis=1))


@unfit("GetItem", "some rows")
def last_row_added_to_all() -> Any:
    return _after(lambda hidden: hidden + hidden[:, -1:, :])


@unfit("GetItem", "some rows")
def every_second_row() -> Any:
    return _after(lambda hidden: hidden[:, ::2])


@unfit("Transpose", "not known")
def transposed_operation() -> Any:
    return _after(lambda hidden: ops.transpose(ops.transpose(hidden, (0, 2, 1)), (0, 2, 1)))


@unfit("Add", "constant", "chunk")
def constant_by_position() -> Any:
    return _after(lambda hidden: hidden + np.arange(TIME, dtype="float32").reshape(TIME, 1), time=TIME)


@unfit("Add", "ranks")
def row_values_along_features() -> Any:
    """(batch, time) beside (batch, time, 4) with time = 4: NumPy's rules put rows along features."""
    return recurrent_model(_memory(), lambda hidden: hidden + hidden[:, :, 0], time=4)


@unfit("Dense", "time axis")
def dense_along_time() -> Any:
    def mixed(hidden: Any) -> Any:
        return ops.expand_dims(layers.Dense(TIME)(hidden[:, :, 0]), -1)

    return _after(mixed, time=TIME)


@unfit("PReLU", "shared_axes=[1]")
def slope_by_position() -> Any:
    return _after(layers.PReLU(), time=TIME)


@unfit("'memory'", "initial_state", "overwrite")
def initial_state_from_an_input() -> Any:
    rows, hidden, cell = numbers(), keras.Input((4,), name="hidden"), keras.Input((4,), name="cell")
    sequence = _memory()(rows, initial_state=[hidden, cell])
    return seeded(keras.Model([rows, hidden, cell], layers.Dense(1)(sequence)))


@unfit("'decoder'", "initial_state")
def initial_state_from_another_layer() -> Any:
    rows = numbers()
    sequence, *states = _memory(return_state=True, name="encoder")(rows)
    decoded = _memory(name="decoder")(sequence, initial_state=states)
    return seeded(keras.Model(rows, layers.Dense(1)(decoded)))


@unfit("'memory'", "initial_state")
def initial_state_given_by_position() -> Any:
    rows, hidden = numbers(), keras.Input((4,), name="hidden")
    sequence = layers.GRU(4, return_sequences=True, name="memory")(rows, hidden)
    return seeded(keras.Model([rows, hidden], layers.Dense(1)(sequence)))


@unfit("final state of 'memory'", "per chunk")
def final_state_used_downstream() -> Any:
    rows = numbers()
    sequence, hidden, _ = _memory(return_state=True)(rows)
    return seeded(keras.Model(rows, layers.Dense(1)(sequence * layers.Dense(4)(hidden)[:, None, :])))


@unfit("final state of 'memory'", "per chunk")
def final_state_given_out() -> Any:
    rows = numbers()
    sequence, hidden, _ = _memory(return_state=True)(rows)
    return seeded(keras.Model(rows, [layers.Dense(1)(sequence), hidden]))


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """A model whose graph is Python code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.memory, self.score = _memory(), layers.Dense(1)

    def call(self, rows: Any) -> Any:
        return self.score(self.memory(rows))


@unfit("subclassed", "Subclassed", "keras.Model(inputs, outputs)")
def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 2, FEATURES), "float32"))
    return seeded(model)


@unfit("Subclassed", "custom")
def subclassed_inside_a_functional_model() -> Any:
    return recurrent_model(Subclassed(name="inner"))


@unfit("Lambda", "code")
def lambda_layer() -> Any:
    return _after(layers.Lambda(lambda hidden: hidden * 2.0))


class Doubled(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A custom layer that happens to be fit, and is not registered."""

    def call(self, rows: Any) -> Any:
        return rows * 2.0


@unfit("Doubled", "custom", "register_keras_serializable")
def custom_layer() -> Any:
    return _after(Doubled())


class LSTM(layers.LSTM):  # type: ignore[misc]  # Keras ships no types
    """A custom layer with the name of one of Keras's own."""


@unfit("LSTM", "custom")
def custom_layer_with_a_known_name() -> Any:
    return recurrent_model(LSTM(4, return_sequences=True))


def mean_free(values: Any) -> Any:
    """An activation that mixes rows along time."""
    return values - ops.mean(values, axis=1, keepdims=True)


@unfit("activation", "mean_free")
def custom_activation() -> Any:
    return _after(layers.Dense(4, activation=mean_free))


class SlowCell(layers.SimpleRNNCell):  # type: ignore[misc]  # Keras ships no types
    """A custom cell."""


@unfit("SlowCell", "cell")
def custom_cell() -> Any:
    return recurrent_model(layers.RNN(SlowCell(3), return_sequences=True))


@unfit("'memory'", "zero_output_for_mask", "repeats the one before")
def masked_with_zeros() -> Any:
    return recurrent_model(layers.Masking(), _memory(zero_output_for_mask=True))


@unfit("'memory'", "'present' as its mask", "Masking")
def mask_from_an_input() -> Any:
    rows, present = numbers(), keras.Input((None,), dtype="bool", name="present")
    return seeded(keras.Model([rows, present], layers.Dense(1)(_memory()(rows, mask=present))))


@unfit("window's length open", "keras.Input((20, features))")
def window_of_any_length() -> Any:
    return recurrent_model(_memory(return_sequences=False))


@unfit("one score per window", "others one per row", "two models")
def scores_per_window_and_per_row() -> Any:
    rows = numbers(time=TIME)
    hidden = _memory(return_sequences=True)(rows)
    last = layers.LSTM(3, name="last")(hidden)
    return seeded(keras.Model(rows, [layers.Dense(1)(hidden), layers.Dense(1)(last)]))


@unfit("'Add'", "one value per window with a series")
def window_beside_a_series() -> Any:
    rows = numbers(time=TIME)
    last = layers.LSTM(3, name="last")(rows)
    return seeded(
        keras.Model(rows, layers.Dense(1)(layers.Add(name="Add")([last, layers.LSTM(3, return_sequences=True)(rows)])))
    )


@unfit("'second'", "one value per window", "return_sequences=True")
def memory_of_windows() -> Any:
    hidden = layers.Reshape((1, 4))
    return recurrent_model(_memory(return_sequences=False), hidden, layers.GRU(2, name="second"), time=TIME)


@unfit("per window", "(batch, scores)")
def window_with_a_time_of_its_own() -> Any:
    return recurrent_model(_memory(return_sequences=False), layers.Reshape((2, 2)), time=TIME)


@unfit("(RepeatVector)", "one value per window")
def window_repeated() -> Any:
    """An autoencoder: the last output of a window, repeated over it."""
    return recurrent_model(
        _memory(return_sequences=False), layers.RepeatVector(TIME), _memory(name="decoder"), time=TIME
    )


@unfit("'rows'", "(time, features)")
def series_without_feature_axis() -> Any:
    rows = keras.Input((None,), name="rows")
    return seeded(keras.Model(rows, layers.Dense(1)(_memory()(ops.expand_dims(rows, -1)))))


@unfit("recurrent layer", "no state")
def without_recurrent_layer() -> Any:
    return recurrent_model(layers.Dense(4, activation="relu"))


@unfit("/memory'", "every row", "TimeDistributed")
def memory_within_each_row() -> Any:
    rows = keras.Input((None, FEATURES), name="rows")
    each = layers.TimeDistributed(layers.LSTM(2, return_sequences=True, name="memory"))
    hidden = layers.TimeDistributed(layers.Flatten())(each(ops.expand_dims(rows, -1)))
    return seeded(keras.Model(rows, layers.Dense(1)(_memory(name="outer")(hidden))))


@unfit("Dropout", "training=True", "random")
def dropout_that_stays_on() -> Any:
    drop = layers.Dropout(0.5)
    return _after(lambda hidden: drop(hidden, training=True))


@unfit("float16", "mixed_float16")
def half_precision() -> Any:
    return recurrent_model(_memory(dtype="float16"))


@unfit("Add", "one value per entity", "fixed[:, None, :]")
def static_values_by_position() -> Any:
    """As many values as the series has rows, which a chunk would give to other rows."""
    rows, fixed = numbers(time=TIME), keras.Input((4,), name="fixed")
    spread = layers.Reshape((TIME, 4))(layers.Dense(TIME * 4)(fixed))
    return seeded(keras.Model([rows, fixed], layers.Dense(1)(_memory()(rows) + spread)))


@unfit("Concatenate", "one value per entity", "RepeatVector")
def static_input_joined_with_a_series() -> Any:
    rows, fixed = numbers(time=1), keras.Input((2,), name="fixed")
    joined = layers.Concatenate()([rows, fixed[:, None, :]])
    return seeded(keras.Model([rows, fixed], layers.Dense(1)(_memory()(joined))))


@unfit("one value per entity", "score per row")
def score_per_entity() -> Any:
    rows, fixed = numbers(), keras.Input((2,), name="fixed")
    return seeded(keras.Model([rows, fixed], [layers.Dense(1)(_memory()(rows)), layers.Dense(1)(fixed)]))


@unfit("'memory'", "no series")
def memory_over_a_static_input() -> Any:
    rows, fixed = numbers(), keras.Input((4,), name="fixed")
    return seeded(keras.Model([rows, fixed], layers.Dense(1)(_memory()(layers.Reshape((2, 2))(fixed)) + rows[..., :1])))


@unfit("lengths", "2", "3")
def inputs_of_different_lengths() -> Any:
    short, long = numbers(time=2, name="short"), numbers(time=3, name="long")
    memories = [_memory(name="first")(short), _memory(name="second")(long)]
    return seeded(keras.Model([short, long], [layers.Dense(1)(hidden) for hidden in memories]))


@unfit("lengths", "open")
def one_row_broadcast_over_a_chunk() -> Any:
    rows, once = numbers(), numbers(time=1, name="once")
    return seeded(keras.Model([rows, once], layers.Dense(1)(_memory()(rows + once))))


@unfit("output", "one score per row")
def output_without_score_axis() -> Any:
    rows = numbers()
    return seeded(keras.Model(rows, _memory()(rows)[:, :, 0]))


@unfit("'frames'", "vector of numbers")
def series_of_images() -> Any:
    frames = keras.Input((None, 4, 4), name="frames")
    hidden = _memory()(layers.TimeDistributed(layers.Flatten())(frames))
    return seeded(keras.Model(frames, layers.Dense(1)(hidden)))


@unfit("ConvLSTM1D", "images")
def convolutional_memory() -> Any:
    rows = keras.Input((None, FEATURES), name="rows")
    hidden = layers.ConvLSTM1D(2, 3, padding="same", return_sequences=True)(ops.expand_dims(rows, -1))
    return seeded(keras.Model(rows, layers.TimeDistributed(layers.Flatten())(hidden)))
