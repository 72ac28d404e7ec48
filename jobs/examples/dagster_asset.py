"""A nightly run as a Dagster asset: one partition per day, retries that resume, the run's figures as metadata.

Materialising a partition again goes on from what is committed, and does nothing on a finished run; a backfill is the
same for many days. Each day depends on the one before, whose state is its beginning.
"""

import os

from dagster import (
    AssetDep,
    AssetExecutionContext,
    BackfillPolicy,
    DailyPartitionsDefinition,
    Definitions,
    Failure,
    MaterializeResult,
    RetryPolicy,
    TimeWindowPartitionMapping,
    asset,
)

from jobs import api
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_FAILED

CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = "2026-11-01"
THE_DAY_BEFORE = TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)


@asset(
    partitions_def=DailyPartitionsDefinition(FIRST),
    deps=[AssetDep("delay_scores", partition_mapping=THE_DAY_BEFORE)],
    backfill_policy=BackfillPolicy.multi_run(),
    retry_policy=RetryPolicy(max_retries=2, delay=60),
)
def delay_scores(context: AssetExecutionContext) -> MaterializeResult:
    """Scores of one day."""
    try:
        summary = api.night(CONFIG, context.partition_key, first=FIRST)
    except SlotcarError as fault:
        if fault.exit_code == EXIT_FAILED:
            raise  # a retry resumes it
        raise Failure(str(fault), allow_retries=False) from fault  # nothing that a retry would mend
    return MaterializeResult(metadata=summary.figures)


definitions = Definitions(assets=[delay_scores])
