"""A nightly run as a Dagster asset: one partition per day, retries that resume, the run's figures as metadata.

Materialising a partition again goes on from what is committed, and does nothing on a finished run; a backfill is the
same for many days. Each day depends on the one before, whose state is its beginning. Slotcar runs by its command,
SLOTCAR, in an environment of its own: nothing of it is imported here.
"""

import json
import os
import subprocess
from datetime import date, timedelta

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

SLOTCAR = os.environ.get("SLOTCAR", "slotcar")  # as in /srv/slotcar/bin/slotcar
CONFIG = os.environ.get("SLOTCAR_CONFIG", "nightly.toml")
FIRST = "2026-11-01"
RESUMES = 1  # the exit code of a run that a retry goes on with
THE_DAY_BEFORE = TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)


def command_of(day: date) -> list[str]:
    """The night of `day`: its rows, its folders, and the state of the night before."""
    after, before = day + timedelta(days=1), day - timedelta(days=1)
    keys = [f"run_id=nightly-{day}", f"input.since={day}", f"input.until={after}"]
    keys += [f"output.path=scores/{day}", f"state.write=state/{day}"]
    keys += [f"state.read=state/{before}"] if str(day) > FIRST else []
    return [SLOTCAR, "score", CONFIG, "--json", *(word for key in keys for word in ("--set", key))]


@asset(
    partitions_def=DailyPartitionsDefinition(FIRST),
    deps=[AssetDep("delay_scores", partition_mapping=THE_DAY_BEFORE)],
    backfill_policy=BackfillPolicy.multi_run(),
    retry_policy=RetryPolicy(max_retries=2, delay=60),
)
def delay_scores(context: AssetExecutionContext) -> MaterializeResult:
    """Scores of one day."""
    command = command_of(date.fromisoformat(context.partition_key))
    done = subprocess.run(command, capture_output=True, text=True)
    context.log.info(done.stderr)
    if done.returncode == 0:
        figures = json.loads(done.stdout).items()
        return MaterializeResult(
            metadata={name: value for name, value in figures if isinstance(value, int | float | str)}
        )
    sentence = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    resumes = done.returncode in (RESUMES, 143) or done.returncode < 0  # or a signal has ended it
    raise Failure(sentence, allow_retries=resumes)  # anything else a retry would not mend


definitions = Definitions(assets=[delay_scores])
