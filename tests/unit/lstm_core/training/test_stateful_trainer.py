"""Stateful training: equal to Keras with hand-written resets, no loss from padding, gradients cut at chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from lstm_core.errors import ModelRefused, UsageError
from lstm_core.packing.packer import Packer, Step
from lstm_core.proof.reference import Reference
from lstm_core.step.rebatch import is_recurrent, save_model
from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from lstm_core.training.losses import BY_OUTPUT, BY_VALUE, ClassWeights, Loss, LossSum, weigh
from lstm_core.training.stateful_trainer import StatefulTrainer
from lstm_core.training.training_settings import TrainingSettings
from tests.models.keras_models import FEATURES, FIT, recurrent_model

Array = NDArray[Any]

SLOTS, CHUNK = 3, 4
LENGTHS = (9, 1, 4, 5, 12, 3, 8)  # one row, one chunk, a chunk and a row
ADAM = TrainingSettings("mae", "adam", 1e-2)


def memory_model(**options: Any) -> Any:
    return recurrent_model(layers.LSTM(4, return_sequences=True, name="memory", **options))


def trainer_of(
    model: Any, settings: TrainingSettings = ADAM, *, chunk: int = CHUNK, jit: bool = False
) -> StatefulTrainer:
    return StatefulTrainer(model, StepShape(SLOTS, chunk, jit), settings)


def series(rows: int = sum(LENGTHS), *, values: int = 1, seed: int = 0) -> tuple[Array, Array]:
    """Features (row, feature) and targets (row, value), a few of them unknown."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, FEATURES)).astype(np.float32)
    targets = generator.normal(size=(rows, values)).astype(np.float32)
    targets[generator.random(targets.shape) < 0.1] = np.nan
    return features, targets


def packed(lengths: Sequence[int] = LENGTHS, chunk: int = CHUNK) -> Iterator[Step]:
    packer = Packer(slots=SLOTS, chunk=chunk)
    packer.admit(np.cumsum([0, *lengths[:-1]]), np.array(lengths))
    while (step := packer.next_step()) is not None:
        yield step


def train_epoch(trainer: StatefulTrainer, features: Array, targets: Array) -> list[float]:
    """The mean loss of every step, 0 where none of its targets is known."""
    trainer.reset_all()
    losses = []
    for step in packed():
        index = step.gather(CHUNK)
        total, weight = trainer.train_step([features[index]], targets[index], step.reset, step.lengths)
        losses.append(float(total[0] / weight[0]) if weight[0] else 0.0)
    return losses


def weights_of(model: Any) -> list[Array]:
    return [np.array(weight) for weight in model.get_weights()]


def assert_same(left: Sequence[Array], right: Sequence[Array]) -> None:
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


def keras_epoch(model: Any, features: Array, targets: Array) -> list[float]:
    """What a user of Keras would write by hand: `stateful=True`, a reset of single slots, weights for padding."""
    losses = []
    for step in packed():
        for layer in model.layers:
            for state in getattr(layer, "states", None) or []:
                state.assign(np.where(step.reset[:, None], 0, np.array(state)))
        index = step.gather(CHUNK)
        known, weights = weigh(targets[index], step.lengths)
        rows = np.where(step.lengths[:, None, None] > 0, features[index], 0)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(rows, known, sample_weight=weights[..., 0])))
    return losses


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_loss_and_weights_of_an_epoch_are_those_of_keras_with_resets_by_hand(name: str) -> None:
    features, targets = series()
    model = memory_model()
    plain = recurrent_model(
        layers.LSTM(4, return_sequences=True, stateful=True, name="memory"), batch=SLOTS, time=CHUNK
    )
    plain.set_weights(model.get_weights())
    optimizer = keras.optimizers.get({"class_name": name, "config": {"learning_rate": 1e-2}})
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    plain.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    trainer = trainer_of(model, TrainingSettings("mae", name, 1e-2))
    for _ in range(2):
        by_hand = keras_epoch(plain, features, targets)
        np.testing.assert_allclose(train_epoch(trainer, features, targets), by_hand, atol=1e-6, rtol=0)
    for one, other in zip(weights_of(trainer.trained_model()), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)


