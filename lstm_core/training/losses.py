"""Losses as sums over rows, so that padding and unknown targets can be left out, and what each row weighs.

Limits: losses that compare values one by one, or the values of one output with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from lstm_core.array_types import AnyInts, Doubles, Floats
from lstm_core.errors import UsageError
from lstm_core.nearest_name import nearest_hint
from lstm_core.step.compiled_function import ArrayOrTensor
from lstm_core.step.known_shapes import known_shape
from lstm_core.training.training_settings import TrainingSettings

KerasLoss: TypeAlias = Callable[[ArrayOrTensor, tf.Tensor], tf.Tensor]  # of targets and scores

BY_VALUE = frozenset({
    "mean_absolute_error", "mean_squared_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "huber", "log_cosh", "poisson", "hinge", "squared_hinge", "binary_crossentropy", "binary_focal_crossentropy",
})  # fmt: skip
BY_OUTPUT = frozenset({
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge", "kl_divergence",
    "cosine_similarity",
})  # fmt: skip


@dataclass
class LossSum:
    """Losses over rows: what was added up, and the weight behind it; one of each per part of a `Loss`."""

    parts: Mapping[str, float] = field(default_factory=lambda: {"loss": 1.0})  # name -> weight in the whole
    totals: Doubles = field(default_factory=lambda: np.zeros(1))
    weights: Doubles = field(default_factory=lambda: np.zeros(1))

    def add(self, totals: Doubles, weights: Doubles) -> None:
        """Adds the rows of one step."""
        self.totals = self.totals + totals
        self.weights = self.weights + weights

    @property
    def weight(self) -> float:
        """The weight of all parts."""
        return float(self.weights.sum())

    @property
    def means(self) -> dict[str, float]:
        """The weighted mean of each part that has a weight."""
        found = zip(self.parts, self.totals, self.weights, strict=False)
        return {name: float(total / weight) for name, total, weight in found if weight}

    @property
    def mean(self) -> float:
        """The whole: the parts' means, weighted; NaN where nothing had a weight."""
        means = self.means
        return sum(self.parts[name] * mean for name, mean in means.items()) if means else float("nan")


