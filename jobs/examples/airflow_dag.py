"""A nightly run as an Airflow DAG: one task, the date from the schedule, retries that resume.

The same task again goes on from what is committed, and does nothing on a finished run; so Airflow's retries, a cleared
task and a backfill are all the same command. The run's figures are what the task returns, its XCom.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

from jobs import api
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_FAILED

CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = datetime(2026, 11, 1)


# Nights follow each other, since each one's state is the next one's beginning: none is left out, none overtakes, and
# one whose predecessor has failed is refused by the run itself.
@dag(schedule="@daily", start_date=FIRST, catchup=True, max_active_runs=1)
def slotcar_nightly() -> None:
    """Scores a day's rows, from the state of the night before."""

    @task(retries=2, retry_delay=timedelta(minutes=5))
    def night(ds: str | None = None) -> dict[str, Any]:
        assert ds is not None, "Airflow gives a task its date"
        try:
            return api.night(CONFIG, ds, first=FIRST.date()).figures
        except SlotcarError as fault:
            if fault.exit_code == EXIT_FAILED:
                raise  # a retry resumes it
            raise AirflowFailException(str(fault)) from fault  # nothing that a retry would mend

    night()


nightly = slotcar_nightly()
