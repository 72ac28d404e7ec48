"""`train` of models with one score per window: what it learns from, and that `score` gives what it validated."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cluster.run_errors import InputRefused
from cluster.runtime.run.run import score
from jobs.commands.score import request_of
from jobs.config.configuration import load_config
from tests.harness.inprocess import in_process
from tests.inputs.series import replace
from tests.integration.test_train import LENGTHS, SPLIT, held_out, lay_out, table_with_targets
from tests.integration.test_training_runs import trained
from tests.models.window_models import WINDOW, WINDOWED

one_model = cache(WINDOWED["lstm_of_windows"])  # another one would have other names of layers


def lay_out_windows(folder: Path, table: Any) -> Path:
    return lay_out(folder, table, one_model)


def scored(path: Path, *overrides: str) -> Any:
    score(request_of(load_config(str(path), overrides)), open_cluster=in_process)
    return ds.dataset(path.parent / "scores", format="parquet").to_table().to_pandas()


@pytest.mark.parametrize("tail", ["mask", "drop"])
def test_a_trained_model_scores_windows_as_its_validation_said(tmp_path: Path, tail: str) -> None:
    table, asked = table_with_targets(), f"model.tail={tail}"
    path = lay_out_windows(tmp_path, table)
    report = trained(path, held_out(), asked)
    assert (report.chunk, report.rows_in) == (WINDOW, sum(LENGTHS))
    dropped = sum(rows % WINDOW for rows in LENGTHS) if tail == "drop" else 0
    assert report.rows_skipped == dropped
    assert report.rows_trained_on + report.rows_validated + dropped == report.rows_in
    windows = scored(path, asked)  # `keep` hands the target of a window's last row through
    held = windows[(windows.time >= np.datetime64(SPLIT)) & windows.target.notna()]
    assert report.targets_validated == len(held) > 0
    assert report.epochs[-1].validation_loss == pytest.approx(np.abs(held.score - held.target).mean(), rel=1e-6)
    early = table.filter(pa.array(table.column("time").to_numpy() < np.datetime64(SPLIT)))
    counts = early.group_by("entity").aggregate([("time", "count")]).column("time_count").to_numpy()
    assert report.rows_trained_on == sum(counts) - (sum(counts % WINDOW) if tail == "drop" else 0)


def test_a_window_has_the_target_of_its_last_row(tmp_path: Path) -> None:
    """Targets of other rows may be anything."""
    lengths = [WINDOW * 30 + 4, 40, 3]
    table = table_with_targets(lengths)
    position = np.concatenate([np.arange(rows) for rows in lengths])
    last = (position % WINDOW == WINDOW - 1) | (position == np.repeat(lengths, lengths) - 1)
    target = table.column("target").to_numpy()
    found = []
    for name, values in (("plain", target), ("wild", np.where(last, target, 1e9))):
        (tmp_path / name).mkdir()
        path = lay_out_windows(tmp_path / name, replace(table, "target", pa.array(values, from_pandas=True)))
        found.append(trained(path, "train.epochs=1"))
    plain, wild = found
    assert plain.targets_trained_on == int(np.isfinite(target[last]).sum()) > 30
    assert plain.model_fingerprint == wild.model_fingerprint
    assert plain.rows_trained_on == sum(lengths)


def test_entities_that_fill_no_window_are_refused_where_tails_are_dropped(tmp_path: Path) -> None:
    path = lay_out_windows(tmp_path, table_with_targets([WINDOW - 1, 2]))
    with pytest.raises(InputRefused, match=r'no entity fills a window of the model, and model\.tail is "drop"'):
        trained(path, "model.tail=drop")
    assert trained(path, "train.epochs=1").targets_trained_on == 2
