"""`train` over several sessions: epochs that are not done twice, callbacks, figures, a task that only state solves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.commands import train
from jobs.config.configuration import load_config
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import UsageError
from lstm_core.proof.reference import Reference
from lstm_core.step.rebatch import load_model
from tests.inputs.series import make_series, replace
from tests.integration.test_train import dropping, held_out, in_this_process, lay_out, table_with_targets
from tests.models.keras_models import FIT


def trained(path: Path, *overrides: str) -> Any:
    return train.run(load_config(str(path), overrides, command="train"), in_this_process)


def test_a_training_goes_on_behind_its_last_epoch_to_the_same_bits(tmp_path: Path) -> None:
    """Dropout, Adam and a schedule: all that an epoch moves is in the checkpoint."""
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    paths = [lay_out(tmp_path / name, table_with_targets(), dropping) for name in ("once", "twice")]
    rate = "train.learning_rate={schedule='CosineDecay', initial_learning_rate=0.02, decay_steps=40}"
    once = trained(paths[0], rate, "train.epochs=3", held_out())
    first = trained(paths[1], rate, "train.epochs=2", held_out())
    assert [epoch.epoch for epoch in first.epochs] == [1, 2]
    twice = trained(paths[1], rate, "train.epochs=3", held_out())
    assert twice.model_fingerprint == once.model_fingerprint != first.model_fingerprint
    assert [epoch.logs for epoch in twice.epochs] == [epoch.logs for epoch in once.epochs]
    assert twice.epochs[0].seconds == first.epochs[0].seconds  # not done again
    assert trained(paths[1], rate, "train.epochs=3", held_out()).epochs == twice.epochs
    assert trained(paths[1], rate, "train.epochs=1", "train.restart=true", held_out()).epochs != twice.epochs[:1]


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    first = trained(path, "train.epochs=1")
    other = trained(path, "train.epochs=1", "train.loss=mse")
    assert first.epochs[0].loss != other.epochs[0].loss


def test_figures_of_each_epoch_are_a_table_and_a_plot(tmp_path: Path) -> None:
    report = trained(lay_out(tmp_path, table_with_targets()), held_out())
    folder = tmp_path / "out/model.keras.training"
    with open(folder / "epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [epoch.loss for epoch in report.epochs]
    assert [float(row["val_loss"]) for row in rows] == [epoch.validation_loss for epoch in report.epochs]
    plot = (folder / "epochs.svg").read_text()
    assert plot.count("<polyline") == 2
    assert len(list(folder.glob("*.npz"))) == 1


CALLBACKS = """
callbacks = [
    {name = "ModelCheckpoint", filepath = "best.keras", monitor = "val_loss", save_best_only = true},
    {name = "CSVLogger", filename = "log.csv"},
    {name = "EarlyStopping", monitor = "val_loss", patience = 1, min_delta = 10.0, restore_best_weights = true},
    {name = "TensorBoard", log_dir = "board"},
    "TerminateOnNaN",
]
"""


def test_callbacks_of_keras_work_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    path.write_text(path.read_text().replace("[cluster]", f"{CALLBACKS}\n[cluster]"))
    first = trained(path, held_out(), "train.epochs=1")
    report = trained(path, held_out(), "train.epochs=9")  # another session: patience and the best weights come along
    assert len(report.epochs) == 2  # no epoch improves by 10, so the second is the last
    assert report.model_fingerprint == first.model_fingerprint  # those of the first epoch
    assert trained(path, held_out(), "train.epochs=9").epochs == report.epochs  # stopped is stopped
    archive = (tmp_path / "out/model.keras").read_bytes()
    assert read_contract(archive, name="it").fingerprint == report.model_fingerprint
    load_model((tmp_path / "best.keras").read_bytes(), name="best")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert {path.name for path in (tmp_path / "board").iterdir()} == {"train", "validation"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("'EarlyStoping'", "nearest one is 'EarlyStopping'"),
        ("{name='EarlyStopping', patienc=1}", "EarlyStopping cannot be made"),
        ("'BackupAndRestore'", "checkpoints by epoch are kept anyway"),
    ],
)
def test_callbacks_that_do_not_fit_are_refused(tmp_path: Path, given: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        trained(lay_out(tmp_path, table_with_targets()), f"train.callbacks=[{given}]")


def test_a_loss_per_output_and_weights_of_rows(tmp_path: Path) -> None:
    table = table_with_targets()
    count = table.num_rows
    kinds = np.eye(3)[np.arange(count) % 3]
    for index in range(3):
        table = table.append_column(f"kind{index}", pa.array(kinds[:, index]))
    table = table.append_column("importance", pa.array(np.arange(count) % 2, pa.float32()))
    path = lay_out(tmp_path, table, FIT["several_outputs"])
    asked = (
        'train.target=["target", "kind0", "kind1", "kind2"]',
        'train.loss={delay="mae", kinds="categorical_crossentropy"}',
        "train.loss_weights={kinds=0.1}",
        "train.weight=importance",
    )
    report = trained(path, *asked, held_out())
    assert set(report.epochs[0].losses) == {"delay_loss", "kinds_loss", "val_delay_loss", "val_kinds_loss"}
    one = report.epochs[-1]
    assert one.loss == pytest.approx(one.losses["delay_loss"] + 0.1 * one.losses["kinds_loss"])
    assert one.loss < report.epochs[0].loss


MEASURED = """
metrics = ["mse", "accuracy"]
callbacks = [
    {name = "ModelCheckpoint", filepath = "best.keras", monitor = "val_mse", save_best_only = true},
    {name = "EarlyStopping", monitor = "val_accuracy", patience = 1, min_delta = 10.0},
]
"""


def test_metrics_stand_beside_the_losses_and_callbacks_see_them(tmp_path: Path) -> None:
    table = table_with_targets()
    target = table.column("target").to_numpy()
    table = replace(table, "target", pa.array(np.where(np.isnan(target), np.nan, target > 0), from_pandas=True))
    path = lay_out(tmp_path, table)
    trained(path, held_out(), "train.epochs=1")
    path.write_text(path.read_text().replace("[cluster]", f"{MEASURED}\n[cluster]"))
    report = trained(path, held_out(), "train.epochs=9")  # goes on: metrics decide nothing that is learned
    assert len(report.epochs) == 3  # two with metrics, the second of which is no better by 10
    first, *measured = report.epochs
    assert first.metrics == {}
    assert [set(epoch.metrics) for epoch in measured] == [{"mse", "accuracy", "val_mse", "val_accuracy"}] * 2
    model = load_model((tmp_path / "best.keras").read_bytes(), name="best")
    assert measured[-1].metrics["val_mse"] < measured[0].metrics["val_mse"]  # so that the last one is the best
    assert_same_weights(model, load_model((tmp_path / "out/model.keras").read_bytes(), name="last"))
    with open(tmp_path / "out/model.keras.training/epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_accuracy"] for row in rows] == ["", *(str(epoch.metrics["val_accuracy"]) for epoch in measured)]
    plot = (tmp_path / "out/model.keras.training/epochs.svg").read_text()
    assert (plot.count("<g "), plot.count("<polyline")) == (3, 6)  # loss, mse, accuracy; each with its validation


def assert_same_weights(left: Any, right: Any) -> None:
    for one, other in zip(left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("['maee']", "'maee' is no metric of Keras, the nearest one is 'mae'"),
        ("['mae', 'mae']", "names 'mae' twice"),
        ("{scor=['mae']}", "names 'scor', but the model has the outputs score"),
        ("[3]", "must be a list of names"),
        ("MeanIoU", "'MeanIoU' does not fit one target per score"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(tmp_path: Path, given: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        trained(lay_out(tmp_path, table_with_targets()), f"train.metrics={given}")
    assert not (tmp_path / "out").exists()


STEPS, CHUNK, ENTITIES = 20, 5, 128


def first_values() -> Any:
    """Series of 20 rows whose label, in every row, is their first value: behind a chunk only a state can know it."""
    table = make_series([STEPS] * ENTITIES, extra=True)
    label = np.repeat(np.random.default_rng(1).choice([-1.0, 1.0], ENTITIES), STEPS)
    first = np.arange(STEPS * ENTITIES) % STEPS == 0
    for name, values in (("f0", label * first), ("f1", 0 * label), ("f2", 1.0 * first)):
        table = replace(table, name, pa.array(values.astype(np.float32)))
    return table.append_column("target", pa.array(label))


def accuracy(model: Path, table: Any, rows: int) -> float:
    """Share of entities whose label the last row tells, where state reaches back over `rows` rows."""
    reference = Reference(model.read_bytes())
    features = np.stack([table.column(name).to_numpy() for name in ("f0", "f1", "f2")], axis=1)
    series = features.reshape(ENTITIES, STEPS, 3)[:, -rows:]
    found = np.array([reference.score([one])[0][-1, 0] for one in series])
    return float((np.sign(found) == table.column("target").to_numpy()[STEPS - 1 :: STEPS]).mean())


def test_a_task_that_only_state_can_solve_is_solved_and_not_without_it(tmp_path: Path) -> None:
    table, model = first_values(), tmp_path / "out/model.keras"
    path = lay_out(tmp_path, table)
    asked = ("model.slots=32", f"model.chunk={CHUNK}", "train.loss=mse", "train.epochs=15", "train.learning_rate=0.02")
    trained(path, *asked)
    assert accuracy(model, table, STEPS) >= 0.99
    trained(path, *asked, "train.reset=chunk")
    assert 0.35 < accuracy(model, table, CHUNK) < 0.65