class Loss:
    """One loss for all scores, or one per output."""

    def __init__(self, settings: TrainingSettings, outputs: Sequence[tuple[str, int]]) -> None:
        """`outputs` are (name, values), in order. Raises `UsageError` for what does not fit them."""
        names = [name for name, _ in outputs]
        self._sizes = [size for _, size in outputs]
        if isinstance(settings.loss, str):
            check_names("train.loss_weights", settings.loss_weights, ())
            self._whole: _Part | None = _Part(settings.loss)
            self.parts: dict[str, float] = {"loss": 1.0}
            return
        check_names("train.loss", settings.loss, names, complete=True)
        check_names("train.loss_weights", settings.loss_weights, names)
        self._whole = None
        self._each = [_Part(settings.loss[name]) for name in names]
        self.parts = {f"{name}_loss": float(settings.loss_weights.get(name, 1.0)) for name in names}

    def sums(
        self, scores: Sequence[tf.Tensor], targets: ArrayOrTensor, weights: ArrayOrTensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The sums of the weighted losses and the sums of the weights, each (part,).

        scores: one (slot, step, value) per output. targets, weights: (slot, step, score value), outputs side by side.
        """
        if self._whole is not None:
            total, weight = self._whole.sums(scores, targets, weights)
            return total[None], weight[None]
        split = (tf.split(array, self._sizes, axis=-1) for array in (targets, weights))
        pairs = [part.sums([score], *known) for part, score, *known in zip(self._each, scores, *split, strict=True)]
        return tf.stack([total for total, _ in pairs]), tf.stack([weight for _, weight in pairs])

    def mean(self, totals: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """What is minimised: the mean of each part, weighted; a part without a target has none."""
        if len(self.parts) == 1 and self._whole is not None:
            return tf.squeeze(totals / weights, 0)
        return tf.reduce_sum(
            tf.constant(list(self.parts.values()), tf.float32) * tf.math.divide_no_nan(totals, weights)
        )


class _Part:
    """A Keras loss over some outputs."""

    def __init__(self, name: str) -> None:
        self._by_value, self._function = _find_loss(name)

    def sums(
        self, scores: Sequence[tf.Tensor], targets: ArrayOrTensor, weights: ArrayOrTensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if self._by_value:
            losses = self._function(
                targets[..., None],  # type: ignore[index]  # why: the stubs know no Ellipsis
                tf.concat(scores, axis=-1)[..., None],  # type: ignore[index]  # why: as above
            )
            return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)
        sizes = [known_shape(score)[-1] for score in scores]
        parts = zip(scores, tf.split(targets, sizes, axis=-1), tf.split(weights, sizes, axis=-1), strict=True)
        sums = [self._output_sums(*part) for part in parts]
        return tf.add_n([total for total, _ in sums]), tf.add_n([weight for _, weight in sums])

    def _output_sums(self, scores: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        whole = tf.reduce_min(weights, axis=-1)  # a row counts where all its values are known
        return tf.reduce_sum(self._function(targets, scores) * whole), tf.reduce_sum(whole)


def weigh(targets: Floats, lengths: AnyInts, row_weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Targets (slot, step, score value) with 0 for what is no number, and their weights: 1 where there is a loss.

    `row_weights` (slot, step) are multiplied in; a weight that is no number, or not positive, is 0.
    """
    inside = np.arange(targets.shape[1])[None, :] < lengths[:, None]
    known = np.isfinite(targets) & inside[..., None]
    weights = known.astype(np.float32)
    if row_weights is not None:
        usable = np.isfinite(row_weights) & (row_weights > 0)
        weights *= np.where(usable, row_weights, 0).astype(np.float32)[..., None]
    return np.where(known, targets, 0).astype(np.float32), weights


class ClassWeights:
    """A weight per class: of one score, whose target is the class, or of one output with a score per class."""

    def __init__(self, given: Mapping[str, float], outputs: Sequence[tuple[str, int]]) -> None:
        """Raises `UsageError` where there is no class to speak of."""
        self._weights = {_class(name): float(weight) for name, weight in given.items()}
        if self._weights and len(outputs) > 1:
            raise UsageError("train.class_weight is for a model with one output: give train.weight, a column, instead.")
        size = outputs[0][1]
        if size > 1 and any(not 0 <= number < size for number in self._weights):
            raise UsageError(f"train.class_weight names a class outside 0..{size - 1}, the scores of the output.")

    def apply(self, known: Floats, weights: Floats) -> Floats:
        """The weights (slot, step, value) of targets, multiplied by their class's."""
        if not self._weights:
            return weights
        found = np.rint(known[..., 0]) if known.shape[-1] == 1 else known.argmax(axis=-1)
        factors = np.ones(found.shape, np.float32)
        for number, weight in self._weights.items():
            factors[found == number] = weight
        return weights * factors[..., None]


def _class(name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise UsageError(f"train.class_weight names the class {name!r}: classes are whole numbers, from 0.") from None


def check_names(key: str, given: Iterable[str], known: Sequence[str], *, complete: bool = False) -> None:
    """Raises `UsageError` where a table of `key` names an output that is not there, or lacks one."""
    for name in given:
        if name not in known:
            has = f"the outputs {', '.join(known)}" if known else "one train.loss for all of its scores"
            raise UsageError(f"{key} names {name!r}, but the model has {has}.")
    lacking = [name for name in known if complete and name not in list(given)]
    if lacking:
        raise UsageError(f"{key} lacks the model's output {lacking[0]!r}: name one loss per output, or one for all.")


def _find_loss(name: str) -> tuple[bool, KerasLoss]:
    try:
        found = keras.losses.get(name)
    except ValueError:
        found = None
    function = getattr(found, "fn", found)
    plain = getattr(function, "__name__", "")
    if plain in BY_VALUE or plain in BY_OUTPUT:
        return plain in BY_VALUE, found.call if isinstance(found, keras.losses.Loss) else found
    known = ["mae", "mse", "mape", "msle", *sorted(BY_VALUE | BY_OUTPUT)]
    reason = "is a loss of Keras that does not fit one target per score" if found else "is no loss of Keras"
    near = "" if found else nearest_hint(name, known)
    raise UsageError(f"train.loss {name!r} {reason}{near}; those that fit are {', '.join(known)}.")
