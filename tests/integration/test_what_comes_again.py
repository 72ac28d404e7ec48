"""A run that ends over its input says what its user may do, and the next run shows that it is true.

What the input will do again is said to come again, with its place, and comes again; what was in the way for a while is
said to be mended, and mended the same run goes on to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import RunFailed
from cluster.runtime.replica.replica_actor import ReplicaSpec, Sources
from cluster.runtime.run import run as run_module
from cluster.runtime.run.run import score
from tests.harness.inprocess import InProcessCluster, InProcessReplicas, Job, run, scores
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.models.keras_models import FIT, contract_of, save

MODEL = save(FIT["lstm"]())
FEATURES = columns_for(contract_of(MODEL, "lstm"))
LENGTHS = (12, 7, 20, 4, 9)
ROWS, FIRST_FILE = sum(LENGTHS), 20
AGAIN = "; what is committed stays, and the same command would meet this again."
FAIL = {"bad_entity": "fail"}

Lay = Callable[[Path], str]


def job(folder: Path, name: str = "out", **changes: Any) -> Job:
    base = Job(MODEL, folder / "in", folder / name, FEATURES, step=StepSettings(4, 4), quarantine_limit=1.0)
    return replace(base, **changes)


def lay(folder: Path, table: Any) -> list[Path]:
    return write_cut(folder, table, [FIRST_FILE, table.num_rows - FIRST_FILE])


def a_null(folder: Path) -> str:
    lay(folder / "in", with_nulls(make_series(LENGTHS), "f1", [25]))
    return "part-001.parquet, row 5: f1 is null and [input.fill] names no value for it; mend the row or "


def no_number(folder: Path) -> str:
    table = make_series(LENGTHS)
    values = table.column("f1").to_numpy().copy()
    values[25] = np.inf
    index = table.schema.get_field_index("f1")
    lay(folder / "in", table.set_column(index, "f1", pa.array(values)))
    return "part-001.parquet, row 5: f1 is "


def a_damaged_page(folder: Path) -> str:
    path = lay(folder / "in", make_series(LENGTHS))[1]
    with pq.ParquetFile(path) as parquet:
        chunk = parquet.metadata.row_group(0).column(parquet.schema_arrow.names.index("f1"))
    content = bytearray(path.read_bytes())
    begin, size = chunk.data_page_offset, chunk.total_compressed_size
    content[begin : begin + size] = b"\xff" * size
    path.write_bytes(content)
    return f"part-001.parquet is damaged at rows 0 to {ROWS - FIRST_FILE - 1} in column 'f1' ("


@pytest.fixture
def long_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entities of more than 8 rows are read as streams of blocks."""
    monkeypatch.setattr(shard_plan, "SHARD_ROWS_MIN", 4)
    monkeypatch.setattr(run_module, "BLOCK_CHUNKS", 1)


def ends_twice(asked: Job) -> str:
    """What two runs, one after the other, end with: the same sentence."""
    told = []
    for _ in range(2):
        with pytest.raises(RunFailed) as failure:
            run(asked)
        told.append(str(failure.value))
    assert told[0] == told[1]
    return told[0]


every_fault = pytest.mark.parametrize("fault", [a_null, no_number, a_damaged_page], ids=lambda fault: fault.__name__)


@every_fault
@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_a_bad_row_that_must_not_be_comes_again(tmp_path: Path, fault: Lay, layout: str) -> None:
    place = fault(tmp_path)
    told = ends_twice(job(tmp_path, input={**FAIL, "layout": layout}))
    assert place in told
    planned = fault is not a_damaged_page or layout != "shuffle"
    assert told.endswith(
        AGAIN if planned else ": write it again or take it out of the input, then start the run again."
    )


@every_fault
def test_a_bad_row_of_a_long_entity_comes_again(tmp_path: Path, fault: Lay, long_entities: None) -> None:
    place = fault(tmp_path)
    told = ends_twice(job(tmp_path, input=FAIL))
    assert place in told
    assert told.endswith(AGAIN)


def test_the_remedy_that_is_named_scores_the_rest(tmp_path: Path) -> None:
    """`a_null` says: mend the row or quarantine it, into another output."""
    a_null(tmp_path)
    told = ends_twice(job(tmp_path, input=FAIL))
    assert 'set [faults] bad_entity = "quarantine", and score into another output.path' in told
    record = run(job(tmp_path, "other", run_id="other"))
    assert (record["rows_scored"], record["rows_quarantined"]) == (ROWS - 14, 14)


def test_late_rows_that_must_not_be_come_again(tmp_path: Path) -> None:
    lay(tmp_path / "in", make_series(LENGTHS))
    run(job(tmp_path, "first", state={"write": tmp_path / "state"}))
    told = ends_twice(job(tmp_path, run_id="next", state={"read": tmp_path / "state", "late": "fail"}))
    assert "part-000.parquet, row 0: the row is not after the last one" in told
    assert told.endswith(AGAIN)


class _Elsewhere(InProcessReplicas):
    """A file of the input is not to be had once the run is planned."""

    path: Path

    def begin(self, sources: Sources) -> None:
        self.path.rename(self.path.with_suffix(".away"))
        super().begin(sources)


def without(path: Path) -> Any:
    class Cluster(InProcessCluster):
        def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
            found = _Elsewhere(spec, model)
            found.path = path
            return found

    @contextmanager
    def opened(settings: ClusterSettings) -> Iterator[InProcessCluster]:
        yield Cluster(settings)

    return opened


def test_what_is_out_of_reach_for_a_while_is_mended_and_the_run_goes_on(tmp_path: Path) -> None:
    path = lay(tmp_path / "in", make_series(LENGTHS))[1]
    asked = job(tmp_path)
    with pytest.raises(RunFailed) as failure:
        score(asked.request(), open_cluster=without(path))
    told = str(failure.value)
    assert "part-001.parquet cannot be read" in told
    assert "mend that, and the same command goes on" in told
    assert "would meet this again" not in told
    path.with_suffix(".away").rename(path)
    assert run(asked)["rows_scored"] == ROWS == scores(asked.output).num_rows
