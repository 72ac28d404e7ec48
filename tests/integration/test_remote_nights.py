"""Two nights whose input, scores and carry-over lie in a remote store: those of two nights on local disk.

S3 is a real server; HDFS is an imitation, see `tests.fakes.hdfs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.carry import carry_schema
from cluster.core.settings import StateSettings
from cluster.run_errors import InputRefused, OutputRefused, StoreFault
from cluster.runtime.carry.carry_plan import find_carry
from cluster.runtime.commit.run_request import ScoreRequest
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.run.run import score
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import read_table
from jobs.commands import state, status, verify
from tests.fakes.hdfs import HOST, Hadoop, Planned, hadoop
from tests.fakes.s3_server import BUCKET, S3
from tests.harness.inprocess import Job, in_process, run, scores, tidied
from tests.inputs.series import write_cut
from tests.integration.test_nights import job_of, last_state, nights_of, sporadic

pytestmark = pytest.mark.timeout(600)

NIGHTS = 2


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two nights on local disk, of which the second goes on from the first."""
    folder = tmp_path_factory.mktemp("nights")
    table = nights_of(sporadic()[:NIGHTS] * 3)
    job = job_of(folder, write={"rows_per_file": 40})
    for night in range(NIGHTS):
        mine = tidied(table.filter(pa.array(table.column("night").to_numpy() == night)))
        write_cut(folder / f"in{night}", mine, [mine.num_rows // 2, mine.num_rows - mine.num_rows // 2], [20])
        read = {"read": folder / "state" / f"{night - 1}"} if night else {}
        after = {**read, "write": folder / "state" / f"{night}"}
        run(replace(job, path=folder / f"in{night}", output=folder / f"out{night}", state=after, run_id=f"n{night}"))
    return replace(job, path=folder)


@pytest.fixture
def name_node(tmp_path: Path) -> Iterator[Hadoop]:
    with hadoop(tmp_path) as server:
        yield server


@pytest.fixture(params=["s3", "hdfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSpec:
    if request.param == "hdfs":
        request.getfixturevalue("name_node")
        return StoreSpec(f"{HOST}/lake")
    s3: S3 = request.getfixturevalue("s3")
    s3.calm()
    return StoreSpec(f"s3://{BUCKET}/{tmp_path.name}", s3.options())


def below(place: StoreSpec, name: str) -> StoreSpec:
    return StoreSpec(f"{place.url}/{name}", place.options)


def named(place: StoreSpec) -> str:
    """As a command line names it."""
    return f"{place.url}?" + "&".join(f"{name}={value}" for name, value in place.options.items())


def one_night(local: Job, place: StoreSpec, night: int) -> ScoreRequest:
    """The same night with all that it reads and writes below `place`."""
    for path in (local.path / f"in{night}").iterdir():
        open_store(place).write(f"in{night}/{path.name}", path.read_bytes())
    request = replace(local, run_id=f"n{night}").request()
    asked = replace(request.input, path=(below(place, f"in{night}").url,), storage=place.options)
    output = replace(request.output, path=below(place, f"out{night}").url, storage=place.options)
    read = below(place, f"state{night - 1}").url if night else None
    carried = StateSettings(read=read, write=below(place, f"state{night}").url)
    schema = carry_schema(check_schema(asked, request.contract, list_files(asked)), asked, request.contract)
    carry = find_carry(carried, schema, place.options)
    return replace(request, input=asked, output=output, carry=carry)


def rows(place: StoreSpec, name: str) -> Any:
    store = open_store(below(place, name))
    return pa.concat_tables([read_table(store, file) for file in store.list("") if file.endswith(".parquet")])


def test_two_nights_in_a_remote_store_are_those_on_local_disk(local: Job, place: StoreSpec) -> None:
    for night in range(NIGHTS):
        assert score(one_night(local, place, night), open_cluster=in_process)["status"] == "done"
        assert tidied(rows(place, f"out{night}")).equals(tidied(scores(local.path / f"out{night}")))
        verify.expect_holds(verify.run(named(below(place, f"out{night}"))))
        assert status.run(named(below(place, f"out{night}"))).as_dict()["status"] == "done"
        assert open_store(below(place, f"state{night}")).exists("_SUCCESS")
    assert rows(place, f"state{NIGHTS - 1}").sort_by("entity").equals(last_state(local.path))
    before, after = (named(below(place, f"state{night}")) for night in range(NIGHTS))
    shown = state.show(after, ["e000"]).as_dict()
    assert shown["entities"] == rows(place, "state1").num_rows
    assert state.diff(before, after).as_dict()["gone"] == 0


def test_a_night_whose_carry_over_is_not_there_is_refused(local: Job, place: StoreSpec) -> None:
    with pytest.raises(InputRefused, match="state0"):
        one_night(local, place, 1)


def test_a_run_that_hdfs_stops_is_resumed(local: Job, name_node: Hadoop) -> None:
    place = StoreSpec(f"{HOST}/lake")
    request = one_night(local, place, 0)
    denied = PermissionError(13, "Permission denied")
    name_node.planned += [Planned("rename", denied, part="/_slotcar/commits")] * 50
    with pytest.raises(StoreFault, match="the same command resumes the run"):
        score(request, open_cluster=in_process)
    assert status.run(named(below(place, "out0"))).as_dict()["status"] == "failed"
    name_node.planned.clear()
    lost = OSError("HDFS Rename failed: the connection broke")
    name_node.planned += [
        Planned("rename", lost, part=part, landed=landed)
        for part in ("/_slotcar/commits", "/out0/part-", "/state0/part-")
        for landed in (True, False)
    ]
    assert score(request, open_cluster=in_process)["status"] == "done"
    assert name_node.planned == []
    assert tidied(rows(place, "out0")).equals(tidied(scores(local.path / "out0")))
    verify.expect_holds(verify.run(named(below(place, "out0"))))


def test_another_run_takes_an_output_on_hdfs_over_only_where_it_may(local: Job, name_node: Hadoop) -> None:
    place = StoreSpec(f"{HOST}/lake")
    first = one_night(local, place, 0)
    assert score(first, open_cluster=in_process)["status"] == "done"
    second = replace(first, run_id="another", identity="another", run="1test1")
    with pytest.raises(OutputRefused, match="another run, n0"):
        score(second, open_cluster=in_process)
    overwriting = replace(second, output=replace(second.output, overwrite=True))
    record = score(overwriting, open_cluster=in_process)
    assert (record["status"], record["run_id"]) == ("done", "another")
    assert tidied(rows(place, "out0")).equals(tidied(scores(local.path / "out0")))
    verify.expect_holds(verify.run(named(below(place, "out0"))))


def test_interleaved_input_is_clustered_on_hdfs_first(local: Job, name_node: Hadoop, tmp_path: Path) -> None:
    place, table = StoreSpec(f"{HOST}/lake"), pq.read_table(local.path / "in0")
    request = one_night(local, place, 0)
    for half in range(2):
        write_cut(tmp_path / f"{half}", table.take(pa.array(np.arange(half, table.num_rows, 2))))
        content = (tmp_path / f"{half}" / "part-000.parquet").read_bytes()
        open_store(place).write(f"in0/part-{half:03d}.parquet", content)
    assert score(request, open_cluster=in_process)["status"] == "done"
    assert tidied(rows(place, "out0")).equals(tidied(scores(local.path / "out0")))
    verify.expect_holds(verify.run(named(below(place, "out0"))))
