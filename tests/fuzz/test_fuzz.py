"""Whatever stands in a file: scores that equal the truth, a quarantine that adds up, or one sentence.

The product reads each input in a process that is watched, since a fault of reading may end it or make it wait for ever.
`python -m tests.fuzz --count N --seed S` plays other seeds; those that have failed once are in `seeds.txt`, and are
played here for ever.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.cases import write
from tests.fuzz.judge import Judge
from tests.fuzz.tables import Drawn, drawn

KEPT = [
    int(line.split()[0]) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines() if line[:1] != "#"
]
AT_ONCE = 20  # seeds of a test


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as both:
        yield both


def play(judge: Judge, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = write(seed, Path(folder) / "in")
        try:
            judge.of(Path(folder))
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}, {case.faults}: {wrong}") from None


@pytest.mark.parametrize("first", range(0, 120, AT_ONCE))
def test_bytes_with_faults_are_scored_rightly_or_refused(judge: Judge, first: int) -> None:
    for seed in (*range(first, first + AT_ONCE), *(KEPT if first == 0 else ())):
        play(judge, seed)


def check(judge: Judge, table: Drawn) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table.write(Path(folder) / "in")
        judge.of(Path(folder), whole=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(drawn())
def test_tables_of_any_types_are_scored_rightly(judge: Judge, table: Drawn) -> None:
    check(judge, table)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1_000, 21_000, 500))
def test_many_more_bytes_with_faults(judge: Judge, first: int) -> None:
    for seed in range(first, first + 500):
        play(judge, seed)


@pytest.mark.soak
@settings(max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
@given(drawn())
def test_many_more_tables(judge: Judge, table: Drawn) -> None:
    check(judge, table)
