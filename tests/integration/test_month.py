"""A month of nights as a scheduler drives them: by date, through `jobs.api`, with retries that resume.

Each day's file is there when its night comes. What fails is real: a disk that is full, a file that is truncated. The
retries are those of the examples: what can be resumed is tried again, and nothing else.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.runtime.run.run import score
from jobs import api
from jobs.commands import score as score_job
from jobs.job_package import as_toml
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_FAILED, EXIT_USAGE
from tests.harness.inprocess import in_process, scores, tidied
from tests.harness.truth import columns_for
from tests.inputs.series import with_nulls, write_cut
from tests.integration.test_nights import NIGHTS, last_state, nights_of, sporadic
from tests.integration.test_storage_faults import failing
from tests.models.keras_models import FIT, save

FIRST = date(2026, 1, 1)  # the day on which the series begin
RETRIES = 2
FULL_NIGHT, TRUNCATED_NIGHT = 9, 20
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
MODEL = save(FIT["parallel_memories"]())


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`jobs.api` scores in this process."""
    monkeypatch.setattr(score_job, "score", partial(score, open_cluster=in_process))


class Month:
    """A folder with a configuration, into which days arrive."""

    def __init__(self, folder: Path, table: Any, first: date = FIRST) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "m.keras").write_bytes(MODEL)
        features = columns_for(read_contract(MODEL, name="m"))
        values: dict[str, Any] = {
            "model": {"path": "m.keras", "slots": 5, "chunk": 4},
            "input": {"path": "in", "entity": "entity", "time": "time"},
            "output": {"path": "unused", "rows_per_file": 60},
            "cluster": {"replicas": 1},
            "faults": {"quarantine_limit": 1.0},
        }
        values["input"]["features"] = {name: list(columns) for name, columns in features}
        (folder / "nightly.toml").write_text(as_toml(values))
        self.folder, self.first, self._table = folder, first, table

    def day(self, night: int) -> Path:
        return self.folder / "in" / f"{self.first + timedelta(night)}"

    def arrives(self, night: int, table: Any = None) -> None:
        """The rows of a day, clustered by entity."""
        mine = (table or self._table).filter(pa.array(self._table.column("night").to_numpy() == night))
        write_cut(self.day(night), tidied(mine), [mine.num_rows], [37])

    def score(self, night: int, *overrides: str) -> api.RunSummary:
        """As the DAG's task does."""
        day = self.first + timedelta(night)
        return api.night(self.folder / "nightly.toml", day, first=self.first, overrides=overrides)

    def scores(self) -> Any:
        return tidied(pa.concat_tables([scores(path) for path in sorted((self.folder / "scores").iterdir())]))


def with_retries(task: Callable[[], api.RunSummary], between: Callable[[], None]) -> tuple[api.RunSummary, int]:
    """What the task returns, and the attempt at which it did; `between` happens before each further one."""
    for attempt in range(1, RETRIES + 1):
        try:
            return task(), attempt
        except SlotcarError as fault:
            if fault.exit_code != EXIT_FAILED:  # nothing that a retry would mend
                raise
            between()
    return task(), RETRIES + 1


def full_disk(month: Month, night: int) -> tuple[api.RunSummary, int]:
    """The disk is full, at another moment of each attempt but the last."""
    moments: Iterator[int] = iter([25, 5])

    def task() -> api.RunSummary:
        with failing(os, "fsync", DISK_FULL, next(moments, 10**9)):
            return month.score(night)

    return with_retries(task, lambda: None)


def truncated_file(month: Month, night: int) -> tuple[api.RunSummary, int]:
    """The day's file has arrived in part; before the second attempt it is whole."""
    (path,) = month.day(night).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return with_retries(lambda: month.score(night), lambda: month.arrives(night))


@pytest.mark.usefixtures("impatient")
def test_a_month_with_two_nights_that_fail_and_are_retried_ends_in_the_state_of_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    table = nights_of(sporadic())
    calm, storm = Month(tmp_path / "calm", table), Month(tmp_path / "storm", table)
    attempts = {}
    for night in range(NIGHTS):
        for month in (calm, storm):
            month.arrives(night)
        undisturbed = calm.score(night)
        act = {FULL_NIGHT: full_disk, TRUNCATED_NIGHT: truncated_file}.get(
            night, lambda month, night: (month.score(night), 1)
        )
        summary, attempts[night] = act(storm, night)
        assert (summary.rows_scored, summary.entities_scored) == (undisturbed.rows_scored, undisturbed.entities_scored)
    assert {night: number for night, number in attempts.items() if number > 1} == {FULL_NIGHT: 3, TRUNCATED_NIGHT: 2}
    assert last_state(storm.folder).equals(last_state(calm.folder))
    assert storm.scores().equals(calm.scores())
    assert calm.scores().num_rows == table.num_rows


def test_a_finished_night_is_left_alone_and_one_out_of_order_is_refused(tmp_path: Path) -> None:
    month = Month(tmp_path / "month", nights_of(sporadic()))
    for night in range(3):
        month.arrives(night)
    assert month.score(0).record == month.score(0).record
    with pytest.raises(SlotcarError, match=r"state\.read") as refused:
        month.score(2)
    assert refused.value.exit_code == EXIT_USAGE
    month.score(1)
    assert month.score(2).status == "done"


def test_a_broken_entity_is_repaired_by_a_night_that_reads_from_its_bad_row_on(tmp_path: Path) -> None:
    table = nights_of(sporadic())
    night, entity = table.column("night").to_numpy(), table.column("entity").to_numpy(zero_copy_only=False)
    bad = int(np.flatnonzero((night == 1) & (entity == "e001"))[2])
    calm, storm = Month(tmp_path / "calm", table), Month(tmp_path / "storm", table)
    for day in range(4):
        calm.arrives(day)
        calm.score(day)
        storm.arrives(day, with_nulls(table, "f0", [bad]) if day == 1 else None)
        if day < 3:
            assert (storm.score(day).rows_quarantined > 0) == (day > 0)
    storm.arrives(1)  # mended
    storm.score(3, f"input.since={FIRST + timedelta(1)}", "state.late=drop")
    mine, wanted = storm.scores(), calm.scores()
    assert mine.select(["entity", "time"]).equals(wanted.select(["entity", "time"]))
    assert np.abs(mine.column("score").to_numpy() - wanted.column("score").to_numpy()).max() < 1e-6
    told = ["entity", "last_time", "rows_seen", "broken_since"]
    assert last_state(storm.folder).select(told).equals(last_state(calm.folder).select(told))
