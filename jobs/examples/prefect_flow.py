"""A nightly run as a Prefect flow: one task, the date as a parameter, retries that resume, the figures as an artifact.

The same flow again goes on from what is committed, and does nothing on a finished run. `python prefect_flow.py` serves
it: every night at two, one at a time.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from jobs import api
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_FAILED

CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = "2026-11-01"


def resumes(task: Any, run: Any, state: Any) -> bool:
    """False for what no retry would mend: a mistake, or too much quarantine."""
    fault = state.result(raise_on_failure=False)
    return not isinstance(fault, SlotcarError) or fault.exit_code == EXIT_FAILED


@task(retries=2, retry_delay_seconds=60, retry_condition_fn=resumes)
def night(day: str) -> dict[str, Any]:
    """Scores a day's rows, from the state of the night before."""
    return api.night(CONFIG, day, first=FIRST).figures


@flow
def slotcar_nightly(day: str | None = None) -> dict[str, Any]:
    """The night of `day`; by default of yesterday, in UTC."""
    figures = night(day or str(datetime.now(UTC).date() - timedelta(days=1)))
    create_table_artifact(key="slotcar-night", table=[figures])
    return figures


if __name__ == "__main__":
    slotcar_nightly.serve(name="nightly", cron="0 2 * * *", limit=1)
