"""Whole runs on imitations of Google Cloud Storage and Azure: interleaved input, pre-pass, lock, records, carry-over.

Scores are compared with those of the same rows on local disk. What S3 does for real is in test_object_store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.run_errors import OutputRefused
from cluster.runtime.commit.run_request import ScoreRequest
from cluster.runtime.run.run import score
from jobs.commands import status, verify
from tests.fakes.clouds import Cloud
from tests.fakes.faulty_servers import Fault
from tests.harness.inprocess import Job, in_process, scores, tidied
from tests.inputs.series import make_series, with_nulls
from tests.integration.test_object_store import run_on_disk
from tests.integration.test_two_drivers import no_cluster

pytestmark = pytest.mark.timeout(300)

LENGTHS = [40, 30, 25, 7, 64]
OUTPUTS = count()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run on local disk, with an entity and a row in quarantine."""
    table = with_nulls(with_nulls(make_series(LENGTHS), "time", [11]), "f0", [150])
    table = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    return run_on_disk(tmp_path_factory.mktemp("local"), table, ([70, table.num_rows - 70], [30]))


@pytest.fixture(scope="module")
def expected(local: Job) -> Any:
    return tidied(scores(local.output))


@pytest.fixture(params=["gs", "abfs"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    found: Cloud = request.getfixturevalue(request.param)
    found.calm()
    yield found
    found.calm()


@pytest.fixture
def request_(local: Job, cloud: Cloud) -> ScoreRequest:
    """The same run with all that it reads and writes in the cloud, each time into another output."""
    for path in local.path.iterdir():
        obstore.put(cloud.client(), f"in/{path.name}", path)
    request, storage = local.request(), cloud.options()
    return replace(
        request,
        input=replace(request.input, path=(f"{cloud.url}/in",), storage=storage),
        output=replace(request.output, path=f"{cloud.url}/out-{next(OUTPUTS)}", storage=storage),
    )


def folder_of(request: ScoreRequest) -> str:
    return request.output.path.rpartition("/")[2]


def named(request: ScoreRequest) -> str:
    """The output as a command line names it."""
    return f"{request.output.path}?" + "&".join(f"{name}={value}" for name, value in request.output.storage.items())


def rows(cloud: Cloud, request: ScoreRequest) -> Any:
    """The output's rows; first the audit."""
    verify.expect_holds(verify.run(named(request)))
    names = [name for name in cloud.names(folder_of(request)) if name.count("/") == 1 and name.endswith(".parquet")]
    contents = [bytes(obstore.get(cloud.client(), name).bytes()) for name in names]
    return tidied(pa.concat_tables([pq.read_table(pa.BufferReader(content)) for content in contents]))


def test_a_run_has_the_scores_of_one_on_local_disk_and_tells_no_secret(
    cloud: Cloud, request_: ScoreRequest, expected: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def second(*told: Any) -> None:
        with pytest.raises(OutputRefused, match="being written by another driver"):
            score(request_, open_cluster=no_cluster)

    record = score(request_, open_cluster=in_process, at_end=second)
    assert record["status"] == "done"
    assert rows(cloud, request_).equals(expected)
    assert score(request_, open_cluster=no_cluster) == record
    found = status.run(named(request_)).as_dict()
    assert (found["status"], found["rows_done"]) == ("done", found["rows_total"])
    names = cloud.names(folder_of(request_))
    assert [name for name in names if "/_slotcar/shuffle/" in name]
    contents = [bytes(obstore.get(cloud.client(), name).bytes()) for name in names]
    said = "".join(capfd.readouterr())
    assert [text for text in [*contents, said.encode()] if cloud.secret.encode() in text] == []


@pytest.mark.soak
def test_a_run_gets_through_a_bad_night(cloud: Cloud, request_: ScoreRequest, expected: Any) -> None:
    output = f"/{folder_of(request_)}"
    night = {
        f"PUT {output}/_slotcar/lock/": (Fault.LANDED,),
        f"PUT {output}/_slotcar/shuffle/": (Fault.CUT, Fault.LANDED, Fault.INTERNAL),
        f"PUT {output}/_slotcar/staged/": (Fault.CUT, Fault.LANDED),
        f"PUT {output}/_slotcar/commits/": (Fault.LANDED, Fault.SLOW_DOWN, Fault.CUT),
        f"PUT {output}/_slotcar/run.json": (Fault.INTERNAL, Fault.LANDED),
        f"PUT {output}/part-": (Fault.SLOW_DOWN, Fault.LANDED),  # copies
        f"GET {output}/_slotcar/commits/": (Fault.INTERNAL, Fault.CUT),
    }
    for request, faults in night.items():
        for fault in faults:
            cloud.fail(fault, *request.split(" "))
    assert score(request_, open_cluster=in_process)["status"] == "done"
    assert sorted(cloud.struck) == sorted(fault.name for faults in night.values() for fault in faults)
    cloud.calm()
    assert rows(cloud, request_).equals(expected)


def test_an_output_that_may_not_be_written_is_refused(cloud: Cloud, request_: ScoreRequest) -> None:
    cloud.fail(Fault.FORBIDDEN, "PUT", "/_slotcar/", times=10**6)
    with pytest.raises(OutputRefused, match=r"cannot be written: AccessDenied: planned\.$"):
        score(request_, open_cluster=no_cluster)
