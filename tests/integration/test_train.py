"""`train`: from a configuration and Parquet to a model that `score` takes, with a seed and rows that are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from keras import layers

from cluster.core.plan import shuffle_plan
from cluster.core.settings import ClusterSettings
from cluster.run_errors import InputRefused, RunFailed
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.training.training_actor import Trainer, TrainingActor
from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import score, train
from jobs.config.configuration import load_config
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import SlotcarError, UsageError
from tests.inputs.configs import IN
from tests.inputs.series import DAY_ZERO, MINUTE, make_series, replace, with_nulls, write_cut
from tests.models.keras_models import FIT, recurrent_model, save
from tests.models.unfit_models import bidirectional

LENGTHS = [40, 3, 90, 1, 16, 17, 55, 120, 8]
SPLIT = str(DAY_ZERO + 60 * MINUTE)

CONFIG = f"""
[model]
path = "out/model.keras"
slots = 4
chunk = 8
jit = false
{IN}
[output]
path = "scores"
keep = ["row", "target"]

[train]
model = "first.keras"
target = ["target"]
learning_rate = 1e-2
epochs = 2
seed = 3

[cluster]
replicas = 1
"""


def table_with_targets(lengths: Sequence[int] = LENGTHS) -> Any:
    """Targets that a memory helps with, every seventh unknown."""
    table = make_series(lengths, extra=True)
    target = table.column("f0").to_numpy() + np.roll(table.column("f1").to_numpy(), 1)
    unknown = np.arange(table.num_rows) % 7 == 0
    return table.append_column("target", pa.array(target.astype(np.float64), mask=unknown))


def lay_out(folder: Path, table: Any, build: Callable[[], Any] = FIT["lstm"]) -> Path:
    write_cut(folder / "in", table, [table.num_rows // 2, -(-table.num_rows // 2)], [50, 30])
    (folder / "first.keras").write_bytes(save(build()))
    (folder / "train.toml").write_text(CONFIG)
    return folder / "train.toml"


def dropping() -> Any:
    """A model whose training draws random numbers."""
    return recurrent_model(layers.LSTM(4, return_sequences=True, dropout=0.3, recurrent_dropout=0.2, name="memory"))


@contextmanager
def in_this_process(settings: ClusterSettings) -> Iterator[Trainer]:
    """The actor's own class, without Ray."""
    yield TrainingActor()


def trained(path: Path, *overrides: str, on_ray: bool = False) -> Any:
    config = load_config(str(path), overrides, command="train")
    return train.run(config) if on_ray else train.run(config, in_this_process)


