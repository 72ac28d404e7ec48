"""`train` on rows that lie in any order: the weights of the tidy table, bit for bit, in one session or in several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan
from cluster.core.settings import ClusterSettings
from cluster.run_errors import InputBroken, InputRefused, RunFailed
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.shuffle import bucket_sort
from cluster.runtime.shuffle import shuffle as prepass
from cluster.runtime.training.training_actor import Pass, Trainer, TrainingActor, TrainingSpec
from jobs.commands import train
from jobs.config.configuration import load_config
from tests.fakes.clouds import Cloud
from tests.fakes.cramped import cramp
from tests.inputs.series import with_nulls, with_ties, write_cut
from tests.integration.test_train import dropping, held_out, in_this_process, lay_out, table_with_targets
from tests.models.window_models import WINDOWED

Write = Callable[[Path, Any], None]


@pytest.fixture(scope="module")
def cramped() -> Iterator[None]:
    """Memory for a few rows only."""
    with pytest.MonkeyPatch.context() as patch:
        cramp(patch, sort_bytes=2500)
        patch.setattr(shard_plan, "SHARD_ROWS_MIN", 70)  # several shards, and an entity that is longer than one
        yield


# Of one length are many, so that nothing but their order tells which of them comes first.
LENGTHS = (40, 3, 40, 40, 16, 17, 40, 90, 40, 24)


def dataset() -> Any:
    """With equal times, rows without an entity or a time, and a bad feature before and behind the split."""
    table = with_ties(table_with_targets(LENGTHS), [50, 51, 90])
    table = with_nulls(with_nulls(table, "entity", [5, 200]), "time", [60])
    return with_nulls(table, "f1", [100, 349])


def shuffled(folder: Path, table: Any) -> None:
    """Rows of equal times keep their order, as a sort by time would leave them."""
    order = np.random.default_rng(1).permutation(table.num_rows)
    ties = np.flatnonzero(np.isin(order, [49, 50, 51, 89, 90]))
    order[ties] = np.sort(order[ties])
    write_cut(folder, table.take(pa.array(order)), [150, 0, table.num_rows - 150], [40])


def hive_by_half_hour(folder: Path, table: Any) -> None:
    """Each file in order of time; where the time is unknown, in a file of their own."""
    part = pc.floor(pc.divide(table.column("time").cast(pa.int64()).cast(pa.float64()), 30 * 60e6)).to_pylist()
    for value in dict.fromkeys(part):
        rows = table.filter(pa.array([one == value for one in part])).sort_by("time")
        (folder / f"part={value}").mkdir(parents=True)
        pq.write_table(rows, folder / f"part={value}" / "a.parquet")


def reordered(path: Path, write: Write, table: Any) -> Path:
    """The same configuration on the same rows in other files."""
    for file in (path.parent / "in").glob("*"):
        file.unlink()
    write(path.parent / "in", table)
    return path


def trained(path: Path, *overrides: str, open_trainer: Any = in_this_process) -> Any:
    return train.run(load_config(str(path), overrides, command="train"), open_trainer)


def told(report: Any) -> dict[str, Any]:
    """All that a training says, but where and how long."""
    epochs = [dataclasses.replace(epoch, seconds=0.0) for epoch in report.epochs]
    return {**report.as_dict(), "epochs": epochs, "seconds": 0.0, "model": ""}


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out/model.keras.training" / SHUFFLE).glob("*") if path.is_file())


@pytest.fixture(scope="module")
def tidy(cramped: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a training on the rows by entity and time says."""
    report = trained(lay_out(tmp_path_factory.mktemp("tidy"), dataset(), dropping), held_out())
    assert report.rows_quarantined > 0
    assert report.rows_trained_on + report.rows_validated + report.rows_quarantined == report.rows_in
    return report


