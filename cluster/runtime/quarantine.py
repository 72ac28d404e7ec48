"""Rows that no entity owns: published beside the quarantined rows of the shards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cluster.core.commit import QUARANTINE, STAGED
from cluster.core.plan import PlanHead, entity_keys
from cluster.core.settings import OutputSettings
from cluster.runtime.commits import Commits
from cluster.runtime.planning import read_bad
from cluster.runtime.tables import write_table

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
    staged = f"{STAGED}/{name}.{commits.fence.number}"
    write_table(store, staged, _as_quarantine(read_bad(store)), output.compression)
    store.publish(staged, f"{QUARANTINE}/{name}")


def _as_quarantine(bad: Any) -> Any:
    table = entity_keys(bad)
    reasons = [SENTENCES[reason] for reason in bad.column("reason").to_pylist()]
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    table = table.append_column("rows", pa.array([1] * len(reasons), pa.int64()))
    table = table.append_column("file", bad.column("file"))
    table = table.append_column("row", bad.column("row").cast(pa.int64()))
    return table.append_column("time", pa.nulls(len(reasons), pa.string()))
