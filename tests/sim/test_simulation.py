"""The whole job under seeds: whatever fails, nothing is lost and nothing is there twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.sim.__main__ import main
from tests.sim.faults import Fault
from tests.sim.options import Options, Sizes, Storm
from tests.sim.world import Outcome, World

SEEDS, BLOCK = 320, 40

# Two shards of several fragments each, one of them with a bad row.
SMALL = Sizes(
    lengths=(7, 3, 5, 9),
    good=(7, 2, 5, 9),
    poison=frozenset(),
    shard_rows=15,
    slots=2,
    chunk=2,
    replicas=2,
    max_attempts=3,
    arena_rows=1000,
    rows_per_file=6,
    checkpoint=0.5,
)
QUIET = Storm(lasts_s=0.0)
FOR_EVER_S = 1e9  # the only fault comes from a test


def played(seed: int, storm: Storm, sizes: Sizes = SMALL) -> Outcome:
    return World(seed, options=Options(sizes, storm)).run()


def calls_of_a_quiet_run() -> int:
    world = World(0, options=Options(SMALL, QUIET))
    world.run()
    return len(world.drivers[0].store.calls)


@pytest.mark.parametrize("start", range(0, SEEDS, BLOCK))
def test_every_seed_ends_with_every_row_once(start: int) -> None:
    for seed in range(start, start + BLOCK):
        World(seed).run()


def test_a_run_without_a_fault_takes_one_session_and_loses_nothing() -> None:
    for seed in range(10):
        outcome = played(seed, QUIET)
        assert outcome.sessions == 1
        assert outcome.met == {"a lock is taken": 1}


def test_the_same_seed_gives_the_same_history() -> None:
    for seed in range(60):
        assert World(seed).run() == World(seed).run()


def test_seeds_differ() -> None:
    assert len({World(seed).run().trace for seed in range(20)}) == 20


@pytest.mark.parametrize("kind", Fault)
def test_any_call_of_the_store_may_fail(kind: Fault) -> None:
    """For every n the driver's n-th call fails in this way, and once more each with other timing."""
    met, calls = 0, calls_of_a_quiet_run()
    for number in range(calls):
        for seed in (0, 1):
            storm = Storm(FOR_EVER_S, fail_at=number, store_kinds=(kind,))
            met += played(seed, storm).met.get(f"driver's call {kind.name}", 0)
    assert met >= calls


def test_a_driver_may_be_overtaken_at_any_call_and_wake_up() -> None:
    overtaken = 0
    for number in range(calls_of_a_quiet_run()):
        outcome = played(number, Storm(FOR_EVER_S, pause_at=number))
        overtaken += outcome.met.get("LockLost", 0) + outcome.met.get("RunFailed", 0)
    assert overtaken > 20


def test_answers_that_come_twice_take_no_snapshot_that_is_needed() -> None:
    """The second one brings a fragment that is committed: what its record names must stay."""
    deaths = 0
    for seed in range(40):
        storm = Storm(30.0, death=0.1, twice=1.0)
        deaths += played(seed, storm).met.get("a replica dies in a step", 0)
    assert deaths > 20


def test_a_replica_that_is_taken_for_dead_writes_over_no_file_of_the_driver() -> None:
    """It stages the shard's quarantine as the driver does that has given the shard up."""
    given_up = 0
    for seed in range(100):
        storm = Storm(30.0, parted=0.3, delay_s=1.0)
        sizes = Sizes(**{**vars(SMALL), "max_attempts": 1, "good": (6, 2, 4, 8)})
        given_up += played(seed, storm, sizes).met.get("a shard is given up", 0)
    assert given_up > 50


def test_the_command_says_what_it_saw_and_is_the_same_in_any_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "20", "--start", "100"]) == 0
    here = capsys.readouterr().out
    command = [sys.executable, "-m", "tests.sim", "--count", "20", "--start", "100", "--jobs", "2"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert here.startswith("20 seeds from 100: none failed; digest ")
    assert there.stdout.split("; ")[:2] == here.split("; ")[:2]


def test_one_seed_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3"]) == 0
    assert "driver 1 starts" in capsys.readouterr().out
