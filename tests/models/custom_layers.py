"""Layers, cells and functions of a user's own, registered with Keras: some keep rows apart, some do not."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

registered = keras.saving.register_keras_serializable(package="tests")


@registered
class Scaled(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Fit: a weight per feature."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, rows: Any) -> Any:
        return rows * self.scale


@registered
class Halved(layers.Layer):  # type: ignore[misc]
    """Fit: the first half of the features, so another shape than it was given."""

    def call(self, rows: Any) -> Any:
        return rows[..., : rows.shape[-1] // 2]

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], shape[-1] // 2)


@registered
class DecayCell(layers.Layer):  # type: ignore[misc]
    """Fit: a recurrent cell of one flat state, whose size no key of its configuration names."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = self.state_size = self.output_size = width

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.width), name="kernel")

    def call(self, row: Any, states: Any, training: bool = False) -> Any:
        state = 0.7 * states[0] + ops.tanh(ops.matmul(row, self.kernel))
        return state, [state]

    def get_config(self) -> Any:
        return {**super().get_config(), "width": self.width}


@registered
class Derived(layers.Layer):  # type: ignore[misc]
    """Fit: computes with what it derives from its weights once they are loaded."""

    def build(self, shape: Any) -> None:
        self.raw = self.add_weight(shape=(shape[-1],), name="raw")
        self.derive()

    def derive(self) -> None:
        """To be called whenever the weights are others."""
        self.factor = 1.0 / (1.0 + ops.abs(ops.convert_to_tensor(self.raw)))

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self.derive()

    def call(self, rows: Any) -> Any:
        return rows * self.factor


@registered
class DerivedCell(DecayCell):
    """Fit: a cell with such a layer in it."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.inner = Derived(name="inner")
        self.inner.build(shape)

    def call(self, row: Any, states: Any, training: bool = False) -> Any:
        return super().call(self.inner(row), states, training)


@registered
class BegunCell(DecayCell):
    """Fit where it begins with zero: a cell that says itself where it begins."""

    def __init__(self, width: int, begin: float, **options: Any) -> None:
        super().__init__(width, **options)
        self.begin = begin

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.full((batch_size, self.width), self.begin)]

    def get_config(self) -> Any:
        return {**super().get_config(), "begin": self.begin}


@registered
class OwnLSTM(layers.LSTM):  # type: ignore[misc]
    """Fit: a recurrent layer by inheritance."""


@registered
def shrunk(values: Any) -> Any:
    """Fit: one value at a time."""
    return values / (1.0 + ops.abs(values))


@registered
class RunningMean(layers.Layer):  # type: ignore[misc]
    """Unfit: mixes time and says nothing."""

    def call(self, rows: Any) -> Any:
        return rows - ops.mean(rows, axis=1, keepdims=True)


@registered
class Lagged(layers.Layer):  # type: ignore[misc]
    """Unfit: looks back 20 rows, further than a short series would show."""

    def call(self, rows: Any) -> Any:
        return rows + ops.pad(rows, ((0, 0), (20, 0), (0, 0)))[:, : ops.shape(rows)[1]]


@registered
class Neighbourly(layers.Layer):  # type: ignore[misc]
    """Unfit: mixes the series of a batch."""

    def call(self, rows: Any) -> Any:
        return rows - ops.mean(rows, axis=0, keepdims=True)


@registered
class Counting(layers.Layer):  # type: ignore[misc]
    """Unfit: keeps a state of its own, which no reset of a slot reaches."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(shape=(), name="calls", initializer="zeros", trainable=False)

    def call(self, rows: Any) -> Any:
        self.calls.assign_add(1.0)
        return rows * self.calls


@registered
class Remembering(layers.Layer):  # type: ignore[misc]
    """Unfit: holds a recurrent layer where the state cannot be reached."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.memory = layers.LSTM(4, return_sequences=True)

    def build(self, shape: Any) -> None:
        self.memory.build(shape)

    def call(self, rows: Any) -> Any:
        return self.memory(rows)


@registered
class Noisy(layers.Layer):  # type: ignore[misc]
    """Unfit: random when it scores."""

    def call(self, rows: Any) -> Any:
        return rows + keras.random.normal(ops.shape(rows))


@registered
class Placed(layers.Layer):  # type: ignore[misc]
    """Unfit: a weight per position in time, so it takes one length only."""

    def build(self, shape: Any) -> None:
        self.place = self.add_weight(shape=(shape[1], 1), name="place")

    def call(self, rows: Any) -> Any:
        return rows + self.place


@registered
def centred(values: Any) -> Any:
    """Unfit: an activation that mixes rows along time."""
    return values - ops.mean(values, axis=1, keepdims=True)


@registered
class SummingCell(layers.Layer):  # type: ignore[misc]
    """Fit: several states, each of them all inputs plus all of itself; the output is their sum."""

    def __init__(self, width: int, copies: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.copies = width, copies
        self.state_size, self.output_size = [width] * copies, width

    def call(self, row: Any, states: Any, training: bool = False) -> Any:
        seen = ops.sum(row, axis=-1, keepdims=True)
        after = [ops.broadcast_to(seen + ops.sum(state, axis=-1, keepdims=True), ops.shape(state)) for state in states]
        return sum(after[1:], after[0]), after

    def get_config(self) -> Any:
        return {**super().get_config(), "width": self.width, "copies": self.copies}
