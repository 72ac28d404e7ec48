"""Shards that nobody can score: given up by the driver, entity by entity.

What it decides: that all rows of the shard which no fragment has go into quarantine with the cause, and that an entity
leaves behind how it stood after its last scored row, broken since the row after that. Only keys and times are read:
what killed the replicas lies, as far as one can know, in the features or in the model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from cluster.core.commit import QUARANTINE, STAGED, Fragment, carry_name, fragment_name, staged_name
from cluster.core.own_columns import line_column, quarantine_lines
from cluster.core.plan.shard_plan import PlanHead, entity_keys
from cluster.core.schedule.actions import Quarantine
from cluster.core.settings import Compression, InputSettings, OutputSettings
from cluster.runtime.carry.carry_plan import ShardCarry
from cluster.runtime.carry.carry_rows import CarryRows
from cluster.runtime.carry.carry_writer import CarryTarget, Staged, stage_rows
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.commit.snapshots import Snapshot, read_snapshot
from cluster.runtime.plan.plan_files import Extents
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.planned_keys import keys_as_read
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.parquet_tables import write_table
from lstm_core.array_types import Ints
from lstm_core.shown_text import utf8

EMPTY_CHECKSUM = hashlib.sha256().hexdigest()
BLOCK_ROWS = 1024  # of a long entity: only the row that comes next is looked at
CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class LostShards:
    """Puts a shard that nobody can score into quarantine."""

    commits: Commits
    head: PlanHead
    run: str
    output: OutputSettings
    carry: LostCarry | None = None

    def stage(self, action: Quarantine) -> Fragment:
        """The shard's final fragment: no scores, and all its rows that no earlier fragment has."""
        extents, snapshot = Extents(self.commits.store).of(action.shard), self._snapshot(action)
        lost = self._lost(action, extents, snapshot)
        name = fragment_name(self.run, action.shard, action.fragments)
        staged = self._marked(f"{QUARANTINE}-{name}", action)
        write_table(self.commits.store, f"{STAGED}/{staged}", lost, self.output.compression)
        carry = self._stage_carry(action, extents, snapshot)
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
            rows_quarantined=int(line_column(lost, "rows").to_numpy().sum()),
            entities_quarantined=lost.num_rows,
            carry_file=carry.file if carry else None,
            carry_staged=carry.staged if carry else None,
            carry_rows=carry.rows if carry else 0,
            carry_checksum=carry.checksum if carry else None,
        )

    def _marked(self, name: str, action: Quarantine) -> str:
        return staged_name(name, fence=self.commits.fence.number, attempt=action.attempt, given_up=True)

    def _lost(self, action: Quarantine, extents: pa.Table, snapshot: Snapshot | None) -> pa.Table:
        entity = extents.column("entity").to_numpy()
        begin = np.flatnonzero(np.append(True, entity[1:] != entity[:-1]))
        count = extents.column("row_count").to_numpy()
        left = np.add.reduceat(count, begin) - _rows_done(snapshot, len(begin))
        rest = np.flatnonzero(left)
        first = extents.take(begin[rest])
        reasons = first.column("fault").fill_null(pa.scalar(utf8(action.cause), pa.string()))
        file, row = (first.column(name).to_numpy().astype(np.int64) for name in ("file", "row_start"))
        files = InputFiles.of(self.head, self.commits.store, self.output.storage)
        return quarantine_lines(keys_as_read(entity_keys(first), files), reasons, left[rest], files.locate(file, row))

    def _snapshot(self, action: Quarantine) -> Snapshot | None:
        if not action.fragments:
            return None
        records = {(record.shard, record.index): record for record in self.commits.records()}
        snapshot = records[action.shard, action.fragments - 1].snapshot
        assert snapshot is not None, "a shard that is done is not given up"
        return read_snapshot(self.commits.store, snapshot)

    def _stage_carry(self, action: Quarantine, extents: pa.Table, snapshot: Snapshot | None) -> Staged | None:
        if self.carry is None or self.commits.carry is None:
            return None
        rows = self.carry.rows(self.commits, self.head, action.shard, extents, snapshot)
        name = carry_name(action.shard, action.fragments)
        target = self.carry.target(self.commits, self.output.compression)
        return stage_rows(target, [rows], name, self._marked(name, action)) if rows.num_rows else None


@dataclass(frozen=True)
class LostCarry:
    """What the entities of a lost shard leave behind."""

    input: InputSettings
    request: CarryRequest

    def target(self, commits: Commits, compression: Compression) -> CarryTarget:
        """Where it is written."""
        assert commits.carry is not None, "no carry-over is written"
        return CarryTarget(commits.carry, self.request.schema, Encoder(self.input, ()).words, compression)

    def rows(
        self, commits: Commits, head: PlanHead, shard: int, extents: pa.Table, snapshot: Snapshot | None
    ) -> pa.Table:
        """The rows of carry-over of all entities that have not ended in an earlier fragment."""
        keys_only = replace(self.input, features=(), fill={}, keep=(), target=(), late="quarantine")
        files = InputFiles.of(head, commits.store, self.input.storage, checksums=self.input.page_checksums)
        reader = BlockReader(keys_only, Encoder(keys_only, ()), files, Bounds(BLOCK_ROWS, CACHE_BYTES))
        known, schema = None, self.request.schema
        if snapshot is not None:
            schema = schema.ordered_as(snapshot.tensors)
        if self.request.read is not None:
            known = ShardCarry(commits.store, self.request, schema).of(head.shards[shard])
        done = _rows_done(snapshot, 1) if head.shards[shard].streamed else np.zeros(1, np.int64)
        block = next(iter(reader.blocks(head.shards[shard], extents, int(done[0]), known)))
        return CarryRows(schema, Encoder(self.input, ()).words).of_lost(block, snapshot)


def _rows_done(snapshot: Snapshot | None, entities: int) -> Ints:
    return np.zeros(entities, np.int64) if snapshot is None else snapshot.rows_of(entities)
