"""Fragments: scored blocks -> staged Parquet files.

What it decides: the columns (entity, time, keep, scores); that a model with one score per window has a row per window,
that of its last row; that the carry-over of the entities that end with a fragment is a file of that fragment; where a
long entity's output is cut into files; the checksum of the rows; and that nothing is reported before it is durable.
Where a checkpoint cuts depends on the clock; the rows, their order and their scores do not. Two attempts stage under
two names, of which at most one is ever committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowScalar
from cluster.core.commit import QUARANTINE, STAGED, Fragment, carry_name, fragment_name, staged_name
from cluster.core.settings import WINDOW_ROWS, WINDOW_START, OutputSettings
from cluster.core.times import TimeBounds
from cluster.core.value_texts import text_of
from cluster.runtime.carry.carry_writer import CarryTarget, CarryWriter, Staged
from cluster.runtime.commit.row_checksum import RowChecksum
from cluster.runtime.commit.snapshots import Snapshot, write_snapshot
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.placed_blocks import Cut
from cluster.runtime.rows.planned_keys import writer_options
from cluster.runtime.storage.parquet_tables import write_table
from cluster.runtime.storage.parquet_writer import parquet_writer
from cluster.runtime.storage.store import Output, Store
from lstm_core.array_types import Bools, Floats, Ints


@dataclass
class _Open:
    """The fragment of a shard that is being written."""

    index: int
    staged: str = ""  # its name under STAGED
    file: Output | None = None
    writer: pq.ParquetWriter | None = None
    metadata: dict[bytes, bytes] = field(default_factory=dict)  # that the file must end with
    rows: int = 0  # of the input
    file_rows: int = 0
    entities: int = 0
    checksum: RowChecksum = field(default_factory=RowChecksum)
    times: TimeBounds = field(default_factory=TimeBounds)


@dataclass(frozen=True)
class Attempt:
    """Who writes: one attempt of one shard, which goes on behind `fragments` committed ones."""

    shard: int
    number: int
    fragments: int = 0
    fence: int = 0  # number of the driver's lock


@dataclass(frozen=True)
class Destination:
    """Where and how a run's fragments are written."""

    store: Store
    settings: OutputSettings
    time: str  # the first time column
    run: str  # the run's short name
    carry: CarryTarget | None = None  # where what entities leave behind is written
    window: int | None = None  # rows of a window, where there is one score for it


