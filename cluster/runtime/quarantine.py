"""Rows that no entity owns: published beside the quarantined rows of the shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.core.actions import Quarantine
from cluster.core.commit import QUARANTINE, STAGED, Fragment, fragment_name, staged_name
from cluster.core.plan import PlanHead, entity_keys
from cluster.core.settings import OutputSettings
from cluster.runtime.commits import Commits
from cluster.runtime.origins import InputFiles
from cluster.runtime.planning import read_bad, read_segments
from cluster.runtime.snapshots import read_snapshot
from cluster.runtime.tables import write_table

EMPTY_CHECKSUM = hashlib.sha256().hexdigest()

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


@dataclass(frozen=True)
class LostShards:
    """Puts a shard that nobody can score into quarantine, entity by entity."""

    commits: Commits
    head: PlanHead
    run: str
    output: OutputSettings

    def stage(self, action: Quarantine) -> Fragment:
        """The shard's final fragment: no scores, and all its rows that no earlier fragment has."""
        lost = self._lost(action)
        name = fragment_name(self.run, action.shard, action.fragments)
        fence, attempt = self.commits.fence.number, action.attempt
        staged = staged_name(f"{QUARANTINE}-{name}", fence=fence, attempt=attempt, given_up=True)
        write_table(self.commits.store, f"{STAGED}/{staged}", lost, self.output.compression)
        return Fragment(
            shard=action.shard,
            index=action.fragments,
            attempt=action.attempt,
            final=True,
            file=None,
            staged=None,
            rows=0,
            entities=0,
            checksum=EMPTY_CHECKSUM,
            time_min=None,
            time_max=None,
            quarantine_file=name,
            quarantine_staged=staged,
            rows_quarantined=int(lost.column("rows").to_numpy().sum()),
            entities_quarantined=lost.num_rows,
        )

    def _lost(self, action: Quarantine) -> Any:
        segments = read_segments(self.commits.store, action.shard)
        entity = segments.column("entity").to_numpy()
        begin = np.flatnonzero(np.append(True, entity[1:] != entity[:-1]))
        count = segments.column("row_count").to_numpy()
        left = np.add.reduceat(count, begin) - self._rows_done(action, len(begin))
        rest = np.flatnonzero(left)
        first = segments.take(pa.array(begin[rest]))
        table = entity_keys(first)
        table = table.append_column("reason", pa.array([action.cause] * len(rest), pa.string()))
        table = table.append_column("rows", pa.array(left[rest], pa.int64()))
        file, row = (first.column(name).to_numpy().astype(np.int64) for name in ("file", "row_start"))
        paths, row = InputFiles.of(self.head, self.commits.store, self.output.storage).locate(file, row)
        table = table.append_column("file", pa.array(paths, pa.string()))
        table = table.append_column("row", pa.array(row, pa.int64()))
        return table.append_column("time", pa.nulls(len(rest), pa.string()))

    def _rows_done(self, action: Quarantine, entities: int) -> Any:
        if not action.fragments:
            return np.zeros(entities, np.int64)
        records = {(record.shard, record.index): record for record in self.commits.records()}
        snapshot = records[action.shard, action.fragments - 1].snapshot
        assert snapshot is not None, "a shard that is done is not given up"
        return read_snapshot(self.commits.store, snapshot).rows_of(entities)


def _as_quarantine(bad: Any) -> Any:
    table = entity_keys(bad)
    reasons = [SENTENCES[reason] for reason in bad.column("reason").to_pylist()]
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    table = table.append_column("rows", pa.array([1] * len(reasons), pa.int64()))
    table = table.append_column("file", bad.column("file"))
    table = table.append_column("row", bad.column("row").cast(pa.int64()))
    return table.append_column("time", pa.nulls(len(reasons), pa.string()))
