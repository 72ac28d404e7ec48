"""A nightly run as an Airflow DAG: one task, the date from the schedule, retries that resume.

The same task again goes on from what is committed, and does nothing on a finished run; so Airflow's retries, a cleared
task and a backfill are all the same command. The run's figures are what the task returns, its XCom. Slotcar runs by its
command, SLOTCAR, in an environment of its own: nothing of it is imported here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

SLOTCAR = os.environ.get("SLOTCAR", "slotcar")  # as in /srv/slotcar/bin/slotcar
CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = datetime(2026, 11, 1)
RESUMES = 1  # the exit code of a run that a retry goes on with


def command_of(day: date) -> list[str]:
    """The night of `day`: its rows, its folders, and the state of the night before."""
    after, before = day + timedelta(days=1), day - timedelta(days=1)
    keys = [f"run_id=nightly-{day}", f"input.since={day}", f"input.until={after}"]
    keys += [f"output.path=scores/{day}", f"state.write=state/{day}"]
    keys += [f"state.read=state/{before}"] if day > FIRST.date() else []
    return [SLOTCAR, "score", CONFIG, "--json", *(word for key in keys for word in ("--set", key))]


# Nights follow each other, since each one's state is the next one's beginning: none is left out, none overtakes, and
# one whose predecessor has failed is refused by the run itself.
@dag(schedule="@daily", start_date=FIRST, catchup=True, max_active_runs=1)
def slotcar_nightly() -> None:
    """Scores a day's rows, from the state of the night before."""

    @task(retries=2, retry_delay=timedelta(minutes=5))
    def night(ds: str | None = None) -> dict[str, Any]:
        assert ds is not None, "Airflow gives a task its date"
        done = subprocess.run(command_of(date.fromisoformat(ds)), capture_output=True, text=True)
        print(done.stderr, file=sys.stderr)
        if done.returncode == 0:
            return {
                name: value for name, value in json.loads(done.stdout).items() if isinstance(value, int | float | str)
            }
        sentence = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if done.returncode in (RESUMES, 143) or done.returncode < 0:  # or a signal has ended it
            raise RuntimeError(sentence)  # a retry resumes it
        raise AirflowFailException(sentence)  # nothing that a retry would mend

    night()


nightly = slotcar_nightly()
