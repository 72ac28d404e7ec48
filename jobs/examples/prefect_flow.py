"""A nightly run as a Prefect flow: one task, the date as a parameter, retries that resume, the figures as an artifact.

The same flow again goes on from what is committed, and does nothing on a finished run. `python prefect_flow.py` serves
it: every night at two, one at a time. Slotcar runs by its command, SLOTCAR, in an environment of its own: nothing of it
is imported here.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact

SLOTCAR = os.environ.get("SLOTCAR", "slotcar")  # as in /srv/slotcar/bin/slotcar
CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = "2026-11-01"
RESUMES = 1  # the exit code of a run that a retry goes on with


class NothingToRetry(Exception):
    """A mistake, or too much quarantine."""


def command_of(day: date) -> list[str]:
    """The night of `day`: its rows, its folders, and the state of the night before."""
    after, before = day + timedelta(days=1), day - timedelta(days=1)
    keys = [f"run_id=nightly-{day}", f"input.since={day}", f"input.until={after}"]
    keys += [f"output.path=scores/{day}", f"state.write=state/{day}"]
    keys += [f"state.read=state/{before}"] if str(day) > FIRST else []
    return [SLOTCAR, "score", CONFIG, "--json", *(word for key in keys for word in ("--set", key))]


def resumes(task: Any, run: Any, state: Any) -> bool:
    """False for what no retry would mend."""
    return not isinstance(state.result(raise_on_failure=False), NothingToRetry)


@task(retries=2, retry_delay_seconds=60, retry_condition_fn=resumes)
def night(day: str) -> dict[str, Any]:
    """Scores a day's rows, from the state of the night before."""
    done = subprocess.run(command_of(date.fromisoformat(day)), capture_output=True, text=True)
    print(done.stderr, file=sys.stderr)
    if done.returncode == 0:
        return {name: value for name, value in json.loads(done.stdout).items() if isinstance(value, int | float | str)}
    sentence = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode in (RESUMES, 143) or done.returncode < 0:  # or a signal has ended it
        raise RuntimeError(sentence)
    raise NothingToRetry(sentence)


@flow
def slotcar_nightly(day: str | None = None) -> dict[str, Any]:
    """The night of `day`; by default of yesterday, in UTC."""
    figures = night(day or str(datetime.now(UTC).date() - timedelta(days=1)))
    create_table_artifact(key="slotcar-night", table=[figures])
    return figures


if __name__ == "__main__":
    slotcar_nightly.serve(name="nightly", cron="0 2 * * *", limit=1)
