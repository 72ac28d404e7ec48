"""Stateful training in order: the step that scores, with a loss, a gradient and an update behind it.

What it decides: the gradient is cut at the chunk's border (the carried state enters a step as a constant: truncated
back-propagation through time); a row without a target, padding and idle slots have weight zero; a step without a single
target moves the state and no weight; the target of a window, where there is one score for it, is that of its last row.
Rows come packed as they come when scoring, so there is nothing to shuffle, and slots are reset one by one at the
borders of entities.

Limits: BatchNormalization is refused unless it is frozen: its statistics would count padding. It leaves alone: which
rows stand where (`packer`), what a loss is (`losses`), how often (`cluster.runtime.training.training_actor`), and
seeds, which belong to the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from lstm_core.array_types import Array, Bools, Doubles, Floats, Int32s
from lstm_core.contract.custom_code import first_sentence
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.json_types import JsonValue
from lstm_core.nearest_name import nearest_hint
from lstm_core.step.stateful_replica import StatefulReplica, StepShape, make_step
from lstm_core.training.losses import ClassWeights, Loss, weigh
from lstm_core.training.training_metrics import TrainingMetrics
from lstm_core.training.training_settings import TrainingSettings

Returned = TypeVar("Returned")


class StatefulTrainer:
    """A model in training: the weights that `replica` scores with are the ones that `train_step` moves.

    Training and scoring have each their own state of the slots; weights are one set, and `trained_model` puts them back
    into the model that was given, whose architecture is as it was.
    """

    def __init__(
        self,
        model: keras.Model,
        shape: StepShape,
        settings: TrainingSettings,
        output_names: Sequence[str] | None = None,
    ) -> None:
        """`model` is a Keras model that `model_contract` has accepted. Raises `UsageError` and `ModelRefused`."""
        self._settings = settings
        self.optimizer = _scaled_for(model, make_optimizer(settings.optimizer, settings.learning_rate))
        _refuse_batch_statistics(model)
        self._model = model
        self.replica = StatefulReplica(model, shape)
        outputs = self._outputs(output_names)
        self.loss, self.metrics = Loss(settings, outputs), TrainingMetrics(settings.metrics, outputs)
        self._class_weights = ClassWeights(settings.class_weight, outputs)
        self._values = sum(size for _, size in outputs)
        self._variables = self.replica.step_model.model.trainable_variables
        if not self._variables:
            raise ModelRefused("The model has no weight that may be trained: set trainable = True on some layer.")
        self.optimizer.build(self._variables)
        self._learn = self._compile(self._learning_step, [self._value_spec(), self._value_spec()])
        self._advance = self._compile(make_step(self.replica.step_model, shape.chunk, training=True), [])
        self.reset_all()

    def reset_all(self) -> None:
        """Zero state in every slot, for training and for scoring, and metrics of no row: a pass begins."""
        self.replica.reset_all()
        self.metrics.reset()
        self._states = self.replica.states

    def train_step(
        self, rows: Sequence[Array], targets: Floats, reset: Bools, lengths: Int32s
    ) -> tuple[Doubles, Doubles]:
        """One step with an update; arguments as in `StatefulReplica.step`, and targets (slot, step, score value).

        A target that is no number has no loss; where the settings are weighted, a row's weight stands behind its
        targets.
        Of a window with one score the last row's targets and weight count.
        Returns the sums of the losses, before the update, and their weights, each (part of the loss,).
        """
        # What stands in an idle slot may be anything, and zero times NaN would be a gradient.
        rows = [np.where(_like(lengths > 0, array), array, 0).astype(dtype, copy=False)
                for array, dtype in zip(rows, self.replica.row_dtypes, strict=True)]  # fmt: skip
        known, plain = self._weigh(targets, lengths)
        weights = self._class_weights.apply(known, plain)
        reset = self._resets(reset)
        if not weights.any():
            scores, self._states = self._advance(rows, reset, lengths, self._states)
            self._measure(self._judged(scores), known, plain)
            return np.zeros(len(self.loss.parts)), np.zeros(len(self.loss.parts))
        totals, sums, scores, self._states = self._learn(rows, reset, lengths, self._states, known, weights)
        self._measure(scores, known, plain)
        return totals.numpy().astype(np.float64), sums.numpy().astype(np.float64)

    def score_step(
        self, rows: Sequence[Array], targets: Floats, reset: Bools, lengths: Int32s
    ) -> tuple[Doubles, Doubles]:
        """One step as `StatefulReplica.step` takes it, and the loss of its scores; no weight moves."""
        scores = self._judged(self.replica.step(rows, self._resets(reset), lengths))
        known = self._weigh(targets, lengths)
        self._measure(scores, *known)
        totals, weights = self.loss.sums(scores, *known)
        return totals.numpy().astype(np.float64), weights.numpy().astype(np.float64)

    def _weigh(self, targets: Floats, lengths: Int32s) -> tuple[Floats, Floats]:
        """Targets and their weights (slot, step, score value), or (slot, 1, score value) for windows."""
        if self.replica.step_model.windowed:
            last = np.maximum(lengths, 1) - 1
            targets, lengths = targets[np.arange(len(last)), last][:, None], np.minimum(lengths, 1)
        row_weights = targets[..., self._values] if self._settings.weighted else None
        return weigh(targets[..., : self._values], lengths, row_weights)

    def _measure(self, scores: Sequence[tf.Tensor], known: Floats, weights: Floats) -> None:
        if self.metrics and weights.any():
            self.metrics.update(scores, known, weights)

    def _judged(self, scores: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The scores that have a target each; a window's stands at each of its rows, and counts once."""
        return [score[:, :1] for score in scores] if self.replica.step_model.windowed else list(scores)

    def _resets(self, reset: Bools) -> Bools:
        return np.ones_like(reset) if self._settings.reset_chunks else reset

    @property
    def better(self) -> dict[str, str]:
        """Whether less or more is better, "min" or "max", by the name of a loss or a metric."""
        return dict.fromkeys(("loss", *self.loss.parts), "min") | self.metrics.better

    @property
    def variables(self) -> list[keras.Variable]:
        """All that an epoch moves: weights, seeds of dropout, the optimizer's own."""
        return [*self.replica.step_model.model.variables, *self.optimizer.variables]

    def take_back(self) -> None:
        """Takes the weights of the given model, which somebody may have changed."""
        self.replica.step_model.copy_in()

    def trained_model(self) -> keras.Model:
        """The model that was given, with the weights of now."""
        self.replica.step_model.copy_back()
        return self._model

    def _learning_step(
        self,
        rows: list[tf.Tensor],
        reset: tf.Tensor,
        lengths: tf.Tensor,
        states: list[tf.Tensor],
        *known: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        step = make_step(self.replica.step_model, self.replica.shape.chunk, training=True)
        with tf.GradientTape() as tape:
            scores, after = step(rows, reset, lengths, states)
            judged = self._judged(scores)
            totals, weights = self.loss.sums(judged, *known)
            penalties = self.replica.step_model.model.losses
            wanted = self.optimizer.scale_loss(tf.add_n([self.loss.mean(totals, weights), *penalties]))
        gradients = tape.gradient(wanted, self._variables)
        self.optimizer.apply(gradients, self._variables)
        return totals, weights, judged if self.metrics else [], after

    def _outputs(self, names: Sequence[str] | None) -> list[tuple[str, int]]:
        step_model = self.replica.step_model
        named = zip(names or step_model.output_names, step_model.model.outputs, strict=False)
        return [(name, tensor.shape[-1]) for name, tensor in named]

    def _value_spec(self) -> tf.TensorSpec:
        shape = self.replica.shape
        judged = 1 if self.replica.step_model.windowed else shape.chunk
        return tf.TensorSpec((shape.slots, judged, self._values), tf.float32)

    def _compile(self, graph: Callable[..., Returned], more: list[tf.TensorSpec]) -> Callable[..., Returned]:
        signature = [*self.replica.signature(), *more]
        jit = self.replica.shape.jit
        compiled: Callable[..., Returned] = tf.function(
            graph, input_signature=signature, jit_compile=jit, autograph=False
        )
        return compiled


def make_optimizer(name: str, learning_rate: float | Mapping[str, JsonValue]) -> keras.optimizers.Optimizer:
    """A Keras optimizer by name, with a learning rate or a schedule of it. Raises `UsageError`."""
    known = {key.lower(): kind for key, kind in vars(keras.optimizers).items() if _is_optimizer(kind)}
    kind = known.get(name.lower())
    if kind is None:
        raise UsageError(
            f"train.optimizer {name!r} is no optimizer of Keras{nearest_hint(name, known)}; there are "
            f"{', '.join(sorted(known))}."
        )
    return kind(learning_rate=learning_rate if isinstance(learning_rate, float | int) else _schedule(learning_rate))


def _scaled_for(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer, with Keras's own scaling of the loss where a layer computes in float16, as `compile` gives it.

    Of float16 the smallest number is 6e-8: without it the gradients of small targets are zero, and no weight moves.
    """
    halved = any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())
    return keras.optimizers.LossScaleOptimizer(optimizer) if halved else optimizer


def _schedule(given: Mapping[str, JsonValue]) -> keras.optimizers.schedules.LearningRateSchedule:
    known = {key.lower(): kind for key, kind in vars(keras.optimizers.schedules).items() if isinstance(kind, type)}
    known.pop("learningrateschedule", None)
    name, arguments = str(given["schedule"]), {key: value for key, value in given.items() if key != "schedule"}
    if name.lower() not in known:
        raise UsageError(
            f"train.learning_rate.schedule {name!r} is no schedule of Keras"
            f"{nearest_hint(name, [kind.__name__ for kind in known.values()])}; there are "
            f"{', '.join(sorted(kind.__name__ for kind in known.values()))}."
        )
    try:
        return known[name.lower()](**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"train.learning_rate does not fit {name}: {first_sentence(error)}.") from None


def _is_optimizer(kind: object) -> bool:
    wrappers = (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer)
    return isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer) and kind not in wrappers


def _refuse_batch_statistics(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise ModelRefused(
                f"Layer {layer.name!r} is BatchNormalization, whose statistics in training would count padding and "
                "rows of other entities: use LayerNormalization, or freeze it (trainable = False), as scoring does."
            )


def _like(flags: Bools, array: Array) -> Bools:
    return flags.reshape(-1, *([1] * (array.ndim - 1)))
