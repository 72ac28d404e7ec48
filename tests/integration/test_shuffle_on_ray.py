"""The pre-pass on a real cluster, and broken off at every task of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.plan import shuffle_plan
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import RunFailed
from cluster.runtime.audit.audit import audit
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from tests.bench import scale
from tests.bench import shuffle as bench
from tests.harness.inprocess import InProcessCluster, Job, scores
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

MODEL = save(FIT["lstm"]())
FEATURES = (("rows", ("f0", "f1", "f2")),)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """One cluster for the module."""
    with connected(ClusterSettings()):
        yield


@pytest.mark.ray
def test_tasks_on_a_cluster_lose_and_double_nothing(tmp_path: Path) -> None:
    files = bench.write_input(tmp_path / "in", 20_000, entities=300, long=True)
    (found,) = bench.main(["--rows", "20000", "--entities", "300", "--long"])
    assert found["rows_hash"] == bench.content_hash(files)


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "count"), [("entities", 3000), ("files", 40), ("long", 3000), ("simulate", 3000)])
def test_large_inputs_are_measured_in_a_smoke_test_too(kind: str, count: int) -> None:
    assert scale.main([kind, "--count", str(count)])["count"] == count


class DyingCluster(InProcessCluster):
    """Its driver dies after some items of its maps, all of them counted together."""

    items_left = 0

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        for item in items:
            if not DyingCluster.items_left:
                raise RunFailed("The driver is gone.")
            DyingCluster.items_left -= 1
            yield function(item)


@contextmanager
def dying(settings: ClusterSettings) -> Iterator[DyingCluster]:
    """For `score(request, open_cluster=dying)`."""
    yield DyingCluster(settings)


def test_a_run_that_dies_at_any_task_of_its_pre_pass_ends_with_the_rows_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle_plan, "PIECE_BYTES", 2000)
    monkeypatch.setattr(shuffle_plan, "BUCKET_BYTES", 4000)
    table = make_series([30, 20, 40, 5])
    order = np.random.default_rng(0).permutation(table.num_rows)
    write_cut(tmp_path / "in", table.take(pa.array(order)), [50, 45], [20])
    outputs = []
    for name in ("whole", "broken"):
        job = Job(MODEL, tmp_path / "in", tmp_path / name, FEATURES, step=StepSettings(4, 8))
        deaths = _run_to_its_end(job, at_once=name == "whole")
        outputs.append(scores(job.output))
    assert deaths > 10
    assert outputs[1].equals(outputs[0])
    store = LocalStore(str(tmp_path / "broken"))
    assert [check for check in audit(store).checks if check.failures] == []
    assert store.list(SHUFFLE) == LocalStore(str(tmp_path / "whole")).list(SHUFFLE)


def _run_to_its_end(job: Job, *, at_once: bool) -> int:
    """The same request again and again, each session with one task more than the one before it."""
    for deaths in range(100):
        DyingCluster.items_left = 1000 if at_once else deaths
        try:
            score(job.request(), open_cluster=dying)
        except RunFailed:
            continue
        return deaths
    raise AssertionError("the run never ends")