class ResetByHand(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """What a user of `fit` writes: the slots in which a series begins are zeroed before the batch."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        memory = self.model.get_layer("memory")
        for state in memory.states:
            state.assign(np.where(self.steps[batch].reset[:, None], 0, np.array(state)))


def test_an_epoch_is_that_of_plain_fit_without_shuffling() -> None:
    """Every slot is busy with full chunks: then the epoch's loss that `fit` says, a mean over batches, is ours."""
    lengths = (8, 4, 12, 8, 4, 12)
    steps = list(packed(lengths))
    features, targets = series(sum(lengths))
    targets = np.nan_to_num(targets)
    assert all((step.lengths == CHUNK).all() for step in steps[:-1])
    plain = recurrent_model(
        layers.LSTM(4, return_sequences=True, stateful=True, name="memory"), batch=SLOTS, time=CHUNK
    )
    model = memory_model()
    plain.set_weights(model.get_weights())
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    plain.compile(optimizer=keras.optimizers.Adam(1e-2), loss=loss, jit_compile=False)
    index = np.concatenate([step.gather(CHUNK) for step in steps])
    known = np.concatenate([step.valid(CHUNK) for step in steps]).astype(np.float32)
    rows = features[index]
    options = {"batch_size": SLOTS, "shuffle": False, "epochs": 1, "verbose": 0, "callbacks": [ResetByHand(steps)]}
    history = plain.fit(rows, targets[index], sample_weight=known, **options)
    trainer, sums = trainer_of(model), LossSum()
    for step in steps:
        index = step.gather(CHUNK)
        sums.add(*trainer.train_step([features[index]], targets[index], step.reset, step.lengths))
    assert sums.mean == pytest.approx(history.history["loss"][0], abs=1e-6)
    for one, other in zip(weights_of(trainer.trained_model()), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)


def test_a_loss_per_output_is_weighted_and_each_has_its_mean() -> None:
    outputs = [("delay", 1), ("kinds", 2)]
    settings = TrainingSettings({"delay": "mae", "kinds": "categorical_crossentropy"}, loss_weights={"kinds": 0.5})
    loss = Loss(settings, outputs)
    scores = [np.zeros((1, 2, 1), np.float32), np.full((1, 2, 2), 0.5, np.float32)]
    targets = np.array([[[3.0, 1.0, 0.0], [1.0, np.nan, np.nan]]], np.float32)
    sums = LossSum(loss.parts)
    pair = loss.sums(scores, *weigh(targets, np.array([2], np.int32)))
    sums.add(*(part.numpy() for part in pair))
    assert sums.means == {"delay_loss": pytest.approx(2.0), "kinds_loss": pytest.approx(np.log(2), rel=1e-5)}
    assert sums.mean == pytest.approx(2.0 + 0.5 * np.log(2), rel=1e-5)
    assert float(loss.mean(*pair)) == pytest.approx(sums.mean, rel=1e-6)
    for wrong, sentence in (({"delay": "mae"}, "lacks the model's output 'kinds'"), ({"x": "mae"}, "names 'x'")):
        with pytest.raises(UsageError, match=sentence):
            Loss(TrainingSettings(wrong), outputs)


def test_rows_and_classes_have_weights() -> None:
    targets = np.array([[[0.0], [1.0], [1.0], [np.nan]]], np.float32)
    full = np.array([4], np.int32)
    known, weights = weigh(targets, full, np.array([[2.0, 1.0, np.nan, 5.0]]))
    assert weights.ravel().tolist() == [2, 1, 0, 0]
    assert ClassWeights({"1": 3.0}, [("score", 1)]).apply(known, weights).ravel().tolist() == [2, 3, 0, 0]
    one_hot = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    assert ClassWeights({"1": 3.0}, [("kinds", 2)]).apply(one_hot, np.ones_like(one_hot))[..., 0].tolist() == [[1, 3]]
    with pytest.raises(UsageError, match="one output"):
        ClassWeights({"1": 3.0}, [("a", 1), ("b", 1)])


def test_a_row_weighs_what_its_weight_says() -> None:
    """A row of weight 2 moves the weights as two rows of weight 1 would."""
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    targets, full = np.nan_to_num(targets), np.full(SLOTS, CHUNK, np.int32)
    row_weights = np.zeros((SLOTS, CHUNK, 1), np.float32)
    row_weights[0, 1], row_weights[2, 3] = 2.0, 1.0
    weighted = trainer_of(memory_model(), TrainingSettings("mae", "sgd", 1e-2, weighted=True))
    given = np.concatenate([targets, row_weights], axis=-1)
    total, weight = weighted.train_step([features], given, np.ones(SLOTS, np.bool_), full)
    scores = memory_model()(features).numpy()
    gaps = np.abs(scores - targets)[..., 0]
    assert weight.tolist() == [3.0]
    assert total[0] == pytest.approx(2 * gaps[0, 1] + gaps[2, 3], rel=1e-5)


@pytest.mark.parametrize("given", [{"schedule": "ExponentialDecayy", "decay_steps": 1}, {"schedule": "CosineDecay"}])
def test_a_schedule_is_checked(given: Any) -> None:
    with pytest.raises(UsageError, match=r"train\.learning_rate"):
        trainer_of(memory_model(), TrainingSettings("mae", "adam", given))


def test_a_schedule_moves_the_learning_rate() -> None:
    given = {"schedule": "ExponentialDecay", "initial_learning_rate": 0.1, "decay_steps": 1, "decay_rate": 0.5}
    trainer = trainer_of(memory_model(), TrainingSettings("mae", "sgd", given))
    steps = len(train_epoch(trainer, *series()))
    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.1 * 0.5**steps, rel=1e-5)


