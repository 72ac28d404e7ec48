"""Scores appended to a Delta table: all of a run in one commit, once, whatever happens between it and `_SUCCESS`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.core.settings import OutputSettings, StepSettings
from cluster.run_errors import OutputRefused, RunFailed
from cluster.runtime.run.delta_output import check_delta
from cluster.runtime.run.run import score
from lstm_core.contract.model_contract import read_contract
from tests.fakes.faulty_servers import Fault
from tests.fakes.s3_server import BUCKET, S3
from tests.harness.inprocess import Job, in_process, run, scores
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = [30, 7, 90, 41]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("delta")
    blob = save(FIT["lstm"]())
    write_cut(folder / "in", make_series(LENGTHS))
    features = columns_for(read_contract(blob, name="lstm"))
    return Job(blob, folder / "in", folder / "none", features, step=StepSettings(slots=4, chunk=8))


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A table's place, and how it is reached."""
    if request.param == "local":
        yield str(tmp_path / "table"), {}
        return
    s3: S3 = request.getfixturevalue("s3")
    s3.calm()
    yield f"s3://{BUCKET}/{tmp_path.name}/table", s3.options()
    s3.calm()


def job_for(base: Job, output: Path, place: tuple[str, dict[str, Any]]) -> Job:
    write = {"rows_per_file": 50, "delta": place[0], "storage": place[1]}
    return replace(base, output=output, write=write)


def opened(place: tuple[str, dict[str, Any]]) -> DeltaTable:
    url, storage = place
    options = {"endpoint": f"http://{storage['endpoint_override']}", "allow_http": "true"} if storage else None
    return DeltaTable(url, storage_options=options)


def in_order(table: Any) -> Any:
    return table.sort_by([("entity", "ascending"), ("time", "ascending")]).select(["entity", "score"]).combine_chunks()


def rows(place: tuple[str, dict[str, Any]]) -> Any:
    return in_order(opened(place).to_pyarrow_table())


def test_a_run_is_one_commit_and_never_a_second_one(
    base: Job, place: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    job = job_for(base, tmp_path / "out", place)
    run(job)
    expected = in_order(scores(job.output))
    assert opened(place).version() == 0
    assert rows(place).equals(expected)
    (job.output / "_SUCCESS").unlink()  # the driver died between the two
    run(job)
    assert (job.output / "_SUCCESS").exists()
    assert opened(place).version() == 0
    again = replace(job, output=tmp_path / "again", run_id="again").request()
    score(replace(again, run="again"), open_cluster=in_process)
    assert opened(place).version() == 1
    assert rows(place).num_rows == 2 * sum(LENGTHS)


def test_a_commit_whose_answer_is_lost_is_found(base: Job, s3: S3, tmp_path: Path) -> None:
    s3.calm()
    place = (f"s3://{BUCKET}/lost/table", s3.options())
    s3.fail(Fault.LANDED, "PUT", "/lost/table/_delta_log/")
    job = job_for(base, tmp_path / "out", place)
    run(job)
    assert len(s3.struck) == 1
    assert rows(place).equals(in_order(scores(job.output)))


def test_a_table_that_does_not_take_the_rows_ends_the_run_and_can_be_mended(base: Job, tmp_path: Path) -> None:
    place: tuple[str, dict[str, Any]] = (str(tmp_path / "table"), {})
    write_deltalake(place[0], pa.table({"entity": [1.5]}))
    job = job_for(base, tmp_path / "out", place)
    with pytest.raises(RunFailed, match="could not be appended"):
        score(job.request(), open_cluster=in_process)
    assert not (job.output / "_SUCCESS").exists()
    write_deltalake(place[0], scores(tmp_path / "out").slice(0, 0), mode="overwrite", schema_mode="overwrite")
    run(job)
    assert rows(place).equals(in_order(scores(job.output)))


def test_a_table_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    (log / f"{0:020d}.json").write_text("no log")
    with pytest.raises(OutputRefused, match=r"output\.delta .* cannot be opened"):
        check_delta(OutputSettings(str(tmp_path / "out"), ("score",), delta=str(tmp_path)))
