"""A whole run on a real S3 server: input, plan, fragments, records, quarantine and lock, with and without faults.

The server enforces conditional puts; between it and the run stands a proxy that fails on purpose. Scores are compared
with those of the same run on local disk.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cluster.core.lock import Claim, claim_name
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.run_errors import LockLost, OutputRefused, StoreFault
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import take_lock, this_process
from cluster.runtime.commit.run_request import ScoreRequest
from cluster.runtime.fleet.fleet import Fleet
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.run.run import score
from cluster.runtime.storage.open_store import StoreSpec, open_store
from jobs.commands import status, verify
from jobs.commands.verify import expect_holds
from lstm_core.contract.model_contract import read_contract
from tests.fakes.faulty_servers import Fault
from tests.fakes.s3_server import ACCESS, BUCKET, S3, SECRET
from tests.harness.inprocess import Job, in_process, run, scores, tidied
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.integration.test_two_drivers import interrupted_by, no_cluster
from tests.kills.killing import DyingActor, Trigger, WatchedFleet, watched, watched_store
from tests.models.keras_models import FIT, save
from tests.paths import ROOT
from tests.unit.cluster.runtime.commit.test_lock import Hands

pytestmark = pytest.mark.timeout(600)

LENGTHS = [40, 30, 25, 7, 190, 64, 90]
OUTPUTS = count()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run on local disk, with an entity and a row in quarantine."""
    table = with_nulls(with_nulls(make_series(LENGTHS), "time", [11]), "f0", [300])
    return run_on_disk(tmp_path_factory.mktemp("local"), table, ([170, table.num_rows - 170], [60]))


def run_on_disk(folder: Path, table: Any, cut: tuple[list[int], list[int]]) -> Job:
    """What others are compared with: a run with many checkpoints, over files and row groups of so many rows."""
    blob = save(FIT["lstm"]())
    write_cut(folder / "in", table, *cut)
    features = columns_for(read_contract(blob, name="lstm"))
    step = StepSettings(slots=4, chunk=8)
    often = {"checkpoint_s": 0.02}
    job = Job(blob, folder / "in", folder / "out", features, step=step, write={"rows_per_file": 100}, cluster=often)
    job = replace(job, quarantine_limit=1.0)
    run(job)
    return job


@pytest.fixture(scope="module")
def expected(local: Job) -> Any:
    return tidied(scores(local.output))


@pytest.fixture
def request_(local: Job, s3: S3) -> Iterator[ScoreRequest]:
    """The same run with all that it reads and writes on S3, each time into another output."""
    s3.calm()
    for path in local.path.iterdir():
        obstore.put(s3.client(), f"in/{path.name}", path)
    yield on_s3(local, s3)
    s3.calm()


def on_s3(local: Job, s3: S3) -> ScoreRequest:
    request, place = local.request(), f"s3://{BUCKET}"
    storage = s3.options(request_timeout=3.0)
    return replace(
        request,
        input=replace(request.input, path=(f"{place}/in",), storage=storage),
        output=replace(request.output, path=f"{place}/out-{next(OUTPUTS)}", storage=storage),
    )


