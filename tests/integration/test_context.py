"""Context of a chunk as model inputs: the same as columns that a user had counted himself, on every road."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.settings import StepSettings
from cluster.run_errors import InputRefused
from cluster.runtime.run.run import score
from jobs.commands import verify
from tests.harness.inprocess import Job, in_process, run, scores, tidied
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.integration.test_train import lay_out, table_with_targets, trained
from tests.integration.test_windows import alone
from tests.kills.breaking import Broken, breaking
from tests.models.keras_models import FIT, save
from tests.models.window_models import WINDOW, WINDOWED

CHUNK = 8
LENGTHS = (8 * 512 + 700, 20, 1, 8, 47, 300)  # the first is longer than a shard, and streamed in pieces
CONTEXT = ("@chunk_index", "@chunk_count", "@length")
COUNTED = ("index", "count", "length")  # the same, as columns of the input


def counted(lengths: Sequence[int], chunk: int = CHUNK, *, whole: bool = False) -> Any:
    """Series with the columns of context, as a user would count them; `whole` chunks only, where tails are dropped."""
    table = make_series(lengths, extra=True)
    position = np.concatenate([np.arange(rows) for rows in lengths])
    chunks = [rows // chunk if whole else -(-rows // chunk) for rows in lengths]
    columns = (position // chunk, np.repeat(chunks, lengths), np.repeat(lengths, lengths))
    for name, values in zip(COUNTED, columns, strict=True):
        table = table.append_column(name, pa.array(values, pa.int64()))
    return table


@cache
def archive() -> bytes:
    """A model with an input per row and a static one, whose large numbers leave its gates open."""
    model = FIT["static_numbers"]()
    for layer in model.layers:
        if layer.get_weights():
            layer.set_weights([weight * 0.05 for weight in layer.get_weights()])
    return save(model)


def job_of(folder: Path, names: Sequence[str], **changes: Any) -> Job:
    index, *fixed = names
    features = (("rows", ("f0", "f1", index)), ("fixed", tuple(fixed)))
    step = StepSettings(slots=4, chunk=CHUNK)
    return replace(Job(archive(), folder / "in", folder / "out", features, step=step, quarantine_limit=1.0), **changes)


def test_scores_are_those_of_columns_that_count_also_after_a_break_and_alone(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", counted(LENGTHS), [1000, sum(LENGTHS) - 1000], [700])
    mine, theirs = (job_of(tmp_path, names, output=tmp_path / names[0]) for names in (CONTEXT, COUNTED))
    mine = replace(mine, write={"rows_per_file": 1500})
    run(mine)
    run(theirs)
    truth = tidied(scores(theirs.output))
    assert tidied(scores(mine.output)).equals(truth)
    assert len(set(truth.column("score").to_pylist())) > 0.5 * truth.num_rows  # not all gates are shut
    cut = replace(mine, output=tmp_path / "cut", cluster={"checkpoint_s": 0.0})
    for sessions in range(1, 9):
        try:
            score(cut.request(), open_cluster=breaking(2**sessions))
            break
        except Broken:
            continue
    assert sessions > 2
    assert tidied(scores(cut.output)).equals(truth)


def test_the_audit_scores_with_the_same_context(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", counted((60, 20, 1, 8)))
    job = job_of(tmp_path, CONTEXT)
    model = tmp_path / "m.keras"
    model.write_bytes(job.model)
    score(replace(job.request(), model_path=str(model)), open_cluster=in_process)
    verify.expect_holds(verify.run(job.output, 4, alone))


def test_a_bad_row_changes_nothing_before_it(tmp_path: Path) -> None:
    table = counted((30, 20))
    found = []
    for name, changed in (("good", table), ("bad", with_nulls(table, "f1", [25]))):
        write_cut(tmp_path / name / "in", changed)
        job = job_of(tmp_path / name, CONTEXT)
        run(job)
        found.append(tidied(scores(job.output)))
    good, bad = found
    assert bad.num_rows == 45
    assert bad.equals(pa.concat_tables([good.slice(0, 25), good.slice(30)]))


@pytest.mark.parametrize("tail", ["mask", "drop"])
def test_a_window_is_the_chunk(tmp_path: Path, tail: Any) -> None:
    table = counted((30, 1, 47, 5), WINDOW, whole=tail == "drop")
    write_cut(tmp_path / "in", table)
    blob, found = save(WINDOWED["lstm_of_windows"]()), []
    for names in (CONTEXT, COUNTED):
        out = tmp_path / names[0]
        job = Job(blob, tmp_path / "in", out, (("rows", names),), step=StepSettings(slots=4, chunk=WINDOW), tail=tail)
        run(job)
        found.append(tidied(scores(out)))
    assert found[0].num_rows
    assert found[0].equals(found[1])


def test_a_training_learns_the_same_from_context_as_from_columns(tmp_path: Path) -> None:
    lengths, losses = (40, 3, 90), []
    table = table_with_targets(lengths)
    for name, column in zip(COUNTED, counted(lengths).select(COUNTED).columns, strict=True):
        table = table.append_column(name, column)
    for names in (CONTEXT, COUNTED):
        (tmp_path / names[0]).mkdir()
        path = lay_out(tmp_path / names[0], table)
        report = trained(path, f"input.features={['f0', names[0], names[2]]}")
        losses.append([epoch.loss for epoch in report.epochs])
    assert losses[0] == losses[1]


def test_a_name_that_is_nearly_one_of_context_is_refused_with_it(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", counted((5,)))
    job = job_of(tmp_path, ("@chunk_indx", *CONTEXT[1:]))
    with pytest.raises(InputRefused, match=r"no column '@chunk_indx' .*, the nearest one is '@chunk_index'"):
        run(job)