def held_out() -> str:
    return f'train.validate_since="{SPLIT}"'


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One embedded cluster for the whole module."""
    with connected(ClusterSettings(replicas=1)):
        yield


@pytest.mark.ray
def test_a_trained_model_scores_as_its_validation_said(cluster: None, tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    report = trained(path, held_out(), on_ray=True)
    score.run(load_config(str(path)))
    scores = ds.dataset(tmp_path / "scores", format="parquet").to_table().to_pandas()
    held = scores[(scores.time >= np.datetime64(SPLIT)) & scores.target.notna()]
    assert report.targets_validated == len(held)
    found = np.abs(held.score - held.target).mean()
    assert report.epochs[-1].validation_loss == pytest.approx(found, rel=1e-6)
    assert report.model_fingerprint == read_contract((tmp_path / "out/model.keras").read_bytes(), name="it").fingerprint


@pytest.mark.ray
def test_the_same_seed_gives_the_same_weights_also_where_tasks_cluster_the_rows_first(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shuffle_plan, "PIECE_BYTES", 4000)  # cut in the driver: more of them than it does by itself
    monkeypatch.setattr(shuffle_plan, "BUCKET_BYTES", 3000)
    path = lay_out(tmp_path, table_with_targets(), dropping)
    first = trained(path, "train.epochs=1", on_ray=True)
    write_cut(tmp_path / "mixed", table_with_targets().sort_by("time"), [100, 100, 50, 100], [30])
    second = trained(path, "train.epochs=1", "input.path=mixed", "cluster.address=auto", on_ray=True)
    assert "clustered first" in capsys.readouterr().err
    other = trained(path, "train.epochs=1", "train.seed=4", on_ray=True)
    assert first.model_fingerprint == second.model_fingerprint
    assert first.epochs[0].loss == second.epochs[0].loss
    assert first.model_fingerprint != other.model_fingerprint


@pytest.mark.ray
def test_a_fault_in_the_actor_is_the_users_sentence(cluster: None, tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    with pytest.raises(UsageError, match="'maee' is no loss of Keras"):
        trained(path, "train.loss=maee", on_ray=True)
    assert not (tmp_path / "out").exists()


def test_rows_that_are_held_out_move_no_weight(tmp_path: Path) -> None:
    table = table_with_targets()
    later = table.column("time").to_numpy() >= np.datetime64(SPLIT)
    features = np.where(later, 1e3, table.column("f0").to_numpy()).astype(np.float32)
    targets = pa.array(np.where(later, -1e3, 0.5))
    early = pa.array(np.where(later, np.nan, 0.5), from_pandas=True)
    reports = []
    for name, changed in (
        ("wild", replace(replace(table, "f0", pa.array(features)), "target", targets)),
        ("tame", replace(table, "target", early)),
    ):
        (tmp_path / name).mkdir()
        reports.append(trained(lay_out(tmp_path / name, changed), held_out()))
    wild, tame = reports
    assert wild.model_fingerprint == tame.model_fingerprint
    assert [epoch.loss for epoch in wild.epochs] == [epoch.loss for epoch in tame.epochs]
    assert tame.epochs[0].validation_loss is None  # no row that is held out has a target
    assert wild.rows_validated == int(later.sum())
    assert wild.rows_trained_on + wild.rows_validated == wild.rows_in


def test_an_entity_is_used_up_to_its_bad_row(tmp_path: Path) -> None:
    table = table_with_targets([20, 30])
    values = table.column("f1").to_pylist()
    values[25] = None
    report = trained(lay_out(tmp_path, replace(table, "f1", pa.array(values, pa.float32()))))
    assert (report.rows_trained_on, report.rows_quarantined, report.entities) == (25, 25, 2)


def test_rows_that_a_training_leaves_out_are_told_by_their_reasons(tmp_path: Path) -> None:
    table = with_nulls(with_nulls(table_with_targets([90, 30, 10, 8]), "f1", [95, 120]), "entity", [135, 136])
    table = with_nulls(table, "f2", [130])
    report = trained(lay_out(tmp_path, table), held_out(), "faults.quarantine_limit=0.0")
    null = "{} is null and [input.fill] names no value for it"
    reasons = {train.NO_KEY: 2, null.format("f1"): 25 + 10, null.format("f2"): 6}
    assert report.quarantined_by_reason == reasons
    assert report.rows_quarantined == sum(reasons.values())
    page = DataConsole(width=200)
    with page.capture() as shown:
        page.print(report.render())
    for reason, rows in reasons.items():
        assert f"{rows} rows: {reason}" in shown.get()


def test_where_all_rows_are_in_quarantine_the_sentence_says_why(tmp_path: Path) -> None:
    table = with_nulls(table_with_targets([3, 4]), "f1", [0, 3])
    with pytest.raises(InputRefused, match="all are in quarantine, most of them since f1 is null"):
        trained(lay_out(tmp_path, table))


def test_an_entity_longer_than_a_shard_is_trained_on_whole(tmp_path: Path) -> None:
    report = trained(lay_out(tmp_path, table_with_targets([40_000, 10])), "model.chunk=64", "train.epochs=1")
    assert report.rows_trained_on == 40_010


def test_training_goes_on_from_a_model(tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    once = trained(path)
    (tmp_path / "first.keras").write_bytes((tmp_path / "out/model.keras").read_bytes())
    again = trained(path)
    assert again.epochs[-1].loss < once.epochs[0].loss
    assert again.model_fingerprint != once.model_fingerprint


def test_a_fixed_batch_is_harmless_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lay_out(tmp_path, table_with_targets(), FIT["stateful_lstm"])  # batch 4, time 7
    report = trained(path, "model.slots=6")
    assert report.chunk == 7
    assert "fixes a batch of 4, which does no harm" in capsys.readouterr().err
    assert read_contract((tmp_path / "out/model.keras").read_bytes(), name="it").batch == 4


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.target=['f0']", "'f0' is also in input.features"),
        ("train.target=['target', 'row']", "names 2 columns, but the model gives 1"),
        ("train.target=['targt']", "there is no column 'targt' .*nearest one is 'target'"),
        ("train.weight=nope", r"train\.weight: there is no column 'nope' in \S+; it has"),
        ("train.weight=f0", "train.weight 'f0' is also in input.features: weights are read from a column of their own"),
        ("train.weight=target", "train.weight 'target' is also in train.target"),
        ("train.optimizer=adamm", "'adamm' is no optimizer of Keras"),
        ("train.learning_rate=0.0", "learning_rate"),
        ("train.validate_since=yesterday", "validate_since is 'yesterday'"),
        ("train.validate_since=2030-01-01", "No row of the input's window is at or after"),
        ("train.validate_since=2020-01-01", "no row to train on before"),
        ("train.model=missing.keras", "missing.keras cannot be read"),
        ("train.model=no_such_module:build", "module 'no_such_module' cannot be imported"),
        ("model.path=model.h5", "name that ends in .keras"),
        ("model.path=first.keras", "train.model and model.path are one file, .*first.keras: .*another name"),
        ("model.path=linked.keras", "train.model and model.path are one file"),
    ],
)
def test_wrong_set_ups_are_refused_with_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    path = lay_out(tmp_path, table_with_targets())
    (tmp_path / "linked.keras").symlink_to(tmp_path / "first.keras")
    with pytest.raises(SlotcarError, match=sentence) as fault:
        trained(path, override)
    assert fault.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_an_unfit_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    (tmp_path / "first.keras").write_bytes(save(bidirectional()))
    with pytest.raises(UsageError, match="Bidirectional"):
        trained(path)


def test_targets_that_are_all_unknown_are_refused(tmp_path: Path) -> None:
    table = table_with_targets()
    table = replace(table, "target", pa.nulls(table.num_rows, pa.float64()))
    with pytest.raises(InputRefused, match="has a target that is known"):
        trained(lay_out(tmp_path, table))


def test_a_loss_that_is_no_number_writes_no_model(tmp_path: Path) -> None:
    path = lay_out(tmp_path, table_with_targets())
    with pytest.raises(RunFailed, match=r"no model was written: lower train\.learning_rate, or scale"):
        trained(path, "train.learning_rate=1e30", "train.loss=mse", "train.optimizer=sgd", "train.epochs=5")
    assert not (tmp_path / "out").exists()
