"""Runs that the tree before the house was rebuilt has begun: the new one resumes them, and calls them by the same name.

`tests/stored/half_done.tar.gz` holds what that tree left on disk when its driver ended in the middle of two runs: a
second night with carry-over, and one of interleaved input; `@FOLDER@` stands for where they lay.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from jobs.commands import verify
from jobs.commands.verify import expect_holds
from jobs.config.configuration import load_config
from jobs.config.run_identity import derive_run_id
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job, run, tidy
from tests.harness.truth import columns_for
from tests.paths import ROOT

ARCHIVE = ROOT / "tests" / "stored" / "half_done.tar.gz"
STEP = StepSettings(slots=8, chunk=8)

# Python has it from 3.11.4 on, and warns from 3.12 on where it is not given.
SAFELY: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What the earlier tree has left, in a folder of this test."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, **SAFELY)
    for path in tmp_path.rglob("*.json"):
        path.write_text(path.read_text().replace("@FOLDER@", str(tmp_path)))
    return tmp_path


def night(folder: Path, output: str, read: str | None = "state") -> Job:
    """The job of one of the two runs; without `read` the one of interleaved input."""
    model = (folder / "model.keras").read_bytes()
    features = columns_for(read_contract(model, name="lstm"))
    state = {"read": folder / read, "write": folder / f"{output}-state"} if read else {}
    given = {"write": {"rows_per_file": 300}, "state": state, "cluster": {"checkpoint_s": 0.0001}}
    return Job(model, folder / ("in" if read else "mixed"), folder / output, features, step=STEP, **given)


@pytest.mark.parametrize(("output", "read"), [("night", "state"), ("shuffled", None)])
def test_a_run_that_an_earlier_tree_has_begun_is_resumed(
    output: str, read: str | None, left: Path, impatient: None
) -> None:
    committed = {path: path.read_bytes() for path in (left / output).glob("*.parquet")}
    assert committed, "the stored run had committed something"
    record = run(night(left, output, read))
    assert (record["status"], record["rows_scored"]) == ("done", record["rows_in"])
    assert {path: path.read_bytes() for path in committed} == committed  # nothing was scored again
    expect_holds(verify.run(str(left / output)))
    run(night(left, "alone", read))  # the same input, from the first row to the last by this tree
    found, expected = tidy(left / output), tidy(left / "alone")
    *keys, score = expected.column_names
    assert found.select(keys).equals(expected.select(keys))
    # Not bit for bit: what was committed then was computed on another processor.
    np.testing.assert_allclose(found[score].to_numpy(), expected[score].to_numpy(), atol=1e-6)


def test_carry_over_of_an_earlier_tree_goes_on_in_the_columns_that_it_had(left: Path, impatient: None) -> None:
    [before] = (left / "state").glob("*.parquet")
    run(night(left, "night"))
    after = sorted((left / "night-state").glob("*.parquet"))
    assert {pq.read_schema(path).remove_metadata() for path in after} == {pq.read_schema(before).remove_metadata()}


@dataclass(frozen=True)
class Listed:
    """A file of an input, as a listing has it."""

    path: str
    size_bytes: int
    modified_ns: int


FILES = [Listed("/lake/flights/b.parquet", 2, 3), Listed("/lake/flights/a.parquet", 1, 2)]
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "input": {
        "path": "/lake/flights",
        "entity": ["tailnum"],
        "time": ["time_hour", "flight"],
        "features": ["dep_delay", "distance"],
    },
    "output": {"path": "/scores/night"},
}
FULL: Mapping[str, Mapping[str, Any]] = {
    "model": {"slots": 64, "chunk": 32, "tail": "drop", "jit": False},
    "input": {
        **PLAIN["input"],
        "path": ["/lake/a", "s3://lake/b"],
        "since": "2026-11-20",
        "until": "2026-11-21",
        "fill": {"dep_delay": 0.0, "distance": "previous"},
        "vocabulary": {"distance": ["a", "b"]},
        "layout": "shuffle",
    },
    "output": {"path": "/scores/night", "keep": ["origin"], "rows_per_file": 1000},
    "state": {"read": "/state/a", "write": "/state/b", "late": "drop"},
    "faults": {"bad_entity": "fail", "ties": "fail"},
    "cluster": {"replicas": 3},
}


@pytest.mark.parametrize(
    ("sections", "carried", "expected"),
    [(PLAIN, None, "run-d3846fccb972dd74"), (FULL, "0123", "run-333ac95f48277251")],
    ids=["plain", "full"],
)
def test_a_configuration_names_the_run_that_it_named_before(
    sections: Mapping[str, Mapping[str, Any]], carried: str | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "delays.keras").touch()
    model = {**sections.get("model", {}), "path": str(tmp_path / "delays.keras")}  # where a model lies names no run
    config = load_config(json.loads(json.dumps({**sections, "model": model})))
    assert derive_run_id(config, "f" * 64, FILES, carried) == expected
