"""Night to night: many runs, each going on from the state of the one before, equal one run over all.

Thirty nights of entities that appear, disappear, skip nights, and come with one row a night; cut anywhere, and cut at
whole chunks, where not one bit may differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan
from cluster.core.settings import Fill, StepSettings
from jobs.commands import plan, verify
from jobs.config.configuration import load_config
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job, run, scores, tidied
from tests.harness.truth import columns_for
from tests.inputs.series import DAY_ZERO, MINUTE, with_nulls, write_cut
from tests.models.keras_models import FIT, save

NIGHTS, CHUNK = 30, 4


def nights_of(rows: Any) -> Any:
    """Rows per (night, entity) -> one table with a column `night`, in order of night, then entity, then time."""
    night, entity = (np.repeat(index.ravel(), rows.ravel()) for index in np.indices(rows.shape))
    inside = np.concatenate([np.arange(count) for count in rows.ravel()])
    generator = np.random.default_rng(7)
    columns = {
        "entity": pa.array([f"e{number:03d}" for number in entity], pa.string()),
        "time": pa.array(DAY_ZERO + (night * 1440 + inside) * MINUTE, pa.timestamp("us")),
        **{f"f{index}": pa.array(generator.normal(size=len(night)).astype(np.float32)) for index in range(3)},
        "night": pa.array(night),
    }
    return pa.table(columns)


def write_nights(folder: Path, table: Any) -> None:
    """Each night in a folder of its own, and all of them, clustered by entity, in `all`."""
    tidy = table.sort_by([("entity", "ascending"), ("time", "ascending")])
    write_cut(folder / "all", tidy, [tidy.num_rows // 2, tidy.num_rows - tidy.num_rows // 2], [50])
    for night in range(NIGHTS):
        mine = tidy.filter(pa.array(tidy.column("night").to_numpy() == night))
        if mine.num_rows:
            write_cut(folder / f"in{night:02d}", mine, [mine.num_rows], [37])


def job_of(folder: Path, **changes: Any) -> Job:
    blob = save(FIT["parallel_memories"]())
    features = columns_for(read_contract(blob, name="test"))
    step = StepSettings(slots=5, chunk=CHUNK)
    return replace(Job(blob, folder / "all", folder / "out", features, step=step, quarantine_limit=1.0), **changes)


def score_nights(folder: Path, job: Job, nights: range = range(NIGHTS)) -> list[dict[str, Any]]:
    """One run a night."""
    records, read = [], {}
    for night in nights:
        if not (folder / f"in{night:02d}").exists():
            continue
        write = folder / "state" / f"{night:02d}"
        state = {**job.state, **read, "write": write}
        output = folder / "nights" / f"{night:02d}"
        records.append(
            run(replace(job, path=folder / f"in{night:02d}", output=output, state=state, run_id=f"n{night}"))
        )
        read = {"read": write}
    return records


def all_nights(folder: Path) -> Any:
    return tidied(pa.concat_tables([scores(path) for path in sorted((folder / "nights").iterdir())]))


def last_state(folder: Path) -> Any:
    newest = sorted((folder / "state").iterdir())[-1]
    return pa.concat_tables([pq.read_table(path) for path in sorted(newest.glob("*.parquet"))]).sort_by("entity")


def sporadic(seed: int = 3) -> Any:
    """(night, entity) rows: some come every night, some with one row, some late, some not for long, some once."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 7, (NIGHTS, 24)) * (generator.random((NIGHTS, 24)) < 0.6)
    rows[:, 0], rows[:, 1], rows[:10, 2], rows[5:, 3] = 1, 5, 0, 0
    rows[:, 4] = np.where(np.arange(NIGHTS) % 9 == 0, 40, 0)
    return rows


def test_thirty_nights_equal_one_run_over_all_of_them(tmp_path: Path) -> None:
    write_nights(tmp_path, nights_of(sporadic()))
    job = job_of(tmp_path)
    records = score_nights(tmp_path, job)
    assert len(records) == NIGHTS
    whole = run(replace(job, state={"write": tmp_path / "whole"}))
    one, many = tidied(scores(job.output)), all_nights(tmp_path)
    assert many.select(["entity", "time"]).equals(one.select(["entity", "time"]))
    gap = np.abs(many.column("score").to_numpy() - one.column("score").to_numpy())
    assert gap.max() < 1e-6
    assert sum(record["rows_scored"] for record in records) == whole["rows_scored"]
    mine, theirs = last_state(tmp_path), pq.read_table(tmp_path / "whole").sort_by("entity")
    told = ["entity", "last_time", "rows_seen", "broken_since"]
    assert mine.select(told).equals(theirs.select(told))


def test_not_a_bit_differs_where_nights_are_cut_at_whole_chunks(tmp_path: Path) -> None:
    write_nights(tmp_path, nights_of(sporadic() * CHUNK))
    job = job_of(tmp_path)
    score_nights(tmp_path, job)
    run(replace(job, state={"write": tmp_path / "whole"}))
    assert all_nights(tmp_path).equals(tidied(scores(job.output)))
    assert last_state(tmp_path).equals(pq.read_table(tmp_path / "whole").sort_by("entity"))
    for night in (0, 7, 29):
        verify.expect_holds(verify.run(tmp_path / "nights" / f"{night:02d}"))


def test_the_plan_says_who_goes_on_and_who_is_handed_on_and_has_the_shards_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nights(tmp_path, nights_of(sporadic()))
    job = job_of(tmp_path)
    score_nights(tmp_path, job, range(2))
    (tmp_path / "model.keras").write_bytes(job.model)
    config = tmp_path / "night.toml"
    features = ", ".join(f'"{name}"' for _, columns in job.features for name in columns)
    config.write_text(
        f"""[model]\npath = "model.keras"\n[input]\npath = "in02"\nentity = "entity"\ntime = "time"
features = [{features}]\n[output]\npath = "out"\n[state]\nread = "state/01"\n"""
    )
    found = plan.run(load_config(str(config), command="plan"))
    known = set(last_state(tmp_path).column("entity").to_pylist())
    tonight = set(pq.read_table(tmp_path / "in02").column("entity").to_pylist())
    assert (found.entities_known, found.entities_absent) == (len(known & tonight), len(known - tonight))
    monkeypatch.setattr(shard_plan, "SHARD_STATE_BYTES", 1)  # as if states were large: an entity for each shard
    assert plan.run(load_config(str(config), command="plan")).shards == len(tonight)


def test_values_filled_with_the_previous_one_go_on_from_night_to_night(tmp_path: Path) -> None:
    rows = sporadic() * CHUNK
    table = nights_of(rows)
    first = np.unique(table.column("entity").to_numpy(zero_copy_only=False), return_index=True)[1]
    generator = np.random.default_rng(1)
    gaps = np.setdiff1d(generator.integers(0, table.num_rows, table.num_rows), first)
    write_nights(tmp_path, with_nulls(table, "f0", gaps.tolist()))
    job = job_of(tmp_path, input={"fill": {"f0": Fill(previous=True)}})
    records = score_nights(tmp_path, job)
    assert sum(record["rows_quarantined"] for record in records) == 0
    run(replace(job, state={"write": tmp_path / "whole"}))
    assert all_nights(tmp_path).equals(tidied(scores(job.output)))
    assert last_state(tmp_path).equals(pq.read_table(tmp_path / "whole").sort_by("entity"))