def test_what_can_be_learned_is_learned() -> None:
    features, _ = series()
    trainer = trainer_of(memory_model(), TrainingSettings("mse", "adam", 2e-2))
    losses = [sum(train_epoch(trainer, features, features[:, :1])) for _ in range(40)]
    assert losses[-1] < losses[0] / 4


def test_the_compiled_step_trains_as_the_plain_one() -> None:
    features, targets = series()
    losses = [train_epoch(trainer_of(memory_model(), jit=jit), features, targets) for jit in (False, True)]
    np.testing.assert_allclose(*losses, atol=1e-5)


def test_padding_and_idle_slots_have_no_loss_and_no_gradient() -> None:
    features, targets = series(SLOTS * CHUNK)
    features, targets = features.reshape(SLOTS, CHUNK, -1), np.nan_to_num(targets.reshape(SLOTS, CHUNK, -1))
    reset, lengths = np.ones(SLOTS, np.bool_), np.array([CHUNK, 2, 0], np.int32)
    spoilt, wild = features.copy(), targets.copy()
    spoilt[1, 2:], spoilt[2] = 100.0, np.nan
    wild[1, 2:], wild[2] = 1e6, np.inf
    clean, dirty = trainer_of(memory_model()), trainer_of(memory_model())
    assert_same(clean.train_step([features], targets, reset, lengths), dirty.train_step([spoilt], wild, reset, lengths))
    assert_same(weights_of(clean.trained_model()), weights_of(dirty.trained_model()))


def test_a_row_without_a_target_moves_the_state_and_no_weight() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    unknown = np.full_like(targets, np.nan)
    trainer = trainer_of(memory_model())
    before = weights_of(trainer.trained_model())
    full = np.full(SLOTS, CHUNK, np.int32)
    assert_same(trainer.train_step([features], unknown, np.ones(SLOTS, np.bool_), full), ([0.0], [0.0]))
    assert_same(weights_of(trainer.trained_model()), before)
    after, _ = trainer.train_step([features], targets, np.zeros(SLOTS, np.bool_), full)
    fresh, _ = trainer_of(memory_model()).train_step([features], targets, np.ones(SLOTS, np.bool_), full)
    assert after != fresh


