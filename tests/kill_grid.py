"""The kill grid's cells and its job: shared by the modules that strike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.core.settings import StepSettings
from jobs import verify
from jobs.verify import expect_holds
from lstm_core.contract import read_contract
from tests.inprocess import Job, run, scores
from tests.killing import PHASES
from tests.models import FIT, save
from tests.series import make_series, write_cut
from tests.truth import columns_for

LENGTHS = [200 + 31 * i for i in range(40)] + [9000]  # the last one is longer than a shard
ROOT = Path(__file__).parents[1]


def grid(quick: str) -> Any:
    """The phases, of which `make test` runs one."""
    return [phase if phase == quick else pytest.param(phase, marks=pytest.mark.soak) for phase in PHASES]


def undisturbed(folder: Path) -> Any:
    """A job, and the rows that an undisturbed run leaves."""
    blob = save(FIT["lstm"]())
    table = make_series(LENGTHS)
    write_cut(folder / "in", table, [table.num_rows // 5] * 4 + [table.num_rows - table.num_rows // 5 * 4], [3000])
    features = columns_for(read_contract(blob, name="lstm"))
    step = StepSettings(slots=8, chunk=8)
    job = Job(blob, folder / "in", folder / "alone", features, step=step, write={"rows_per_file": 4000})
    run(job)
    return job, tidy(folder / "alone")


def tidy(output: Path) -> Any:
    """The audited output's rows, in one order."""
    expect_holds(verify.run(output))
    return scores(output).sort_by([("entity", "ascending"), ("time", "ascending")])


def request_in(case: Any, output: Path, address: str = "") -> Any:
    job = case[0]
    fields = {"features": job.features, "step": job.step, "write": job.write}
    cluster = {"checkpoint_s": 0.05, "address": address}
    return Job(job.model, job.path, output, replicas=2, cluster=cluster, **fields).request()