class FragmentWriter:
    """Writes the cuts of one attempt of one shard, in order."""

    def __init__(self, destination: Destination, attempt: Attempt) -> None:
        self._store, self._settings = destination.store, destination.settings
        self._time, self._window = destination.time, destination.window
        self._run, self._attempt = destination.run, attempt
        self._shard = attempt.shard
        self._open = _Open(attempt.fragments)
        self._carry = CarryWriter(destination.carry) if destination.carry else None

    def write(self, cut: Cut, scores: Floats) -> Fragment | None:
        """Appends a cut's rows, given the scores of its block (row, score); returns the fragment that it completes."""
        block = cut.placed.block
        table = self._scored(block, scores, cut.rows)
        if table.num_rows:
            self._append(table)
            self._open.rows += int(np.count_nonzero(cut.rows))
            self._open.entities += _first_rows(cut)
        if self._carry is not None:
            self._carry.add(cut)
        if block.final and cut.snapshot is None:
            return self._close(cut)
        if cut.close or self._open.file_rows >= self._settings.rows_per_file:
            return self._close(cut)
        return None

    def _scored(self, block: Block, scores: Floats, rows: Bools) -> pa.Table:
        table = block.table
        if self._window is not None:
            table, ends = _windows(block, rows, self._window, self._time)
            scores, rows = scores[ends], np.ones(len(ends), np.bool_)
        for index, name in enumerate(self._settings.names):
            table = table.append_column(name, pa.array(np.ascontiguousarray(scores[:, index])))
        return table if rows.all() else table.filter(pa.array(rows))

    def _append(self, table: pa.Table) -> None:
        part = self._open
        if part.writer is None:
            part.staged = self._with_attempt(fragment_name(self._run, self._shard, part.index))
            part.file = self._store.open_output(f"{STAGED}/{part.staged}")
            # No two scores are alike: a dictionary of them would be made, found too large and thrown away.
            alike = [name for name in table.schema.names if name not in self._settings.names]
            options, part.metadata = writer_options(table.schema)
            options |= {"compression": self._settings.compression, "use_dictionary": alike}
            part.writer = parquet_writer(part.file, table.schema, **options)
        part.writer.write_table(table)
        part.file_rows += table.num_rows
        part.checksum.add(table)
        part.times.add(table.column(self._time))

    def _close(self, cut: Cut) -> Fragment:
        part, block, final = self._open, cut.placed.block, cut.snapshot is None
        assert block.final or not final, "a fragment that goes on needs a snapshot"
        if part.file is not None:
            assert part.writer is not None, "a file that nothing was written to"
            if part.metadata:
                part.writer.add_key_value_metadata(part.metadata)  # type: ignore[arg-type]  # why: it takes bytes too
            part.writer.close()
            part.file.close()
        quarantine = self._stage_quarantine(block, part.index) if final else None
        carry = self._stage_carry(part.index)
        self._open = _Open(part.index + 1)
        name = fragment_name(self._run, self._shard, part.index)
        return Fragment(
            shard=self._shard,
            index=part.index,
            attempt=self._attempt.number,
            fence=self._attempt.fence,
            final=final,
            file=name if part.rows else None,
            staged=part.staged if part.rows else None,
            snapshot=self._write_snapshot(cut.snapshot, part.index) if cut.snapshot else None,
            rows=part.rows,
            entities=part.entities,
            checksum=part.checksum.hexdigest(),
            time_min=_text(part.times.earliest),
            time_max=_text(part.times.latest),
            quarantine_file=name if quarantine else None,
            quarantine_staged=quarantine,
            rows_quarantined=block.quarantined_rows if final else 0,
            entities_quarantined=block.quarantined_entities if final else 0,
            rows_skipped=block.skipped_rows if final else 0,
            carry_file=carry.file if carry else None,
            carry_staged=carry.staged if carry else None,
            carry_rows=carry.rows if carry else 0,
            carry_checksum=carry.checksum if carry else None,
            windows=part.file_rows if self._window is not None else None,
        )

    def _write_snapshot(self, snapshot: Snapshot, index: int) -> str:
        name = self._with_attempt(f"{self._shard:06d}-{index:05d}.parquet")
        write_snapshot(self._store, name, snapshot)
        return name

    def _stage_quarantine(self, block: Block, index: int) -> str | None:
        if block.quarantine is None:
            return None
        name = self._with_attempt(f"{QUARANTINE}-{fragment_name(self._run, self._shard, index)}")
        write_table(self._store, f"{STAGED}/{name}", block.quarantine, self._settings.compression)
        return name

    def _stage_carry(self, index: int) -> Staged | None:
        name = carry_name(self._shard, index)
        return self._carry.stage(name, self._with_attempt(name)) if self._carry is not None else None

    def _with_attempt(self, name: str) -> str:
        # Driver and attempt keep the staged files of two replicas apart; the published name has neither.
        return staged_name(name, fence=self._attempt.fence, attempt=self._attempt.number)


def _windows(block: Block, rows: Bools, window: int, time: str) -> tuple[pa.Table, Ints]:
    """Of the given rows, whole windows and last ones of entities: the last row of each window, and where it is."""
    position = block.positions
    last = (position % window == window - 1) | (position == np.repeat(block.lengths - 1, block.sizes))
    ends = np.flatnonzero(rows & last)
    before = position[ends] % window
    start = block.table.column(time).take(ends - before)
    table = block.table.take(ends).append_column(WINDOW_START, start)
    return table.append_column(WINDOW_ROWS, pa.array((before + 1).astype(np.int32))), ends


def _first_rows(cut: Cut) -> int:
    """Entities whose first row is in the cut, and so in this fragment before any other."""
    block = cut.placed.block
    if block.rows_before:
        return 0
    return int(np.count_nonzero(cut.rows[block.starts[block.lengths > 0]]))


def _text(value: ArrowScalar | None) -> str | None:
    return None if value is None else text_of(value)