def test_one_slot_is_reset_and_its_neighbours_are_not() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    full, unknown = np.full(SLOTS, CHUNK, np.int32), np.full_like(targets, np.nan)
    only = np.full_like(targets, np.nan)
    only[1] = np.nan_to_num(targets[1])  # the loss of slot 1 alone
    losses = []
    for reset in ([True] * 3, [False, True, False], [True, False, True]):
        trainer = trainer_of(memory_model())
        trainer.train_step([features], unknown, np.ones(SLOTS, np.bool_), full)
        losses.append(trainer.train_step([features], only, np.array(reset), full)[0])
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)
    assert losses[0] != pytest.approx(losses[2], abs=1e-4)


def code_model() -> Any:
    codes = keras.Input((None,), dtype="int32", name="code")
    hidden = layers.LSTM(4, return_sequences=True)(layers.Embedding(4, 2, name="embedded")(codes))
    return keras.Model(codes, layers.Dense(1, name="score")(hidden))


@pytest.mark.parametrize(("chunk", "reaches"), [(2, False), (4, True)])
def test_the_gradient_ends_at_the_border_of_a_chunk(chunk: int, reaches: bool) -> None:
    """Code 1 stands in the first two rows only, the loss in the last two: over a border, its vector must not move."""
    model = code_model()
    trainer = trainer_of(model, chunk=chunk)
    codes = np.tile(np.array([1, 1, 2, 2], np.int32), (SLOTS, 1))
    targets = np.tile(np.array([np.nan, np.nan, 5.0, 5.0], np.float32)[None, :, None], (SLOTS, 1, 1))
    before = np.array(model.get_layer("embedded").get_weights()[0])
    for start in range(0, 4, chunk):
        part = slice(start, start + chunk)
        reset, lengths = np.full(SLOTS, start == 0), np.full(SLOTS, chunk, np.int32)
        trainer.train_step([codes[:, part]], targets[:, part], reset, lengths)
    moved = (np.array(trainer.trained_model().get_layer("embedded").get_weights()[0]) != before).any(axis=1)
    assert moved.tolist() == [False, reaches, True, False]


def dropping_model() -> Any:
    return memory_model(dropout=0.3, recurrent_dropout=0.2)


def test_a_seed_gives_the_same_weights_to_the_bit_and_another_seed_others() -> None:
    features, targets = series()
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        trainer = trainer_of(dropping_model())
        train_epoch(trainer, features, targets)
        found.append(weights_of(trainer.trained_model()))
    assert_same(found[0], found[1])
    assert any((one != other).any() for one, other in zip(found[0], found[2], strict=True))


NESTED = ["nested_twice", "rnn_of_stacked_cells", "stateful_stacked_time_open", "sequential", "residual"]


@pytest.mark.parametrize("name", NESTED)
def test_the_trained_model_has_its_old_architecture_and_scores_as_the_trainer(name: str) -> None:
    model = FIT[name]()
    config, before = model.get_config(), weights_of(model)
    trainer = trainer_of(model)
    features, targets = series()
    train_epoch(trainer, features, targets)
    trained = trainer.trained_model()
    assert trained.get_config() == config
    assert all((one != other).any() for one, other in zip(weights_of(trained), before, strict=True))
    rows, shape = features[: SLOTS * CHUNK].reshape(SLOTS, CHUNK, -1), StepShape(SLOTS, CHUNK, jit=False)
    reset, full = np.ones(SLOTS, np.bool_), np.full(SLOTS, CHUNK, np.int32)
    saved = StatefulReplica(save_model(trained), shape).step([rows], reset, full)[0].numpy()
    np.testing.assert_array_equal(saved, trainer.replica.step([rows], reset, full)[0].numpy())
    np.testing.assert_allclose(saved[0], Reference(trained).score([rows[0]])[0], atol=1e-5)