def rows(s3: S3, request: ScoreRequest) -> Any:
    """The output's rows, as anybody's reader sees them; first the audit."""
    expect_holds(verify.run(named(request)))
    keys = {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1", "scheme": "http"}
    store = pafs.S3FileSystem(endpoint_override=s3.direct, **keys)
    folder = request.output.path.removeprefix("s3://")
    found = store.get_file_info(pafs.FileSelector(folder))
    files = sorted(one.path for one in found if one.path.endswith(".parquet"))
    return tidied(ds.dataset(files, filesystem=store).to_table())


def named(request: ScoreRequest) -> str:
    """The output as a command line names it."""
    return f"{request.output.path}?" + "&".join(f"{name}={value}" for name, value in request.output.storage.items())


def test_a_run_on_s3_has_the_scores_of_one_on_local_disk(
    s3: S3, local: Job, request_: ScoreRequest, expected: Any
) -> None:
    record = score(request_, open_cluster=in_process)
    assert record["status"] == "done"
    assert rows(s3, request_).equals(expected)
    mine = Commits(open_store(StoreSpec(str(local.output)))).run_record()
    assert mine is not None
    same = ("rows_in", "rows_scored", "rows_quarantined", "entities_scored")
    assert {name: record[name] for name in same} == {name: mine[name] for name in same}
    assert record["rows_quarantined"] > 1
    before = s3.names(request_.output.path.rpartition("/")[2])
    assert score(request_, open_cluster=no_cluster) == record
    assert s3.names(request_.output.path.rpartition("/")[2]) == before
    found = status.run(named(request_)).as_dict()
    assert (found["status"], found["rows_done"]) == ("done", found["rows_total"])


def test_interleaved_input_is_clustered_on_s3_first(s3: S3, local: Job, expected: Any, tmp_path: Path) -> None:
    table = pa.concat_tables([pq.read_table(path) for path in sorted(local.path.iterdir())])
    for half in range(2):
        write_cut(tmp_path / f"{half}", table.take(pa.array(np.arange(half, table.num_rows, 2))))
        obstore.put(s3.client(), f"mixed/{half}.parquet", tmp_path / f"{half}" / "part-000.parquet")
    request = on_s3(local, s3)
    request = replace(request, input=replace(request.input, path=(f"s3://{BUCKET}/mixed",)))
    assert score(request, open_cluster=in_process)["status"] == "done"
    scored = rows(s3, request)
    assert scored.num_rows == expected.num_rows
    assert scored.equals(expected)
    assert [name for name in s3.names(request.output.path.rpartition("/")[2]) if "/_slotcar/shuffle/" in name]


def test_no_secret_is_in_anything_that_a_run_writes(s3: S3, request_: ScoreRequest, capfd: Any) -> None:
    score(request_, open_cluster=in_process)
    client, folder = s3.client(), request_.output.path.rpartition("/")[2]
    contents = [bytes(obstore.get(client, name).bytes()) for name in s3.names(folder)]
    said = capfd.readouterr()
    everything = [*contents, said.out.encode(), said.err.encode()]
    assert len(contents) > 10
    assert [text for text in everything if SECRET.encode() in text or ACCESS.encode() in text] == []


def test_a_run_gets_through_a_bad_night_of_its_storage(s3: S3, request_: ScoreRequest, expected: Any) -> None:
    output = request_.output.path.removeprefix("s3:/")
    night = {
        f"PUT {output}/_slotcar/lock/": (Fault.LANDED,),
        f"PUT {output}/_slotcar/staged/": (Fault.CUT, Fault.LANDED),
        f"PUT {output}/_slotcar/commits/": (Fault.LANDED, Fault.SLOW_DOWN, Fault.CUT),
        f"PUT {output}/_slotcar/run.json": (Fault.INTERNAL, Fault.LANDED),
        f"PUT {output}/part-": (Fault.SLOW_DOWN, Fault.LANDED),  # copies
        f"GET {output}/_slotcar/commits/": (Fault.INTERNAL, Fault.CUT),
        f"DELETE {output}/_slotcar/staged/": (Fault.LANDED, Fault.SLOW_DOWN),
        "GET /nightly/in/": (Fault.SLOW_DOWN, Fault.CUT),
    }
    for request, faults in night.items():
        for fault in faults:
            s3.fail(fault, *request.split(" "))
    record = score(request_, open_cluster=in_process)
    assert record["status"] == "done"
    assert len(s3.struck) == sum(map(len, night.values()))
    s3.calm()
    assert rows(s3, request_).equals(expected)


OTHER_FAULTS = (pytest.param(fault, marks=pytest.mark.soak) for fault in (Fault.FORBIDDEN, Fault.SLOW_DOWN))


@pytest.mark.parametrize("fault", [Fault.SILENT, *OTHER_FAULTS])
def test_a_run_that_s3_stops_is_resumed(fault: Fault, s3: S3, request_: ScoreRequest, expected: Any) -> None:
    s3.fail(fault, "PUT", "/_slotcar/commits/", times=10**6)
    with pytest.raises(StoreFault, match="the same command resumes the run") as stopped:
        score(request_, open_cluster=in_process)
    assert SECRET not in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert str(stopped.value).count("the same command") == 1
    s3.calm()
    assert score(request_, open_cluster=in_process)["status"] == "done"
    assert rows(s3, request_).equals(expected)


def test_an_output_that_may_not_be_written_is_refused(s3: S3, request_: ScoreRequest) -> None:
    s3.fail(Fault.FORBIDDEN, "PUT", "/_slotcar/", times=10**6)
    with pytest.raises(OutputRefused, match=r"cannot be written: AccessDenied: planned\.$"):
        score(request_, open_cluster=no_cluster)


def test_of_two_drivers_on_s3_one_is_refused(s3: S3, request_: ScoreRequest, expected: Any) -> None:
    said: list[str] = []

    def second() -> None:
        with pytest.raises(OutputRefused, match="being written by another driver") as refused:
            score(request_, open_cluster=no_cluster)
        said.append(str(refused.value))
        assert refused.value.exit_code == 2

    assert score(request_, open_cluster=interrupted_by(second))["status"] == "done"
    assert [f"process {os.getpid()} on" in sentence for sentence in said] == [True]
    assert rows(s3, request_).equals(expected)


def test_a_lock_on_s3_whose_holder_stands_still_is_taken_over(s3: S3, request_: ScoreRequest) -> None:
    store = open_store(StoreSpec.of(request_.output))
    first = take_lock(store, replace(this_process("first"), machine="another"), Hands())
    first.check()
    second = take_lock(store, this_process("second"), Hands())
    assert second.number == first.number + 1
    second.check()
    with pytest.raises(LockLost, match="taken over by another driver"):
        first.check()
    second.release()
    assert take_lock(store, this_process("third"), Hands()).number == second.number + 1


def test_a_driver_on_s3_that_was_overtaken_stops(s3: S3, request_: ScoreRequest, expected: Any) -> None:
    store = open_store(StoreSpec.of(request_.output))

    def overtaken() -> None:
        claim = Claim(2, this_process("another"), released_at="later")
        assert store.put_if_absent(claim_name(2), claim.to_json())

    with pytest.raises(LockLost, match="taken over by another driver"):
        score(request_, open_cluster=interrupted_by(overtaken))
    assert score(request_, open_cluster=in_process)["status"] == "done"
    assert {record.fence for record in Commits(store).records()} == {1, 3}
    assert rows(s3, request_).equals(expected)


@pytest.mark.ray
def test_a_driver_on_s3_that_was_killed_is_taken_over(
    s3: S3, request_: ScoreRequest, expected: Any, tmp_path: Path
) -> None:
    pickled = tmp_path / "request.pickle"
    pickled.write_bytes(pickle.dumps(request_))
    command = [sys.executable, "-m", "tests.kills.kill_driver", str(pickled), "committing"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert status.run(named(request_)).as_dict()["status"] == "broken"
    assert score(request_, open_cluster=in_process)["status"] == "done"
    assert rows(s3, request_).equals(expected)


@pytest.mark.ray
def test_a_replica_on_s3_that_was_killed_costs_nothing(
    s3: S3, request_: ScoreRequest, expected: Any, tmp_path: Path
) -> None:
    mark, fleets = tmp_path / "struck", list[Fleet]()
    dying = type("DyingReplica", (DyingActor,), {"phase": "writing", "mark": mark})
    with connected(ClusterSettings(replicas=2)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedFleet, "actor_class", dying)
        trigger = Trigger("none", lambda: None)
        request = replace(request_, cluster=replace(request_.cluster, replicas=2))
        record = score(request, open_cluster=watched(trigger, fleets), open_store=watched_store(trigger))
    assert mark.exists()
    assert record["replica_deaths"] == 1
    assert rows(s3, request).equals(expected)
