"""Rows that no entity owns: published beside the quarantined rows of the shards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.commit import QUARANTINE, STAGED
from cluster.core.plan import PlanHead, entity_keys
from cluster.core.settings import OutputSettings
from cluster.runtime.commits import PLAN, Commits
from cluster.runtime.local_store import sync_file
from cluster.runtime.planning import read_bad

SENTENCES = {
    "null_entity": "a column of the entity is null",
    "null_time": "a column of the time is null",
    "bad_time": "the time is no ISO time",
}


def publish_bad_rows(commits: Commits, head: PlanHead, run: str, output: OutputSettings) -> None:
    """Writes the rows without an entity or a time, which the plan found; again and again with the same outcome."""
    if not head.rows_bad:
        return
    store = commits.store
    name = f"rows-without-key-{run}.parquet"
    staged = f"{STAGED}/{name}"
    table = _as_quarantine(read_bad(store.path(PLAN)))
    pq.write_table(table, store.path(staged), compression=output.compression)
    sync_file(store.path(staged))
    store.rename(staged, f"{QUARANTINE}/{name}")


def _as_quarantine(bad: Any) -> Any:
    table = entity_keys(bad)
    reasons = [SENTENCES[reason] for reason in bad.column("reason").to_pylist()]
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    table = table.append_column("rows", pa.array([1] * len(reasons), pa.int64()))
    table = table.append_column("file", bad.column("file"))
    table = table.append_column("row", bad.column("row").cast(pa.int64()))
    return table.append_column("time", pa.nulls(len(reasons), pa.string()))
