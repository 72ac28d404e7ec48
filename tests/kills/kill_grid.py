"""The kill grid's cells and its job, a second night with carry-over in and out: shared by the modules that strike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from jobs.commands import verify
from jobs.commands.verify import expect_holds
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import Job, run, scores
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.kills.killing import PHASES
from tests.models.keras_models import FIT, save

LENGTHS = [200 + 31 * i for i in range(40)] + [9000]  # the last one is longer than a shard
STEP = StepSettings(slots=8, chunk=8)


def grid(quick: str) -> Any:
    """The phases, of which `make test` runs one."""
    return [phase if phase == quick else pytest.param(phase, marks=pytest.mark.soak) for phase in PHASES]


def undisturbed(folder: Path) -> Any:
    """A second night's job, and the rows and states that an undisturbed run of it leaves."""
    blob = save(FIT["lstm"]())
    table = make_series(LENGTHS)
    position = np.concatenate([np.arange(length) for length in LENGTHS])
    early = position < np.repeat(np.array(LENGTHS) // 10, LENGTHS)
    features = columns_for(read_contract(blob, name="lstm"))
    first = Job(blob, folder / "first", folder / "before", features, step=STEP, state={"write": folder / "state"})
    for name, mine in (("first", table.filter(pa.array(early))), ("in", table.filter(pa.array(~early)))):
        size = mine.num_rows // 5
        write_cut(folder / name, mine, [size] * 4 + [mine.num_rows - size * 4], [3000])
    run(first)
    write, state = {"rows_per_file": 4000}, {"read": folder / "state", "write": folder / "alone-state"}
    job = Job(blob, folder / "in", folder / "alone", features, step=STEP, write=write, state=state)
    run(job)
    return job, tidy(folder / "alone")


def tidy(output: Path) -> tuple[Any, Any]:
    """The audited output's rows and the carry-over beside it, each in one order."""
    expect_holds(verify.run(output))
    files = sorted(output.with_name(f"{output.name}-state").glob("*.parquet"))
    states = pa.concat_tables([pq.read_table(path) for path in files])
    return scores(output).sort_by([("entity", "ascending"), ("time", "ascending")]), states.sort_by("entity")


def request_in(case: Any, output: Path, address: str = "") -> Any:
    job = case[0]
    state = {**job.state, "write": output.with_name(f"{output.name}-state")}
    fields = {"features": job.features, "step": job.step, "write": job.write, "state": state}
    cluster = {"checkpoint_s": 0.05, "address": address}
    return Job(job.model, job.path, output, replicas=2, cluster=cluster, **fields).request()
