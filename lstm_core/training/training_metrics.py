"""Metrics of Keras beside the loss: figures of a training that move no weight.

What it decides: a metric sees the rows that the loss sees, with the weight that each has there, but for class weights,
which would make a metric of training another one than that of validation. Names are Keras's, and so are what they
compute and what "accuracy" means; each output has metrics of its own, since a score of one says nothing of another.

Limits: metrics that can be made without arguments, take a target for every score, and give one number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from lstm_core.array_types import Floats
from lstm_core.contract.custom_code import first_sentence
from lstm_core.errors import UsageError
from lstm_core.nearest_name import nearest_hint
from lstm_core.training.losses import BY_VALUE, check_names

_BY_VALUE = BY_VALUE | {"binary_accuracy"}
_ACCURACY = ("accuracy", "acc")
_MISFITS = (TypeError, ValueError, AttributeError, NotImplementedError, SyntaxWarning, tf.errors.InvalidArgumentError)
_ALIASES = ("accuracy", "mae", "mse", "mape", "msle", "bce")


class TrainingMetrics:
    """The metrics of one training, over the rows since the last `reset`."""

    def __init__(self, given: Sequence[str] | Mapping[str, Sequence[str]], outputs: Sequence[tuple[str, int]]) -> None:
        """`given` are names for every output, or a table of them; `outputs` are (name, values), in order.

        Raises `UsageError` for what Keras does not know, and what does not fit.
        """
        by_output = _by_output(given, [name for name, _ in outputs])
        self._sizes = [size for _, size in outputs]
        self._made = [[_Metric(name, size) for name in by_output.get(output, ())] for output, size in outputs]
        self._outputs = [f"{output}_" if len(outputs) > 1 else "" for output, _ in outputs]
        self._weights = np.zeros(len(outputs))
        self._compiled = tf.function(self._update, autograph=False)

    def __bool__(self) -> bool:
        return any(self._made)

    def reset(self) -> None:
        """No row was seen."""
        self._weights[:] = 0
        for made in self._made:
            for one in made:
                one.metric.reset_state()

    def update(self, scores: Sequence[tf.Tensor], targets: Floats, weights: Floats) -> None:
        """Adds the rows of one step; arguments as in `losses.Loss.sums`."""
        borders = np.cumsum(self._sizes)[:-1]
        self._weights += [part.sum() for part in np.split(weights, borders, axis=-1)]
        self._compiled(list(scores), tf.constant(targets), tf.constant(weights))

    def results(self) -> dict[str, float]:
        """The metrics under Keras's names; without those of an output that no row has spoken of, or without a value."""
        found = [
            (f"{output}{one.name}", float(np.squeeze(one.metric.result())))
            for output, made, weight in zip(self._outputs, self._made, self._weights, strict=True)
            for one in made
            if weight
        ]
        return {name: value for name, value in found if math.isfinite(value)}

    @property
    def better(self) -> dict[str, str]:
        """ "min" or "max" by name, where Keras knows it."""
        return {
            f"{output}{one.name}": "max" if one.metric._direction == "up" else "min"
            for output, made in zip(self._outputs, self._made, strict=True)
            for one in made
            if getattr(one.metric, "_direction", None)
        }

    def _update(self, scores: list[tf.Tensor], targets: tf.Tensor, weights: tf.Tensor) -> None:
        parts = (tf.split(array, self._sizes, axis=-1) for array in (targets, weights))
        for made, *rows in zip(self._made, scores, *parts, strict=True):
            for one in made:
                one.update(*rows)


class _Metric:
    """A Keras metric over one output."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self._size = name, size
        self.metric = _make(name, size)
        function = getattr(getattr(self.metric, "_fn", None), "__name__", "")
        self._by_value = function in _BY_VALUE or isinstance(self.metric, keras.metrics.RootMeanSquaredError)
        self._try()

    def update(self, scores: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> None:
        """Arrays (slot, step, value). Where values belong together a row counts where all of them are known."""
        size = 1 if self._by_value else self._size
        weights = weights if self._by_value else tf.reduce_min(weights, axis=-1)
        rows = [tf.reshape(array, (-1, size)) for array in (targets, scores)]
        self.metric.update_state(*rows, sample_weight=tf.reshape(weights, (-1,)))

    def _try(self) -> None:
        if "int" in str(self.metric.dtype):
            raise _unfit(self.name, "it counts in whole numbers, and rows have weights")
        two = tf.ones((1, 2, self._size))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SyntaxWarning)  # Keras's word for shapes that make no sense
                self.update(two / 2, two, two)
                found = int(np.size(self.metric.result()))
        except _MISFITS as error:
            raise _unfit(self.name, first_sentence(error)) from None
        if found != 1:
            raise _unfit(self.name, f"it gives {found} numbers, and one is needed")
        self.metric.reset_state()


def _by_output(
    given: Sequence[str] | Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(outputs, given)
    check_names("train.metrics", given, outputs)
    return given


def _make(name: str, size: int) -> keras.metrics.Metric:
    if name.lower() in _ACCURACY:  # as `compile` chooses it, where there is a target for every score
        return keras.metrics.BinaryAccuracy() if size == 1 else keras.metrics.CategoricalAccuracy()
    if name.lower().startswith("sparse"):
        raise _unfit(name, "it takes one target for all scores of an output")
    try:
        return keras.metrics.get(name)
    except TypeError as error:
        raise _unfit(name, first_sentence(error)) from None
    except ValueError:
        known = _known()
        near = nearest_hint(name.replace("_", ""), known, lambda found: repr(known[found]))
        raise UsageError(
            f"train.metrics: {name!r} is no metric of Keras{near}; there are"
            f" {', '.join(sorted(known.values(), key=str.lower))}."
        ) from None


def _unfit(name: str, reason: str) -> UsageError:
    return UsageError(f"train.metrics: {name!r} does not fit one target per score: {reason}; leave it out.")


def _known() -> dict[str, str]:
    """Names of metrics in small letters -> as Keras has them; without the bases that metrics are made of."""
    kinds = {name: kind for name, kind in vars(keras.metrics).items() if isinstance(kind, type)}
    bases = {"Metric", "Mean", "Sum", "MeanMetricWrapper"}
    fit = [name for name in kinds if name not in bases and not name.startswith("Sparse")]
    return {name.lower(): name for name in (*fit, *_ALIASES)}
