"""Models with one score per window, the whole road: against Keras's own stateful layers, one window after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run.run import score
from jobs.commands import verify
from tests.harness.inprocess import Job, in_process, run, scores, tidied
from tests.harness.truth import columns_for
from tests.inputs import series
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.kills.breaking import Broken, breaking
from tests.models.keras_models import contract_of, save
from tests.models.window_models import WINDOW, WINDOWED, scored_by_keras

LENGTHS = (30, 1, 47, 5, 6, 200, 13, 12, 64, 7)
MODELS = ("lstm_of_windows", "stacked_gru_of_windows")


@cache
def archive_of(name: str) -> bytes:
    """Once for all tests, so that a replica's compiled model serves many of them."""
    return save(WINDOWED[name]())


def job_of(folder: Path, name: str = MODELS[0], **changes: Any) -> Job:
    blob = archive_of(name)
    features = columns_for(contract_of(blob))
    step = StepSettings(slots=4, chunk=WINDOW)
    return replace(Job(blob, folder / "in", folder / "out", features, step=step, quarantine_limit=1.0), **changes)


def series_of(table: Any) -> dict[str, Any]:
    """Each entity's rows (row, column), in order."""
    return {
        entity: table.filter(pa.array(table.column("entity").to_numpy(zero_copy_only=False) == entity))
        for entity in dict.fromkeys(table.column("entity").to_pylist())
    }


def expect_truth(output: Any, table: Any, name: str, *, drop: bool, scored: dict[str, int] | None = None) -> None:
    """Every entity's windows in order, up to `scored` rows of it, with their first and last rows' times."""
    found = series_of(output)
    assert Counter(output.column("entity").to_pylist()).keys() == found.keys()
    for entity, rows in series_of(table).items():
        count = (scored or {}).get(entity, rows.num_rows)
        count -= count % WINDOW if drop else 0
        starts = np.arange(0, count, WINDOW)
        ends = np.minimum(starts + WINDOW, count) - 1
        if not count:
            assert entity not in found
            continue
        mine = found[entity]
        assert mine.column("time").equals(rows.column("time").take(pa.array(ends)))
        assert mine.column("window_start").equals(rows.column("time").take(pa.array(starts)))
        assert mine.column("window_rows").to_pylist() == (ends - starts + 1).tolist()
        numbers = np.stack([rows.column(f"f{index}").to_numpy() for index in range(3)], axis=1).astype(np.float32)
        truth = scored_by_keras(WINDOWED[name], numbers[:count])
        values = np.stack([mine.column(column).to_numpy() for column in mine.column_names[-truth.shape[1] :]], axis=1)
        np.testing.assert_allclose(values, truth, rtol=0, atol=1e-5)


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    actor = AuditActor(spec, model)
    yield lambda shard, entities: actor.rescore(shard, entities)


def expect_holds(job: Job, rescore: int = 0) -> None:
    verify.expect_holds(verify.run(job.output, rescore, alone))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tail", ["mask", "drop"])
def test_scores_are_those_of_keras_window_by_window(tmp_path: Path, name: str, tail: Any) -> None:
    table = make_series(LENGTHS, extra=True)
    write_cut(tmp_path / "in", table, [100, table.num_rows - 100], [37])
    job = job_of(tmp_path, name, tail=tail, input={"keep": ("unused",)}, write={"rows_per_file": 20})
    model = tmp_path / "m.keras"
    model.write_bytes(job.model)
    record = score(replace(job.request(), model_path=str(model)), open_cluster=in_process)
    output, skipped = scores(job.output), sum(rows % WINDOW for rows in LENGTHS) if tail == "drop" else 0
    expect_truth(output, table, name, drop=tail == "drop")
    names = ["score"] if name == MODELS[0] else ["mean", "range_0", "range_1"]
    assert output.column_names == ["entity", "time", "unused", "window_start", "window_rows", *names]
    assert output.schema.field("window_rows").type == pa.int32()
    assert record["rows_scored"] == sum(LENGTHS) - skipped == sum(output.column("window_rows").to_pylist())
    assert (record["rows_skipped"], record["rows_quarantined"]) == (skipped, 0)
    assert record["fragments"] > 1
    expect_holds(job, 4)


@pytest.mark.parametrize("tail", ["mask", "drop"])
def test_an_entity_with_a_bad_row_is_scored_up_to_it(tmp_path: Path, tail: Any) -> None:
    table = make_series((20, 20, 20, 9))
    write_cut(tmp_path / "in", with_nulls(table, "f1", [16, 24, 40, 67]))
    job = job_of(tmp_path, tail=tail)
    record = run(job)
    scored = dict(zip(series_of(table), (16, 4, 0, 7), strict=True))
    expect_truth(scores(job.output), table, MODELS[0], drop=tail == "drop", scored=scored)
    skipped = 4 + 4 + 0 + 1 if tail == "drop" else 0
    assert (record["rows_quarantined"], record["rows_skipped"]) == (4 + 16 + 20 + 2, skipped)
    assert record["rows_in"] == record["rows_scored"] + record["rows_quarantined"] + record["rows_skipped"]
    expect_holds(job)


