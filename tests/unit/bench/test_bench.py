"""The benchmark's own parts: it must notice scores that differ, and give its peers every entity once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.alternate import alternate
from tests.bench.compare import Disagreement, Scores
from tests.bench.entities import LIKENESS, Series, by_length, padded_steps
from tests.bench.measure import Subject
from tests.bench.table import ratios
from tests.bench.task import Measured, Task
from tests.bench.workloads import WORKLOADS, smoke, written

LENGTHS = WORKLOADS["SKEW"].lengths()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    workload = smoke(WORKLOADS["SKEW"])
    return Task(workload, written(workload, tmp_path / "cache"), tmp_path / "no-model", tmp_path / "out")


def test_a_task_survives_its_way_to_another_process(task: Task) -> None:
    assert Task.from_json(task.to_json()) == task


def test_the_rows_are_the_same_every_time(task: Task, tmp_path: Path) -> None:
    again = written(task.workload, tmp_path / "elsewhere")
    assert [pq.read_table(path) for path in sorted(again.iterdir())] == [pq.read_table(path) for path in task.files]


def test_files_hold_whole_entities(task: Task) -> None:
    found = [set(pq.read_table(path).column("entity").to_pylist()) for path in task.files]
    assert len(set.union(*found)) == sum(map(len, found)) == task.workload.entities


def test_every_entity_is_in_one_padded_batch_that_holds_it() -> None:
    batches = list(by_length(LENGTHS))
    assert sorted(np.concatenate([entities for entities, _ in batches])) == list(range(len(LENGTHS)))
    for entities, (batch, steps) in batches:
        assert len(entities) <= batch
        assert steps * LIKENESS < LENGTHS[entities].min() or len(entities) == 1
        assert LENGTHS[entities].max() <= steps


def test_padding_has_few_lengths() -> None:
    steps = {padded_steps(rows) for rows in range(1, 30_000)}
    assert len(steps) < 50
    assert all(padded_steps(rows) <= max(8, rows * 1.26 + 8) for rows in range(1, 30_000, 7))


def test_padded_rows_come_back_where_they_were(task: Task) -> None:
    series = Series.of(pq.read_table(task.files[0]))
    found = np.full(len(series.rows), np.nan, np.float32)
    for entities, (batch, steps) in by_length(series.length):
        series.keep(found, series.padded(entities, batch=batch, begin=0, steps=steps)[..., 0], entities, 0)
    np.testing.assert_array_equal(found, series.rows[:, 0])


def _score(task: Task, spoil: float = 0.0) -> Measured:
    """Gives f0 for a score, the last one spoilt."""
    table = pa.concat_tables([pq.read_table(path) for path in reversed(task.files)])
    values = table.column("f0").to_numpy().copy()
    values[-1] += spoil
    task.output.mkdir(parents=True)
    keys = table.select(["entity", "time"])
    pq.write_table(keys.append_column("score", pa.array(values)), task.output / "scores.parquet")
    return Measured(1.0, len(values))


def _subjects(*names: str) -> list[Subject]:
    return [Subject(name, "", "") for name in names]


def test_subjects_that_agree_share_a_hash(task: Task) -> None:
    played = alternate(_subjects("slotcar", "stateful"), task, 2, lambda subject, task: _score(task))
    assert played.digest == alternate(_subjects("other"), task, 1, lambda subject, task: _score(task)).digest
    assert [len(outcome.runs) for outcome in played.outcomes.values()] == [2, 2]
    assert list(ratios(played)) == ["SKEW: 1.00 times the best single process"]


def test_a_night_says_what_an_entity_costs_beyond_the_step_and_the_copy(task: Task) -> None:
    night = replace(task, workload=replace(task.workload, carry=True), replicas=2)
    work_s = {"slotcar": 5.0, "step": 3.0, "copy": 1.0}

    def measure(subject: Subject, task: Task) -> Measured:
        return replace(_score(task), work_s=work_s[subject.name])

    subjects = [Subject(name, "", "", scores=name == "slotcar") for name in work_s]
    beyond_us = (2 * 5.0 - 3.0 - 2 * 1.0) / night.workload.entities * 1e6
    told = f"{beyond_us:.1f} us of a core per entity beyond the step and the copy"
    assert f"SKEW: {told}" in list(ratios(alternate(subjects, night, 1, measure)))


@pytest.mark.parametrize("spoil", [2e-5, float("nan")])
def test_a_subject_with_one_other_score_is_noticed(task: Task, spoil: float) -> None:
    def measure(subject: Subject, task: Task) -> Measured:
        return _score(task, spoil if subject.name == "stateful" else 0.0)

    with pytest.raises(Disagreement, match="stateful gives"):
        alternate(_subjects("slotcar", "stateful"), task, 1, measure)


def test_a_subject_that_leaves_rows_out_is_noticed(task: Task) -> None:
    def measure(subject: Subject, task: Task) -> Measured:
        measured = _score(task)
        if subject.name == "stateful":
            path = task.output / "scores.parquet"
            pq.write_table(pq.read_table(path).slice(1), path)
        return measured

    with pytest.raises(Disagreement, match="stateful scored"):
        alternate(_subjects("slotcar", "stateful"), task, 1, measure)


def test_nothing_is_left_of_what_was_measured(task: Task) -> None:
    alternate(_subjects("slotcar"), replace(task), 1, lambda subject, task: _score(task))
    assert list(task.output.iterdir()) == []


def test_the_hash_is_of_bits_and_not_of_files(task: Task) -> None:
    _score(replace(task, output=task.output / "whole"))
    whole = Scores.read(task.output / "whole")
    halves = task.output / "halves"
    halves.mkdir()
    table = pq.read_table(task.output / "whole")
    pq.write_table(table.slice(100), halves / "0.parquet", compression="none")
    pq.write_table(table.slice(0, 100), halves / "1.parquet")
    assert Scores.read(halves).digest() == whole.digest()
