"""A month of nights as Airflow drives them: `python -m tests.harness.airflow_month FOLDER`, with Airflow installed.

The DAG of the examples, a date after the other, each on a Ray of its own, with Airflow's own retries. Two nights fail
as they do in `test_month`: a disk that is full at two attempts, and a file that is truncated at one.
FOLDER/attempts.json says how many attempts Airflow made of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import api
from lstm_core.errors import SlotcarError
from tests.inputs.series import DAY_ZERO, replace
from tests.integration.test_month import DISK_FULL, FULL_NIGHT, TRUNCATED_NIGHT, Month
from tests.integration.test_nights import NIGHTS, nights_of, sporadic
from tests.integration.test_storage_faults import failing

FIRST = date(2026, 11, 1)  # the DAG's
FULL_AT = {1: 20, 2: 5}  # attempt -> the call to make a file durable at which the disk is full


def month_of(folder: Path) -> Month:
    """The series of `test_month`, on the DAG's dates."""
    table = nights_of(sporadic())
    shift = np.datetime64(str(FIRST)) - DAY_ZERO
    return Month(folder, replace(table, "time", pa.array(table.column("time").to_numpy() + shift)), FIRST)


class Trouble:
    """In place of the DAG's `subprocess`: the command in this process, but for what goes wrong."""

    def __init__(self, month: Month) -> None:
        self._month, self._attempts = month, Counter[int]()

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        config, keys = command[2], [key for key in command[3:] if not key.startswith("--")]
        day = keys[0].removeprefix("run_id=nightly-")
        try:
            summary = self.night(config, keys, (date.fromisoformat(day) - FIRST).days)
        except SlotcarError as fault:
            return subprocess.CompletedProcess(command, fault.exit_code, "", str(fault))
        return subprocess.CompletedProcess(command, 0, json.dumps(summary.figures), "")

    def night(self, config: str, keys: Sequence[str], night: int) -> api.RunSummary:
        self._attempts[night] += 1
        attempt = self._attempts[night]
        if night == FULL_NIGHT and attempt in FULL_AT:
            with failing(os, "fsync", DISK_FULL, FULL_AT[attempt]):
                return api.score(config, overrides=keys)
        if night == TRUNCATED_NIGHT and attempt == 1:
            return self._truncated(night, config, keys)
        return api.score(config, overrides=keys)

    def _truncated(self, night: int, config: str, keys: Sequence[str]) -> api.RunSummary:
        """The day's file has arrived in part; before the next attempt it is whole."""
        (path,) = self._month.day(night).iterdir()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            return api.score(config, overrides=keys)
        finally:
            self._month.arrives(night)


def main(folder: Path) -> None:
    """Airflow's database is there, and SLOTCAR_CONFIG names the month's configuration."""
    from jobs.examples import airflow_dag

    month, attempts = month_of(folder), {}
    airflow_dag.subprocess = SimpleNamespace(run=Trouble(month).run)  # type: ignore[assignment]
    airflow_dag.nightly.get_task("night").retry_delay = timedelta(seconds=1)
    for night in range(NIGHTS):
        month.arrives(night)
        day = datetime.combine(FIRST + timedelta(night), time(), UTC)
        run = airflow_dag.nightly.test(logical_date=day)
        (task,) = run.get_task_instances()
        attempts[night] = task.try_number
        assert run.state == "success", f"the night of {day} has ended as {run.state}"
    (folder / "attempts.json").write_text(json.dumps(attempts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
