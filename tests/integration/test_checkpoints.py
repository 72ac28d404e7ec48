"""Checkpoints inside a shard: a run that is broken again and again ends with the bits of an undisturbed one.

With `checkpoint_s = 0` every call of the model ends a fragment, so that a run is cut at as many places as it has calls,
however fast they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.commit import Fragment
from cluster.core.settings import ClusterSettings, Fill, StepSettings
from cluster.runtime.commit.commit import Commits
from cluster.runtime.fleet.ray_cluster import Cluster
from cluster.runtime.replica.replica_actor import ReplicaSpec
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from jobs.commands import verify
from jobs.commands.verify import expect_holds
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import InProcessCluster, InProcessReplicas, Job, in_process, run, scores, tidy
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.kills.breaking import Broken, breaking
from tests.models.keras_models import FIT, save

# Two entities longer than a shard, which are streamed in pieces of 512 chunks, between short ones.
LENGTHS = [5, 2500, 130, 1, 4500, 64, 700, 8, 33]
STEP = StepSettings(slots=4, chunk=4)
WRITE = {"rows_per_file": 2000}
ALWAYS = {"checkpoint_s": 0.0}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An input with nulls that are filled with the previous value, also across pieces, and one bad row."""
    blob = save(FIT["lstm"]())
    folder = tmp_path_factory.mktemp("checkpoints")
    table = make_series(LENGTHS)
    generator = np.random.default_rng(5)
    starts = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
    nulls = np.setdiff1d(generator.integers(0, table.num_rows, 1500), starts)
    table = with_nulls(table, "f0", nulls.tolist())
    table = with_nulls(table, "f1", [int(starts[6]) + 500])
    write_cut(folder / "in", table, [2000, table.num_rows - 2000], [700])
    contract = read_contract(blob, name="lstm")
    return Job(
        blob,
        folder / "in",
        folder / "undisturbed",
        columns_for(contract),
        step=STEP,
        write=WRITE,
        input={"fill": {"f0": Fill(previous=True)}},
        quarantine_limit=0.1,
    )


@pytest.fixture(scope="module")
def undisturbed(job: Job) -> Any:
    """The rows that every disturbed run must end with."""
    record = run(job)
    assert record["rows_quarantined"] == 200
    assert record["rows_in"] == sum(LENGTHS)
    return tidy(job.output)


def records_of(output: Path) -> list[Fragment]:
    return Commits(LocalStore(str(output))).records()


def test_a_checkpoint_at_every_step_changes_no_bit(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    record = run(replace(job, output=output, cluster=ALWAYS))
    assert tidy(output).equals(undisturbed)
    assert record["fragments"] > 50
    assert record["entities_scored"] == len(LENGTHS)
    assert record["rows_scored"] + record["rows_quarantined"] == sum(LENGTHS)


def test_an_entity_stands_in_consecutive_fragments_in_order(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(replace(job, output=output, cluster=ALWAYS))
    found = scores(output)
    for entity in set(found.column("entity").to_pylist()):
        own = found.column("entity").to_numpy(zero_copy_only=False) == entity
        time = found.column("time").to_numpy()[own]
        assert (time[1:] > time[:-1]).all()


@pytest.mark.parametrize("at_fragment", [1, 9])
def test_a_run_that_is_broken_again_and_again_ends_with_the_same_bits(
    job: Job, undisturbed: Any, tmp_path: Path, at_fragment: int
) -> None:
    output, sessions = tmp_path / "out", 0
    request = replace(job, output=output, cluster=ALWAYS).request()
    while sessions < 3:  # then undisturbed to the end
        try:
            score(request, open_cluster=breaking(at_fragment))
            break
        except Broken:
            sessions += 1
    score(request, open_cluster=in_process)
    assert sessions > 0
    assert tidy(output).equals(undisturbed)
    assert (output / "_SUCCESS").exists()


def test_a_resumed_run_scores_no_committed_row_again(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    request = replace(job, output=output, cluster=ALWAYS).request()
    with pytest.raises(Broken):
        score(request, open_cluster=breaking(20))
    committed = sum(fragment.rows for fragment in records_of(output))
    assert committed > 0
    stepped: list[int] = []

    class CountingCluster(InProcessCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
            self.made = InProcessReplicas(spec, model)
            return self.made

    @contextmanager
    def counting(settings: ClusterSettings) -> Iterator[Cluster]:
        cluster = CountingCluster(settings)
        yield cluster
        stepped.append(sum(counter.rows for counter in cluster.made.counters))

    score(request, open_cluster=counting)
    assert committed + stepped[0] == undisturbed.num_rows


def test_every_fragment_but_a_shards_last_has_a_snapshot(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(replace(job, output=output, cluster=ALWAYS))
    for record in records_of(output):
        assert (record.snapshot is None) == record.final


def test_the_audit_holds_after_any_number_of_breaks(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    request = replace(job, output=output, cluster=ALWAYS).request()
    with pytest.raises(Broken):
        score(request, open_cluster=breaking(9))
    with pytest.raises(Broken):
        score(request, open_cluster=breaking(5))
    score(request, open_cluster=in_process)
    expect_holds(verify.run(output))
