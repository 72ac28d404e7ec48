"""A nightly run as a Dagster asset: one partition per day, retries that resume, the run's figures as metadata.

Materialising a partition again goes on from what is committed, and does nothing on a finished run; a backfill is the
same for many days.
"""

import os

from dagster import (
    AssetExecutionContext,
    DailyPartitionsDefinition,
    Definitions,
    Failure,
    MaterializeResult,
    RetryPolicy,
    asset,
)

from jobs.api import score
from lstm_core.errors import EXIT_FAILED, SlotcarError

CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")


@asset(partitions_def=DailyPartitionsDefinition("2026-11-01"), retry_policy=RetryPolicy(max_retries=2, delay=60))
def delay_scores(context: AssetExecutionContext) -> MaterializeResult:
    """Scores of one day."""
    day = context.partition_key
    try:
        summary = score(CONFIG, overrides=[f"output.path=scores/{day}", f"run_id=nightly-{day}"])
    except SlotcarError as fault:
        if fault.exit_code == EXIT_FAILED:
            raise  # a retry resumes it
        raise Failure(str(fault), allow_retries=False) from fault  # nothing that a retry would mend
    return MaterializeResult(metadata=summary.figures)


definitions = Definitions(assets=[delay_scores])
