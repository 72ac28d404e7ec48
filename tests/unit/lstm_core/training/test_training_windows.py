"""Training of models with one score per window: equal to Keras with hand-written resets, a target for each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from lstm_core.packing.packer import Step
from lstm_core.step.stateful_replica import StepShape
from lstm_core.training.losses import LossSum
from lstm_core.training.stateful_trainer import StatefulTrainer
from lstm_core.training.training_settings import TrainingSettings
from tests.models.keras_models import FEATURES, seeded
from tests.models.window_models import WINDOW, WINDOWED
from tests.unit.lstm_core.training.test_stateful_trainer import (
    ADAM,
    CHUNK,
    LENGTHS,
    SLOTS,
    ResetByHand,
    packed,
    series,
    train_epoch,
    weights_of,
)

Array = NDArray[Any]

PADDING = 99.0  # no row of the series holds it


def windows_model(*, stateful: bool = False) -> Any:
    """Two memories, the second of which gives one vector per window; padding is masked for Keras, and to no effect."""
    rows = keras.Input(batch_shape=(SLOTS if stateful else None, CHUNK, FEATURES), name="rows")
    first = layers.LSTM(4, return_sequences=True, stateful=stateful, name="first")
    hidden = first(layers.Masking(PADDING)(rows) if stateful else rows)
    return keras.Model(rows, layers.Dense(1, name="score")(layers.GRU(3, stateful=stateful, name="memory")(hidden)))


def trainer_of(model: Any, settings: TrainingSettings = ADAM) -> StatefulTrainer:
    return StatefulTrainer(model, StepShape(SLOTS, CHUNK, jit=False), settings)


def keras_and_ours() -> tuple[Any, StatefulTrainer]:
    """Keras's own stateful model, compiled, and a trainer of the same weights."""
    plain, model = windows_model(stateful=True), seeded(windows_model())
    plain.set_weights(model.get_weights())
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    plain.compile(optimizer=keras.optimizers.Adam(1e-2), loss=loss, jit_compile=False)
    return plain, trainer_of(model)


class ResetBoth(ResetByHand):
    """Zeroes a slot in both memories."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        for layer in self.model.layers:
            for state in getattr(layer, "states", None) or []:
                state.assign(np.where(self.steps[batch].reset[:, None], 0, np.array(state)))


def last_rows(step: Step) -> Array:
    """The arena row of each slot's last valid row."""
    return np.asarray(step.gather(CHUNK)[np.arange(SLOTS), np.maximum(step.lengths, 1) - 1])


def keras_epoch(plain: Any, features: Array, targets: Array) -> list[float]:
    """By hand: slots are reset one by one, padding is masked, a window weighs 1 where its last target is known."""
    losses, steps = [], list(packed())
    by_hand = ResetBoth(steps)
    by_hand.set_model(plain)
    for number, step in enumerate(steps):
        by_hand.on_train_batch_begin(number)
        rows = np.where(step.valid(CHUNK)[..., None], features[step.gather(CHUNK)], PADDING)
        wanted = targets[last_rows(step)]
        known = (np.isfinite(wanted[:, 0]) & (step.lengths > 0)).astype(np.float32)
        plain.reset_metrics()
        losses.append(float(plain.train_on_batch(rows, np.nan_to_num(wanted), sample_weight=known)))
    return losses


def test_loss_and_weights_of_an_epoch_are_those_of_keras_with_resets_by_hand() -> None:
    """Series end amid windows, slots are idle, and some targets are unknown."""
    assert any(length % CHUNK for length in LENGTHS)
    features, targets = series()
    plain, trainer = keras_and_ours()
    for _ in range(2):
        plain.get_layer("first").reset_state()
        plain.get_layer("memory").reset_state()
        by_hand = keras_epoch(plain, features, targets)
        np.testing.assert_allclose(train_epoch(trainer, features, targets), by_hand, atol=1e-6, rtol=0)
    for one, other in zip(weights_of(trainer.trained_model()), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)


def test_an_epoch_is_that_of_plain_fit_without_shuffling() -> None:
    lengths = (8, 4, 12, 8, 4, 12)
    steps = list(packed(lengths))
    features, targets = series(sum(lengths))
    targets = np.nan_to_num(targets)
    plain, trainer = keras_and_ours()
    rows = np.concatenate([features[step.gather(CHUNK)] for step in steps])
    wanted = np.concatenate([targets[last_rows(step)] for step in steps])
    busy = np.concatenate([step.lengths > 0 for step in steps]).astype(np.float32)
    options = {"batch_size": SLOTS, "shuffle": False, "epochs": 1, "verbose": 0, "callbacks": [ResetBoth(steps)]}
    history = plain.fit(rows, wanted, sample_weight=busy, **options)
    sums = LossSum()
    for step in steps:
        index = step.gather(CHUNK)
        sums.add(*trainer.train_step([features[index]], targets[index], step.reset, step.lengths))
    assert sums.weight == sum(lengths) / CHUNK
    assert sums.mean == pytest.approx(history.history["loss"][0], abs=1e-6)
    for one, other in zip(weights_of(trainer.trained_model()), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)


def step_of(lengths: Sequence[int]) -> tuple[Array, Array]:
    return np.ones(SLOTS, np.bool_), np.array(lengths, np.int32)


def test_only_the_last_row_of_a_window_has_a_target_and_a_weight() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    given = np.concatenate([np.nan_to_num(targets), np.full((SLOTS, CHUNK, 1), 5.0, np.float32)], axis=-1)
    given[0, 3, 1], given[1, 1, 1] = 2.0, 3.0
    wild = given.copy()
    wild[0, :3], wild[1, 0], wild[1, 2:], wild[2] = 1e6, np.nan, -1e6, 7.0
    found = []
    for mine in (given, wild):
        trainer = trainer_of(seeded(windows_model()), TrainingSettings("mae", "sgd", 1e-2, weighted=True))
        total, weight = trainer.train_step([features], mine, *step_of([CHUNK, 2, 0]))
        assert weight.tolist() == [5.0]
        found.append([total, *weights_of(trainer.trained_model())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_validation_loss_is_that_of_the_scores_of_windows() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    reset, lengths = step_of([CHUNK, 3, 1])
    trainer = trainer_of(seeded(windows_model()))
    targets = np.nan_to_num(targets)
    total, weight = trainer.score_step([features], targets, reset, lengths)
    scores = trainer.replica.step([features], reset, lengths)[0].numpy()[:, 0, 0]
    assert weight.tolist() == [3.0]
    assert total[0] == pytest.approx(np.abs(scores - targets[np.arange(SLOTS), lengths - 1, 0]).sum(), rel=1e-6)


def test_the_compiled_step_learns_from_windows_with_several_scores() -> None:
    model = WINDOWED["stateful_sequential_of_windows"]()
    trainer = StatefulTrainer(model, StepShape(SLOTS, WINDOW, jit=True), TrainingSettings("mse", "adam", 2e-2))
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(SLOTS, WINDOW, FEATURES)).astype(np.float32)
    values = sum(output.shape[-1] for output in trainer.trained_model().outputs)
    targets = np.full((SLOTS, WINDOW, values), 0.5, np.float32)
    reset, lengths = np.ones(SLOTS, np.bool_), np.array([WINDOW, 2, 1], np.int32)
    losses = [float(trainer.train_step([rows], targets, reset, lengths)[0][0]) for _ in range(25)]
    assert losses[-1] < losses[0] / 2
