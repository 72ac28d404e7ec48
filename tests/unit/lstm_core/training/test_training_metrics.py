"""Metrics beside the loss: Keras's own figures, from the rows that have a target, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from lstm_core.errors import UsageError
from lstm_core.step.stateful_replica import StepShape
from lstm_core.training.losses import weigh
from lstm_core.training.stateful_trainer import StatefulTrainer
from lstm_core.training.training_metrics import TrainingMetrics
from lstm_core.training.training_settings import TrainingSettings
from tests.models.keras_models import FEATURES, recurrent_model
from tests.models.window_models import WINDOW, WINDOWED
from tests.unit.lstm_core.training.test_stateful_trainer import (
    CHUNK,
    SLOTS,
    ResetByHand,
    assert_same,
    memory_model,
    packed,
    series,
    weights_of,
)

Array = NDArray[Any]
ASKED = ("mae", "mse", "RootMeanSquaredError", "accuracy", "AUC", "r2_score")


def measured(metrics: Any, scores: Sequence[Array], targets: Array, lengths: Sequence[int]) -> dict[str, float]:
    made = TrainingMetrics(metrics, [(f"out{index}", score.shape[-1]) for index, score in enumerate(scores)])
    made.update(scores, *weigh(targets.astype(np.float32), np.array(lengths, np.int32)))
    return made.results()


def test_metrics_of_an_epoch_are_those_of_plain_fit() -> None:
    """Targets of 0 and 1, weights for padding and for rows without a target, all metrics at once."""
    steps = list(packed())
    features, targets = series()
    targets = np.where(np.isnan(targets), np.nan, targets > 0).astype(np.float32)
    model = memory_model()
    plain = recurrent_model(
        layers.LSTM(4, return_sequences=True, stateful=True, name="memory"), batch=SLOTS, time=CHUNK
    )
    plain.set_weights(model.get_weights())
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    # R2Score takes no series in Keras, so that it is asked for below alone.
    plain.compile(keras.optimizers.Adam(1e-2), loss, weighted_metrics=list(ASKED[:-1]), jit_compile=False)
    index = np.concatenate([step.gather(CHUNK) for step in steps])
    lengths = np.concatenate([step.lengths for step in steps])
    known, weights = weigh(targets[index], lengths)
    rows = np.where(lengths[:, None, None] > 0, features[index], 0)
    options = {"batch_size": SLOTS, "shuffle": False, "verbose": 0, "callbacks": [ResetByHand(steps)]}
    history = plain.fit(rows, known, sample_weight=weights[..., 0], **options).history
    trainer = StatefulTrainer(
        model, StepShape(SLOTS, CHUNK, jit=False), TrainingSettings("mae", "adam", 1e-2, metrics=ASKED)
    )
    for step in steps:
        index = step.gather(CHUNK)
        trainer.train_step([features[index]], targets[index], step.reset, step.lengths)
    found = trainer.metrics.results()
    assert tuple(found) == ASKED
    assert 0 < found["accuracy"] < 1
    for name in ASKED[:-1]:
        assert found[name] == pytest.approx(history[name][0], abs=1e-6), name


def test_metrics_move_no_weight_and_begin_anew_with_each_pass() -> None:
    features, targets = series()
    found = []
    for metrics in ((), ("mae", "mse")):
        trainer = StatefulTrainer(memory_model(), StepShape(SLOTS, CHUNK, jit=True), TrainingSettings(metrics=metrics))
        for _ in range(2):
            trainer.reset_all()
            assert trainer.metrics.results() == {}
            total = 0.0
            weight = 0.0
            for step in packed():
                index = step.gather(CHUNK)
                pair = trainer.train_step([features[index]], targets[index], step.reset, step.lengths)
                total, weight = total + pair[0][0], weight + pair[1][0]
        found.append(weights_of(trainer.trained_model()))
    assert_same(*found)
    assert trainer.metrics.results()["mae"] == pytest.approx(total / weight, rel=1e-6)  # the loss is the same figure


def test_values_count_one_by_one_where_they_stand_alone_and_as_rows_where_they_belong_together() -> None:
    scores = [np.array([[[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]], np.float32)]
    targets = np.array([[[1.0, 0.0], [1.0, np.nan], [0.0, 1.0]]])
    found = measured(["mae", "categorical_accuracy", "accuracy", "binary_accuracy"], scores, targets, [2])
    assert found["mae"] == pytest.approx((0.1 + 0.1 + 0.6) / 3)  # the third row is padding
    assert found["accuracy"] == found["categorical_accuracy"] == 1.0  # of the second row one class is not known
    assert found["binary_accuracy"] == pytest.approx(2 / 3)
    assert measured(["accuracy"], scores, targets, [3])["accuracy"] == 0.5


def test_each_output_has_its_own() -> None:
    scores = [np.zeros((1, 2, 1), np.float32), np.full((1, 2, 2), 0.5, np.float32)]
    targets = np.array([[[3.0, 1.0, 0.0], [1.0, np.nan, np.nan]]])
    assert measured(["mae"], scores, targets, [2]) == {"out0_mae": 2.0, "out1_mae": 0.5}
    assert measured({"out1": ["mse"]}, scores, targets, [2]) == {"out1_mse": 0.25}
    targets[..., 1:] = np.nan  # nothing is known of the second output
    assert measured(["mae"], scores, targets, [2]) == {"out0_mae": 2.0}


def test_row_weights_count_and_class_weights_do_not() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    targets = (np.nan_to_num(targets) > 0).astype(np.float32)
    row_weights = np.zeros((SLOTS, CHUNK, 1), np.float32)
    row_weights[0, 1], row_weights[2, 3] = 3.0, 1.0
    settings = TrainingSettings("mse", "sgd", 1e-2, weighted=True, class_weight={"0": 0.0, "1": 0.0}, metrics=("mae",))
    trainer = StatefulTrainer(memory_model(), StepShape(SLOTS, CHUNK, jit=False), settings)
    given = np.concatenate([targets, row_weights], axis=-1)
    trainer.train_step([features], given, np.ones(SLOTS, np.bool_), np.full(SLOTS, CHUNK, np.int32))
    gaps = np.abs(memory_model()(features).numpy() - targets)[..., 0]
    assert trainer.metrics.results()["mae"] == pytest.approx((3 * gaps[0, 1] + gaps[2, 3]) / 4, rel=1e-5)


def test_a_window_counts_once() -> None:
    trainer = StatefulTrainer(
        WINDOWED["lstm_of_windows"](), StepShape(SLOTS, WINDOW, jit=False), TrainingSettings("mse", metrics=("mae",))
    )
    rows = np.random.default_rng(0).normal(size=(SLOTS, WINDOW, FEATURES)).astype(np.float32)
    targets = np.random.default_rng(1).normal(size=(SLOTS, WINDOW, 1)).astype(np.float32)
    reset, lengths = np.ones(SLOTS, np.bool_), np.array([WINDOW, 2, 0], np.int32)
    trainer.score_step([rows], targets, reset, lengths)
    scores = trainer.replica.step([rows], reset, lengths)[0].numpy()[:2, 0, 0]
    wanted = np.abs(scores - targets[[0, 1], [WINDOW - 1, 1], 0]).mean()
    assert trainer.metrics.results()["mae"] == pytest.approx(wanted, rel=1e-6)


def is_taken(name: str, size: int) -> bool:
    """False where it is refused, as it should be."""
    try:
        return bool(TrainingMetrics([name], [("score", size)]))
    except UsageError as refusal:
        found = str(refusal)
    assert found.startswith(f"train.metrics: '{name}' does not fit one target per score: ")
    assert found.endswith("; leave it out.")
    return False


@pytest.mark.parametrize("size", [1, 3])
def test_every_metric_of_keras_is_taken_or_refused_with_a_sentence(size: int) -> None:
    taken = {name for name in dir(keras.metrics) if name[0].isupper() and is_taken(name, size)}
    assert taken >= {"MeanAbsoluteError", "BinaryAccuracy", "AUC", "Precision", "Recall", "R2Score", "LogCoshError"}
    assert not taken & {"Mean", "Metric", "MeanIoU", "PrecisionAtRecall", "SparseCategoricalAccuracy"}
    assert ("F1Score" in taken) == (size == 1)  # else one number per class
    assert TrainingMetrics(["AUC", "mae", "TruePositives"], [("score", size)]).better == {"AUC": "max", "mae": "min"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["maee"], "'maee' is no metric of Keras, the nearest one is 'mae'; there are acc"),
        (["zzqx"], "'zzqx' is no metric of Keras; there are acc"),
        (["top_k_categorical_acuracy"], "the nearest one is 'TopKCategoricalAccuracy'"),
        ({"scores": ["mae"]}, r"train\.metrics names 'scores', but the model has the outputs score"),
    ],
)
def test_names_that_are_not_known_are_refused(
    given: Sequence[str] | Mapping[str, Sequence[str]], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        TrainingMetrics(given, [("score", 1)])
