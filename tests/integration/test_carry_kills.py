"""Nights that are broken off, again and again, and shards that kill whoever scores them: the states fit the scores.

With checkpoints at every step a night is cut at as many places as it has steps, in the middle of long entities too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cluster.core.schedule.events import ReplicaLost
from cluster.core.settings import ClusterSettings, Fill
from cluster.runtime.fleet.fleet import Answer
from cluster.runtime.fleet.ray_cluster import Cluster
from cluster.runtime.replica.replica_actor import ReplicaSpec
from cluster.runtime.run.run import score
from jobs.commands import verify
from tests.harness.inprocess import InProcessCluster, InProcessReplicas, Job, in_process, run, scores
from tests.inputs.series import make_series, with_nulls
from tests.integration.test_carry_faults import check_sums, job, rows_of, split, state_of, tidy, told
from tests.integration.test_checkpoints import Broken, breaking

LENGTHS = [30, 2300, 8, 90, 64, 3]
FIRSTS = [14, 100, 8, 0, 61, 2]
WRITE = {"rows_per_file": 500}
FILL = {"fill": {"f1": Fill(previous=True)}}
OFTEN = {"checkpoint_s": 0.02}
ALWAYS = {"checkpoint_s": 0.0}  # where a shard must have so many fragments before it kills


def series() -> Any:
    """Gaps that are filled with the previous value, also at the beginning of the second night, and a bad row in it."""
    table = make_series(LENGTHS, extra=True)
    starts = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
    gaps = np.random.default_rng(2).integers(0, table.num_rows, 700)
    gaps = np.append(np.setdiff1d(gaps, starts), rows_of(table, 0, [14, 15], LENGTHS))
    return with_nulls(with_nulls(table, "f1", gaps.tolist()), "f0", rows_of(table, 3, [50], LENGTHS))


def nights(folder: Path) -> tuple[Job, Job]:
    """Two nights, the second of which has late rows."""
    early, rest = split(series(), FIRSTS, LENGTHS)
    again = series().take(pa.array(rows_of(series(), 1, [3, 99], LENGTHS) + rows_of(series(), 4, [60], LENGTHS)))
    first = job(folder, "a", early, write=WRITE, input=FILL)
    return first, job(folder, "b", tidy(rest, again), "a", write=WRITE, input=FILL)


def test_nights_that_are_broken_again_and_again_leave_the_same_states_and_scores(tmp_path: Path) -> None:
    undisturbed = nights(tmp_path / "calm")
    for night in undisturbed:
        check_sums(run(night))
    disturbed = nights(tmp_path / "storm")
    generator, sessions = np.random.default_rng(4), 0
    for night in disturbed:
        request = replace(night, cluster=ALWAYS).request()
        for _ in range(4):
            try:
                score(request, open_cluster=breaking(int(generator.integers(1, 25))))
                break
            except Broken:
                sessions += 1
        score(request, open_cluster=in_process)
        verify.expect_holds(verify.run(night.output))
    assert sessions >= 4
    for name, calm, storm in zip("ab", undisturbed, disturbed, strict=True):
        assert tidy(scores(storm.output)).equals(tidy(scores(calm.output)))
        assert state_of(tmp_path / "storm", name).equals(state_of(tmp_path / "calm", name))


# ---- shards that are given up


class PoisonedReplicas(InProcessReplicas):
    """A replica dies of shard `poison` as soon as `fragments` of its fragments are out."""

    poison, fragments = 0, 0

    def __init__(self, spec: ReplicaSpec, model: bytes) -> None:
        super().__init__(spec, model)
        self._dying: set[int] = set()
        self._out = 0

    def assign(self, replica: int, shard: Any, attempt: int, fragments: int) -> None:
        super().assign(replica, shard, attempt, fragments)
        if shard.index == self.poison and (attempt > 1 or not self.fragments):
            self._dying.add(replica)

    def answers(self, timeout_s: float) -> list[Answer]:
        if self._dying:
            replica = self._dying.pop()
            self._actors.pop(replica).close()
            return [Answer(replica, failure=ReplicaLost(replica, "it died"))]
        found = super().answers(timeout_s)
        for answer in found:
            if answer.report is not None and self.fragments:
                mine = [part for part in answer.report.fragments if part.shard == self.poison]
                self._out += len(mine)
                if self._out >= self.fragments:
                    kept = tuple(part for part in answer.report.fragments if not part.final)
                    self._dying.add(answer.replica)
                    return [replace(answer, report=replace(answer.report, fragments=kept))]
        return found


def poisoned(shard: int, fragments: int) -> Any:
    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[Cluster]:
        class Made(PoisonedReplicas):
            poison = shard

        Made.fragments = fragments

        class Poisoned(InProcessCluster):
            def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
                return Made(spec, model)

        yield Poisoned(settings)

    return opened


@pytest.mark.parametrize(
    ("shard", "fragments"), [(0, 0), (0, 3), (1, 0), pytest.param(1, 2, marks=pytest.mark.soak)], ids=str
)
def test_a_shard_that_is_given_up_leaves_its_entities_where_they_were(
    tmp_path: Path, shard: int, fragments: int
) -> None:
    """Shard 0 is the long entity, shard 1 holds the others; some of their fragments are committed before."""
    first, second = nights(tmp_path)
    run(first)
    before = told(state_of(tmp_path, "a"), "rows_seen")
    request = replace(second, cluster={**(ALWAYS if fragments else OFTEN), "max_attempts": 2}).request()
    record = score(request, open_cluster=poisoned(shard, fragments))
    check_sums(record)
    verify.expect_holds(verify.run(second.output))
    found = tidy(scores(second.output)) if record["rows_scored"] else None
    after = told(state_of(tmp_path, "b"), "rows_seen", "last_time", "broken_since")
    times = {name: part for name, part in _times(second).items() if name != "e0002"}
    for entity, (seen, last, broken) in after.items():
        if entity not in times:
            continue
        mine = [] if found is None else _of(found, entity).column("time").to_pylist()
        assert seen == before.get(entity, 0) + len(mine)
        if mine:
            assert last == mine[-1]
        left = [time for time in times[entity] if last is None or time > last]
        assert broken == (left[0] if left else None)


def _of(table: Any, entity: str) -> Any:
    return table.filter(pa.array(np.array(table.column("entity").to_pylist()) == entity))


def _times(night: Job) -> dict[str, list[Any]]:
    table = tidy(ds.dataset(sorted(night.path.glob("*.parquet"))).to_table())
    return {name: _of(table, name).column("time").to_pylist() for name in set(table.column("entity").to_pylist())}


@pytest.mark.parametrize(("shard", "fragments"), [pytest.param(0, 3, marks=pytest.mark.soak), (1, 2)], ids=str)
def test_what_was_given_up_is_scored_by_the_next_night_that_holds_its_rows(
    tmp_path: Path, shard: int, fragments: int
) -> None:
    first, second = nights(tmp_path / "calm")
    run(first)
    run(second)
    lost, broken = nights(tmp_path / "storm")
    run(lost)
    request = replace(broken, cluster={**(ALWAYS if fragments else OFTEN), "max_attempts": 2}).request()
    score(request, open_cluster=poisoned(shard, fragments))
    _, rest = split(series(), FIRSTS, LENGTHS)
    again = job(tmp_path / "storm", "c", rest, "b", write=WRITE, input=FILL, state={"late": "drop"})
    check_sums(run(again))
    storm = [scores(work.output) for work in (broken, again) if any(work.output.glob("*.parquet"))]
    mine, wanted = tidy(*storm), tidy(scores(second.output))
    assert mine.select(["entity", "time"]).equals(wanted.select(["entity", "time"]))
    assert np.abs(mine.column("score").to_numpy() - wanted.column("score").to_numpy()).max() < 1e-6
    names = ["entity", "last_time", "rows_seen", "broken_since", "previous__f1"]
    assert state_of(tmp_path / "storm", "c").select(names).equals(state_of(tmp_path / "calm", "b").select(names))
