"""Stateful training in order: the step that scores, with a loss, a gradient and an update behind it.

What it decides: the gradient is cut at the chunk's border (the carried state enters a step as a constant: truncated
back-propagation through time); a row without a target, padding and idle slots have weight zero; a step without a single
target moves the state and no weight. Rows come packed as they come when scoring, so there is nothing to shuffle, and
slots are reset one by one at the borders of entities.

Limits: losses that compare values one by one, or the values of one output with each other. BatchNormalization is
refused unless it is frozen: its statistics would count padding. It leaves alone: which rows stand where (`packing`),
how often (`cluster.runtime.training_actor`), and seeds, which belong to the process.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lstm_core.errors import ModelRefused, UsageError
from lstm_core.replica import StatefulReplica, StepShape, make_step

Array = NDArray[Any]

BY_VALUE = frozenset({
    "mean_absolute_error", "mean_squared_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "huber", "log_cosh", "poisson", "hinge", "squared_hinge", "binary_crossentropy", "binary_focal_crossentropy",
})  # fmt: skip
BY_OUTPUT = frozenset({
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge", "kl_divergence",
    "cosine_similarity",
})  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How weights are moved; names as Keras knows them."""

    loss: str
    optimizer: str
    learning_rate: float


@dataclass
class LossSum:
    """A loss over rows: what was added up, and the weight behind it."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, total: float, weight: float) -> None:
        """Adds the rows of one step."""
        self.total += total
        self.weight += weight

    @property
    def mean(self) -> float:
        """The weighted mean; NaN where nothing had a weight."""
        return self.total / self.weight if self.weight else float("nan")


class StatefulTrainer:
    """A model in training: the weights that `replica` scores with are the ones that `train_step` moves.

    Training and scoring have each their own state of the slots; weights are one set, and `trained_model` puts them back
    into the model that was given, whose architecture is as it was.
    """

    def __init__(self, model: Any, shape: StepShape, recipe: Recipe) -> None:
        """`model` is a Keras model that `contract` has accepted. Raises `UsageError` and `ModelRefused`."""
        self._loss = Loss(recipe.loss)
        self._optimizer = make_optimizer(recipe.optimizer, recipe.learning_rate)
        _refuse_batch_statistics(model)
        self._model = model
        self.replica = StatefulReplica(model, shape)
        self._variables = self.replica.step_model.model.trainable_variables
        if not self._variables:
            raise ModelRefused("The model has no weight that may be trained: set trainable = True on some layer.")
        self._optimizer.build(self._variables)
        self._learn = self._compile(self._learning_step, [self._value_spec(), self._value_spec()])
        self._advance = self._compile(make_step(self.replica.step_model, shape.chunk, training=True), [])
        self.reset_all()

    def reset_all(self) -> None:
        """Zero state in every slot, for training and for scoring: an epoch begins."""
        self.replica.reset_all()
        self._states = self.replica.states

    def train_step(self, rows: Sequence[Array], targets: Array, reset: Array, lengths: Array) -> tuple[float, float]:
        """One step with an update; arguments as in `StatefulReplica.step`, and targets (slot, step, score value).

        A target that is no number has no loss. Returns the sum of the losses, before the update, and their weight.
        """
        # What stands in an idle slot may be anything, and zero times NaN would be a gradient.
        rows = [np.where(_like(lengths > 0, array), array, 0).astype(dtype, copy=False)
                for array, dtype in zip(rows, self.replica.row_dtypes, strict=True)]  # fmt: skip
        known, weights = weigh(targets, lengths)
        if not weights.any():
            _, self._states = self._advance(rows, reset, lengths, self._states)
            return 0.0, 0.0
        total, weight, self._states = self._learn(rows, reset, lengths, self._states, known, weights)
        return float(total), float(weight)

    def score_step(self, rows: Sequence[Array], targets: Array, reset: Array, lengths: Array) -> tuple[float, float]:
        """One step as `StatefulReplica.step` takes it, and the loss of its scores; no weight moves."""
        scores = self.replica.step(rows, reset, lengths)
        total, weight = self._loss.sums(scores, *weigh(targets, lengths))
        return float(total), float(weight)

    def trained_model(self) -> Any:
        """The model that was given, with the weights of now."""
        self.replica.step_model.copy_back()
        return self._model

    def _learning_step(
        self, rows: list[Any], reset: Any, lengths: Any, states: list[Any], *known: Any
    ) -> tuple[Any, Any, list[Any]]:
        step = make_step(self.replica.step_model, self.replica.shape.chunk, training=True)
        with tf.GradientTape() as tape:
            scores, after = step(rows, reset, lengths, states)
            total, weight = self._loss.sums(scores, *known)
            penalties = self.replica.step_model.model.losses
            wanted = tf.add_n([total / weight, *penalties])
        gradients = tape.gradient(wanted, self._variables)
        self._optimizer.apply(gradients, self._variables)
        return total, weight, after

    def _value_spec(self) -> Any:
        shape = self.replica.shape
        outputs = self.replica.step_model.model.outputs[: len(self.replica.step_model.output_names)]
        return tf.TensorSpec((shape.slots, shape.chunk, sum(output.shape[-1] for output in outputs)), tf.float32)

    def _compile(self, graph: Callable[..., Any], more: list[Any]) -> Any:
        signature = [*self.replica.signature(), *more]
        return tf.function(graph, input_signature=signature, jit_compile=self.replica.shape.jit, autograph=False)


class Loss:
    """A Keras loss as sums over rows, so that padding and unknown targets can be left out."""

    def __init__(self, name: str) -> None:
        """Raises `UsageError` for a name that is no loss, or one of a kind that is not taken here."""
        self._by_value, self._function = _find_loss(name)

    def sums(self, scores: Sequence[Any], targets: Any, weights: Any) -> tuple[Any, Any]:
        """The sum of the weighted losses and the sum of the weights, two scalars.

        scores: one (slot, step, value) per output. targets, weights: (slot, step, score value), outputs side by side.
        """
        if self._by_value:
            losses = self._function(targets[..., None], tf.concat(scores, axis=-1)[..., None])
            return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)
        sizes = [score.shape[-1] for score in scores]
        parts = zip(scores, tf.split(targets, sizes, axis=-1), tf.split(weights, sizes, axis=-1), strict=True)
        sums = [self._output_sums(*part) for part in parts]
        return tf.add_n([total for total, _ in sums]), tf.add_n([weight for _, weight in sums])

    def _output_sums(self, scores: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        whole = tf.reduce_min(weights, axis=-1)  # a row counts where all its values are known
        return tf.reduce_sum(self._function(targets, scores) * whole), tf.reduce_sum(whole)


def weigh(targets: Array, lengths: Array) -> tuple[Array, Array]:
    """Targets (slot, step, score value) with 0 for what is no number, and their weights: 1 where there is a loss."""
    inside = np.arange(targets.shape[1])[None, :] < lengths[:, None]
    known = np.isfinite(targets) & inside[..., None]
    return np.where(known, targets, 0).astype(np.float32), known.astype(np.float32)


def make_optimizer(name: str, learning_rate: float) -> Any:
    """A Keras optimizer by name. Raises `UsageError`."""
    known = {key.lower(): kind for key, kind in vars(keras.optimizers).items() if _is_optimizer(kind)}
    kind = known.get(name.lower())
    if kind is None:
        raise UsageError(
            f"train.optimizer {name!r} is no optimizer of Keras: the nearest one is {_nearest(name, known)!r}, of "
            f"{', '.join(sorted(known))}."
        )
    return kind(learning_rate=learning_rate)


def _is_optimizer(kind: Any) -> bool:
    wrappers = (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer)
    return isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer) and kind not in wrappers


def _find_loss(name: str) -> tuple[bool, Callable[..., Any]]:
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
    raise UsageError(
        f"train.loss {name!r} {reason}: the nearest one that does is {_nearest(name, known)!r}, of {', '.join(known)}."
    )


def _nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    return difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.0)[0]


def _refuse_batch_statistics(model: Any) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise ModelRefused(
                f"Layer {layer.name!r} is BatchNormalization, whose statistics in training would count padding and "
                "rows of other entities: use LayerNormalization, or freeze it (trainable = False), as scoring does."
            )


def _like(flags: Array, array: Array) -> Array:
    return flags.reshape(-1, *([1] * (array.ndim - 1)))