def test_a_window_that_does_not_say_its_rows_is_found(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", make_series((20, 9)))
    job = job_of(tmp_path)
    run(job)
    expect_holds(job)
    [fragment] = job.output.glob("*.parquet")
    table, place = pq.read_table(fragment), 1
    for rows, start in ((WINDOW - 1, place), (WINDOW, place - 1)):
        counts, starts = table.column("window_rows").to_pylist(), table.column("window_start").to_pylist()
        counts[place], starts[place] = rows, starts[start]
        changed = series.replace(table, "window_rows", pa.array(counts, pa.int32()))
        changed = series.replace(changed, "window_start", pa.array(starts, table.schema.field("window_start").type))
        pq.write_table(changed, fragment)
        failed = {check.name for check in verify.run(job.output).checks if not check.holds}
        assert failed >= {"fragments", "exactly once" if rows < WINDOW else "times"}


@pytest.mark.parametrize("tail", ["mask", "drop"])
def test_a_run_cut_at_every_step_and_resumed_gives_the_same_windows(tmp_path: Path, tail: Any) -> None:
    """One entity longer than a shard may be, and others; fragments end as soon as a row is scored."""
    table = make_series((WINDOW * 512 + 700, 200, 31, 4))
    write_cut(tmp_path / "in", table, [table.num_rows], [700])
    whole = job_of(tmp_path, tail=tail, write={"rows_per_file": 1500})
    record = run(whole)
    expect_truth(tidied(scores(whole.output)), table, MODELS[0], drop=tail == "drop")
    cut = replace(whole, output=tmp_path / "cut", cluster={"checkpoint_s": 0.0})
    for sessions in range(1, 9):
        try:
            again = score(cut.request(), open_cluster=breaking(4**sessions))
            break
        except Broken:
            continue
    assert sessions > 2
    assert {name: again[name] for name in COUNTED} == {name: record[name] for name in COUNTED}
    assert tidied(scores(cut.output)).equals(tidied(scores(whole.output)))
    expect_holds(cut)


COUNTED = ("rows_in", "rows_scored", "rows_skipped", "rows_quarantined", "entities_scored")


def test_nights_with_drop_equal_one_run_over_all_of_them(tmp_path: Path) -> None:
    """Each night has the rows that the night before has skipped, and then its own."""
    table = make_series(LENGTHS)
    entity, position = table.column("entity").to_numpy(zero_copy_only=False), positions(table)
    job = job_of(tmp_path, tail="drop")
    carried: dict[str, int] = {}
    read: dict[str, Any] = {}
    for night, high in enumerate((4, 17, 18, 100, 1000)):
        from_row = np.array([carried.get(name, 0) for name in entity])
        mine = table.filter(pa.array((position >= from_row) & (position < high)))
        write_cut(tmp_path / f"in{night}", mine)
        write = tmp_path / f"state{night}"
        tonight = replace(job, path=tmp_path / f"in{night}", output=tmp_path / f"out{night}", run_id=f"n{night}")
        record = run(replace(tonight, state={**read, "write": write}))
        assert record["rows_in"] == record["rows_scored"] + record["rows_skipped"]
        expect_holds(tonight)
        states = pq.read_table(write)
        carried = dict(zip(states.column("entity").to_pylist(), states.column("rows_seen").to_pylist(), strict=True))
        assert all(rows % WINDOW == 0 for rows in carried.values())
        read = {"read": write}
    write_cut(tmp_path / "in", table)
    run(replace(job, state={"write": tmp_path / "whole"}))
    nights = tidied(
        pa.concat_tables(
            [
                scores(tmp_path / f"out{night}")
                for night in range(5)
                if any((tmp_path / f"out{night}").glob("*.parquet"))
            ]
        )
    )
    assert nights.equals(tidied(scores(job.output)))
    told = [
        "entity",
        "last_time",
        "rows_seen",
        "broken_since",
        *[n for n in pq.read_table(write).column_names if n.startswith("state__")],
    ]
    assert (
        pq.read_table(write)
        .select(told)
        .sort_by("entity")
        .equals(pq.read_table(tmp_path / "whole").select(told).sort_by("entity"))
    )


def positions(table: Any) -> Any:
    """Which of its entity's rows each is."""
    return np.concatenate([np.arange(rows.num_rows) for rows in series_of(table).values()])


def test_a_long_entity_and_a_mended_one_go_on_from_their_last_whole_window(tmp_path: Path) -> None:
    """The first is streamed in pieces, the last of which fills no window; the second broke amid one."""
    lengths, first = (WINDOW * 512 + 700, 40), (WINDOW * 512 + 4, 20)
    table = make_series(lengths)
    position, sizes = positions(table), np.repeat(first, lengths)
    job = job_of(tmp_path, tail="drop", write={"rows_per_file": 1500})
    write_cut(tmp_path / "in0", with_nulls(table, "f2", [lengths[0] + 15]).filter(pa.array(position < sizes)))
    night = replace(job, path=tmp_path / "in0", output=tmp_path / "out0", state={"write": tmp_path / "state0"})
    record = run(night)
    assert (record["rows_scored"], record["rows_quarantined"], record["rows_skipped"]) == (WINDOW * 512 + 12, 5, 4 + 3)
    expect_holds(night)
    whole = np.repeat((WINDOW * 512, 12), lengths)
    write_cut(tmp_path / "in1", table.filter(pa.array(position >= whole)))
    state = {"read": tmp_path / "state0", "write": tmp_path / "state1"}
    second = replace(night, path=tmp_path / "in1", output=tmp_path / "out1", state=state, run_id="second")
    assert run(second)["rows_quarantined"] == 0
    expect_holds(second)
    both = tidied(pa.concat_tables([scores(night.output), scores(second.output)]))
    expect_truth(both, table, MODELS[0], drop=True)
