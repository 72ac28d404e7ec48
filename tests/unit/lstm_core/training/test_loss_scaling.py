"""A model that computes in float16 is trained with Keras's own scaling of the loss, and moves as under `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lstm_core.step.stateful_replica import StepShape
from lstm_core.training.stateful_trainer import StatefulTrainer
from lstm_core.training.training_settings import TrainingSettings
from tests.models.keras_models import FEATURES, seeded

SLOTS, CHUNK, STEPS = 8, 6, 4


def model_of(policy: str) -> Any:
    """A small head, so that the gradients behind it are far below float16's smallest number."""
    rows = keras.Input((None, FEATURES), name="rows")
    hidden = layers.LSTM(4, return_sequences=True, dtype=policy, name="memory")(rows)
    model = seeded(keras.Model(rows, layers.Dense(1, dtype="float32", name="score")(hidden)))
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1e-3)
    return model


def moved(before: list[Any], after: list[Any]) -> list[Any]:
    return [np.array(one) - np.array(other) for one, other in zip(after, before, strict=True)]


def data() -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(SLOTS, CHUNK, FEATURES)).astype(np.float32)
    return rows, (rows[..., :1] * 1e-5).astype(np.float32)


def moved_by_us(policy: str, optimizer: str = "sgd") -> tuple[StatefulTrainer, list[Any]]:
    model, (rows, targets) = model_of(policy), data()
    before = model.get_weights()
    trainer = StatefulTrainer(model, StepShape(SLOTS, CHUNK, jit=True), TrainingSettings("mse", optimizer, 1.0))
    for _ in range(STEPS):
        trainer.train_step([rows], targets, np.ones(SLOTS, np.bool_), np.full(SLOTS, CHUNK, np.int32))
    return trainer, moved(before, trainer.trained_model().get_weights())


def moved_by_keras() -> list[Any]:
    model, (rows, targets) = model_of("mixed_float16"), data()
    before = model.get_weights()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    for _ in range(STEPS):
        model.train_on_batch(rows, targets)
    return moved(before, model.get_weights())


def test_float16_moves_as_under_keras_and_as_float32_does() -> None:
    trainer, found = moved_by_us("mixed_float16")
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    _, exact = moved_by_us("float32")
    for one, by_keras, other in zip(found, moved_by_keras(), exact, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, by_keras, rtol=0, atol=0.02 * np.abs(by_keras).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=0.1 * np.abs(other).max())


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_has_the_range_of_float32_is_not_scaled(policy: str) -> None:
    trainer, _ = moved_by_us(policy)
    assert isinstance(trainer.optimizer, keras.optimizers.SGD)


def test_a_training_in_float16_tells_its_learning_rate() -> None:
    trainer, _ = moved_by_us("mixed_float16", "adam")
    assert float(trainer.optimizer.learning_rate) == pytest.approx(1.0)