def test_the_validation_loss_moves_no_weight_and_leaves_the_training_state_alone() -> None:
    features, targets = (array.reshape(SLOTS, CHUNK, -1) for array in series(SLOTS * CHUNK))
    trainer = trainer_of(memory_model())
    before = weights_of(trainer.trained_model())
    reset, full = np.ones(SLOTS, np.bool_), np.full(SLOTS, CHUNK, np.int32)
    total, weight = trainer.score_step([features], targets, reset, full)
    scores = trainer.replica.step([features], reset, full)[0].numpy()
    known = ~np.isnan(targets)
    assert weight.tolist() == [known.sum()]
    assert total[0] == pytest.approx(np.abs(scores - targets)[known].sum(), rel=1e-6)
    assert_same(weights_of(trainer.trained_model()), before)


def test_a_frozen_layer_stays_as_it_is() -> None:
    features, targets = series()
    model = memory_model()
    frozen = next(layer for layer in model.layers if is_recurrent(layer))
    frozen.trainable = False
    before = weights_of(frozen)
    train_epoch(trainer_of(model), features, targets)
    assert_same(weights_of(frozen), before)


def test_several_targets_count_one_by_one() -> None:
    scores = [np.zeros((1, 2, 1), np.float32), np.zeros((1, 2, 2), np.float32)]
    targets = np.array([[[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]]], np.float32)
    known, weights = weigh(targets, np.array([2], np.int32))
    total, weight = Loss(TrainingSettings("mae"), [("a", 1), ("b", 2)]).sums(scores, known, weights)
    assert (float(total[0]), float(weight[0])) == (4.0, 2.0)


def test_a_loss_over_an_output_counts_rows_whose_targets_are_all_known() -> None:
    scores = [np.array([[[0.5, 0.5], [0.25, 0.75]]], np.float32)]
    targets = np.array([[[1.0, 0.0], [np.nan, 1.0]]], np.float32)
    total, weight = Loss(TrainingSettings("categorical_crossentropy"), [("kinds", 2)]).sums(
        scores, *weigh(targets, np.array([2], np.int32))
    )
    assert float(weight[0]) == 1.0
    assert float(total[0]) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", [*sorted(BY_VALUE | BY_OUTPUT), "mae", "MeanSquaredError", "Huber"])
def test_every_loss_that_is_listed_trains(name: str) -> None:
    scores = [np.full((2, 3, 2), 0.5, np.float32)]
    known, weights = weigh(np.ones((2, 3, 2), np.float32), np.array([3, 0], np.int32))
    total, weight = Loss(TrainingSettings(name), [("score", 2)]).sums(scores, known, weights)
    assert np.isfinite(float(total[0]))
    assert float(weight[0]) in (3.0, 6.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (TrainingSettings("maee", "adam", 1e-3), "'maee' is no loss of Keras, the nearest one is 'mae'; those"),
        (TrainingSettings("zzqx", "adam", 1e-3), "'zzqx' is no loss of Keras; those that fit are mae, mse"),
        (TrainingSettings("mae", "zzqx", 1e-3), "'zzqx' is no optimizer of Keras; there are ada"),
        (TrainingSettings("mae", "adam", {"schedule": "zzqx"}), "'zzqx' is no schedule of Keras; there are Cosine"),
        (TrainingSettings("mae", "adam", {"schedule": "cosinedecy"}), "Keras, the nearest one is 'CosineDecay'; there"),
        (TrainingSettings("sparse_categorical_crossentropy", "adam", 1e-3), "does not fit one target per score"),
        (TrainingSettings("mae", "adamm", 1e-3), "'adamm' is no optimizer of Keras, the nearest one is 'adam'"),
    ],
)
def test_names_that_keras_does_not_know_are_refused(settings: TrainingSettings, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        trainer_of(memory_model(), settings)


def test_statistics_over_a_batch_are_refused_unless_frozen() -> None:
    model = FIT["normalised_and_dropped"]()
    with pytest.raises(ModelRefused, match="'frozen' is BatchNormalization"):
        trainer_of(model)
    model.get_layer("frozen").trainable = False
    trainer_of(model)


def test_a_model_without_trainable_weights_is_refused() -> None:
    model = memory_model()
    model.trainable = False
    with pytest.raises(ModelRefused, match="no weight that may be trained"):
        trainer_of(model)
