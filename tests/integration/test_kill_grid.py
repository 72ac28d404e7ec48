"""The kill grid: `kill -9` of each of those who can die, in each phase of a real run.

After each, the same command ends with the rows of an undisturbed run, bit for bit. `make test` runs one phase for each,
`make soak` the whole grid.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.fleet import Fleet
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.run.run import score
from tests.kills.kill_grid import grid, request_in, tidy, undisturbed
from tests.kills.killing import DyingActor, Trigger, WatchedFleet, watched, watched_store
from tests.paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return undisturbed(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def embedded() -> Iterator[None]:
    """One cluster for the replicas that are killed."""
    with connected(ClusterSettings(replicas=2)):
        yield


@pytest.mark.parametrize("phase", grid(quick="stepping"))
def test_killed_replica_during(phase: str, case: Any, embedded: None, tmp_path: Path) -> None:
    output, mark = tmp_path / "out", tmp_path / "struck"
    actor = type("DyingReplica", (DyingActor,), {"phase": phase, "mark": mark})
    fleets: list[Fleet] = []

    def strike() -> None:
        mark.touch()
        os.kill(fleets[0].infos[0].pid, signal.SIGKILL)

    in_replica = phase not in ("committing", "finishing")
    trigger = Trigger("none" if in_replica else phase, strike)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedFleet, "actor_class", actor if in_replica else WatchedFleet.actor_class)
        record = score(
            request_in(case, output), open_cluster=watched(trigger, fleets), open_store=watched_store(trigger)
        )
    assert mark.exists()
    assert record["replica_deaths"] == (0 if phase == "finishing" else 1)
    assert tidy(output) == case[1]


@pytest.mark.parametrize("phase", grid(quick="committing"))
def test_killed_driver_during(phase: str, case: Any, tmp_path: Path) -> None:
    output, pickled = tmp_path / "out", tmp_path / "request.pickle"
    request = request_in(case, output)
    pickled.write_bytes(pickle.dumps(request))
    command = [sys.executable, "-m", "tests.kills.kill_driver", str(pickled), phase]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (output / "_SUCCESS").exists()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    ended = subprocess.run([*command[:-1], "none"], cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert tidy(output) == case[1]
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert {name: after[name] for name in before} == before