@pytest.mark.parametrize("write", [shuffled, hive_by_half_hour], ids=lambda write: write.__name__)
def test_interleaved_rows_give_the_weights_of_the_tidy_table(
    tmp_path: Path, write: Write, tidy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = reordered(lay_out(tmp_path, dataset(), dropping), write, dataset())
    report = trained(path, held_out())
    assert told(report) == told(tidy)
    assert "clustered first" in capsys.readouterr().err
    assert not (tmp_path / "out/model.keras.training/_slotcar").exists()


def test_a_tidy_table_that_is_clustered_all_the_same_gives_its_weights(tmp_path: Path, tidy: Any) -> None:
    path = lay_out(tmp_path, dataset(), dropping)
    assert told(trained(path, held_out(), "input.layout=shuffle")) == told(tidy)


def test_windows_of_interleaved_rows_are_those_of_the_tidy_table(cramped: None, tmp_path: Path) -> None:
    """A window's place in its entity, and so its last row, follows from the order that clustering has made."""
    one_model, asked = cache(WINDOWED["lstm_of_windows"]), (held_out(), "model.tail=drop", "train.epochs=1")
    reports = []
    for name, write in (("tidy", None), ("mixed", shuffled)):
        (tmp_path / name).mkdir()
        path = lay_out(tmp_path / name, dataset(), one_model)
        reports.append(told(trained(reordered(path, write, dataset()) if write else path, *asked)))
    assert reports[0] == reports[1]
    assert reports[0]["rows_skipped"] > 0


def test_rows_in_a_bucket_give_the_weights_of_those_on_disk(tmp_path: Path, tidy: Any, gs: Cloud) -> None:
    shuffled(tmp_path / "mixed", dataset())
    for file in (tmp_path / "mixed").iterdir():
        obstore.put(gs.client(), f"train/{file.name}", file)
    storage = [f"storage.{name}={value}" for name, value in gs.options().items()]
    path = lay_out(tmp_path, dataset(), dropping)
    assert told(trained(path, held_out(), f"input.path={gs.url}/train", *storage)) == told(tidy)


def test_interleaved_rows_are_refused_where_the_layout_is_said_to_be_clustered(tmp_path: Path) -> None:
    path = reordered(lay_out(tmp_path, dataset()), shuffled, dataset())
    with pytest.raises(InputRefused, match=r'interleaved: .*set input.layout = "auto"'):
        trained(path, "input.layout=clustered")
    assert not (tmp_path / "out").exists()


class Dying(TrainingActor):
    """Ends with its second epoch."""

    def train_epoch(self, epoch: int) -> Pass:
        if epoch == 2:
            raise RunFailed("The training actor has died: start the training again.")
        return super().train_epoch(epoch)


class Stillborn(TrainingActor):
    """Ends before its first epoch, when its rows are there."""

    def begin(self, spec: TrainingSpec, checkpoint: bytes | None) -> None:
        raise RunFailed("The training actor has died: start the training again.")


@contextmanager
def stillborn(settings: ClusterSettings) -> Iterator[Trainer]:
    yield Stillborn()


@contextmanager
def dying(settings: ClusterSettings) -> Iterator[Trainer]:
    yield Dying()


def test_a_training_that_was_broken_off_goes_on_with_what_was_clustered(
    tmp_path: Path, tidy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reordered(lay_out(tmp_path, dataset(), dropping), shuffled, dataset())
    with pytest.raises(RunFailed, match="has died"):
        trained(path, held_out(), open_trainer=dying)
    kept = left_over(tmp_path)
    assert {name.split("-")[1] for name in kept} == {"bad", "bucket", "counts.json"}  # no piece of it any more
    assert sum("-bucket-" in name for name in kept) > 2

    monkeypatch.setattr(prepass, "write_piece", _never)
    monkeypatch.setattr(prepass, "write_bucket", _never)
    assert told(trained(path, held_out())) == told(tidy)
    assert left_over(tmp_path) == []


def test_a_pre_pass_that_was_broken_off_goes_on_where_it_stopped(
    tmp_path: Path, tidy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reordered(lay_out(tmp_path, dataset(), dropping), shuffled, dataset())
    with monkeypatch.context() as patch:
        patch.setattr(prepass, "write_bucket", _third_fails)
        with pytest.raises(RunFailed, match="disk is full"):
            trained(path, held_out())
    folder = tmp_path / "out/model.keras.training" / SHUFFLE
    before = {name: (folder / name).stat().st_mtime_ns for name in left_over(tmp_path)}
    assert sum("-bucket-" in name for name in before) == 2

    with pytest.raises(RunFailed, match="has died"):
        trained(path, held_out(), open_trainer=stillborn)
    after = {name: (folder / name).stat().st_mtime_ns for name in left_over(tmp_path)}
    assert all(after[name] == made for name, made in before.items() if "-bucket-" in name)
    assert told(trained(path, held_out())) == told(tidy)


def test_what_was_clustered_of_other_files_is_not_trained_on(tmp_path: Path, tidy: Any) -> None:
    other = table_with_targets([30, 30, 30])
    path = reordered(lay_out(tmp_path, other, dropping), by_time_in_two, other)
    with pytest.raises(RunFailed, match="has died"):
        trained(path, held_out().replace("60", "20"), open_trainer=stillborn)
    assert left_over(tmp_path)
    assert told(trained(reordered(path, shuffled, dataset()), held_out())) == told(tidy)


def test_a_file_that_is_cut_off_ends_the_training_by_its_name(tmp_path: Path) -> None:
    path = reordered(lay_out(tmp_path, dataset()), shuffled, dataset())
    cut = tmp_path / "in/part-002.parquet"
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputBroken, match=r"part-002.parquet begins as a Parquet file and is cut off"):
        trained(path)


def by_time_in_two(folder: Path, table: Any) -> None:
    write_cut(folder, table.sort_by("time"), [45, 45], [20])


def _never(index: int, shuffle: Any) -> None:
    raise AssertionError("it was done before")


def _third_fails(index: int, shuffle: Any) -> None:
    if index == 2:
        raise RunFailed("The disk is full.")
    bucket_sort.write_bucket(index, shuffle)
