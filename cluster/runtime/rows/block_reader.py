"""Blocks: the rows of a shard, in output order, in blocks that fit into the arena.

What it decides: where a long entity is cut (at whole chunks), that an unsorted entity is sorted by time, and that an
entity with a bad row ends before it, the rest being quarantined. A shard of whole entities is one block; the shard of
one entity that is longer than a shard may be is a stream of blocks, so memory follows the block and not the entity.
Rows that the carry-over keeps from being scored (see `carried_state`) are taken out before anything is encoded. With
one score per window, and `tail` "drop", an entity ends with its last whole window, and the rows behind it are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.own_columns import line_column, quarantine_lines, with_rows
from cluster.core.plan.shard_plan import Shard, entity_keys
from cluster.core.settings import InputSettings
from cluster.core.times import as_plain, time_order
from cluster.core.value_texts import texts_of
from cluster.run_errors import OVER_VALUES, InputUnfit, told
from cluster.runtime.commit.row_checksum import canonical_table
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.carried_state import LATE, CarriedState, UnscoredRows, broken_reason, unscored_rows
from cluster.runtime.rows.context_features import add_context
from cluster.runtime.rows.damaged_rows import DAMAGED, TolerantReader, lost_rows
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.null_filling import Faults, LastKnown
from cluster.runtime.rows.planned_keys import PlannedKeys, without_dictionaries
from cluster.runtime.rows.row_origins import InputFiles
from lstm_core.array_types import Array, Bools, Ints


@dataclass(frozen=True)
class Bounds:
    """How much a reader has in memory."""

    block_rows: int  # of a streamed shard's blocks but the last
    cache_bytes: int  # of decoded row groups


class BlockReader:
    """Reads shards."""

    def __init__(
        self,
        settings: InputSettings,
        encoder: Encoder,
        files: InputFiles,
        bounds: Bounds,
        planned_keys: PlannedKeys | None = None,
    ) -> None:
        """`planned_keys` are not read: the plan has them."""
        self._settings = settings
        self._encoder = encoder
        self._files = files
        self.block_rows = bounds.block_rows
        self._keys = planned_keys or PlannedKeys()
        columns = (*settings.entity, *settings.time, *settings.feature_columns, *settings.keep, *settings.target)
        read = tuple(name for name in dict.fromkeys(columns) if name not in self._keys.names)
        self._groups = TolerantReader(files, read, settings, bounds.cache_bytes)

    def blocks(
        self, shard: Shard, extents: pa.Table, skip_rows: int = 0, carried: CarriedState | None = None
    ) -> Iterator[Block]:
        """The shard's blocks in order, not yet encoded; `extents` is its part of the plan.

        Of a streamed shard the first `skip_rows` rows that are to be scored are left out; others are read whole.
        """
        parts = _Extents.of(extents)
        if shard.streamed and not parts.sorted.all():
            raise InputUnfit(
                f"The entity of shard {shard.index} has {shard.rows} rows that are not in time order, too many to "
                'sort in memory: set input.layout = "auto", and a new run clusters them first.'
            )
        yield from (
            self._stream(shard, parts, skip_rows, carried) if shard.streamed else [self._whole(shard, parts, carried)]
        )

    def encode(self, block: Block, into: list[Array], targets: Array | None, last_known: LastKnown | None) -> None:
        """Writes the block's features into the arena's rows, and cuts each series before its first bad row."""
        with self._values_of(block.ranges):
            faults = self._encoder.encode(add_context(block, self._settings), block.starts, into, last_known)
            if targets is not None and targets.shape[1]:
                self._encoder.encode_targets(block.table, targets)
        faults.reasons.update(dict.fromkeys(block.lost_now().tolist(), DAMAGED))
        faults.reasons.update(block.first_rows())
        if faults.reasons:
            self._cut(block, faults)
        if block.final and block.late is not None:
            self._settle_late(block, block.late)
        if self._settings.window is not None and self._settings.tail == "drop":
            _drop_tails(block, self._settings.window)
        wanted = dict.fromkeys((*self._settings.entity, *self._settings.time, *self._settings.keep))
        block.table = block.table.select(list(wanted))

    def last_known(self, inputs: list[Array], rows: Ints) -> LastKnown:
        """What is known behind encoded rows of the arena of the columns filled with "previous"."""
        return self._encoder.last_known(inputs, rows)

    def carried_known(self, carried: CarriedState, entities: int) -> LastKnown:
        """What the carry-over knows of them, of each of the shard's entities."""
        return carried.last_known(entities, self._encoder.words)

    @contextmanager
    def _values_of(self, ranges: Sequence[tuple[int, int, int]]) -> Iterator[None]:
        """What no check has foreseen of the values in these rows is told with their place: InputUnfit."""
        try:
            yield
        except OVER_VALUES as error:
            file, start, _ = ranges[0]
            (path,), (row,) = self._files.locate(np.array([file]), np.array([start]))
            rows = sum(high - low for _, low, high in ranges)
            raise InputUnfit(
                f"Among the {rows:,} rows from row {row} of {path} on is a value that this run cannot work with "
                f"({told(error)}): write the columns that it reads with other types, and score into another "
                "output.path."
            ) from error

    def _block(self, shard: Shard, parts: _Extents) -> Block:
        ranges = parts.ranges()
        with self._values_of(ranges):
            return self._block_of(shard, parts, ranges)

    def _block_of(self, shard: Shard, parts: _Extents, ranges: list[tuple[int, int, int]]) -> Block:
        found = [self._groups.rows(*part) for part in ranges]
        first, lengths = parts.series()
        starts = np.cumsum(lengths) - lengths
        table = self._keys.put_into(pa.concat_tables([part.table for part in found]), parts.keys, (first, lengths))
        block = Block(shard, table, starts, lengths, ranges, lost=lost_rows(found), faults=parts.faults)
        if not parts.sorted.all():
            _sort_by_time(block, self._settings.time)
        return block

    def _whole(self, shard: Shard, parts: _Extents, carried: CarriedState | None) -> Block:
        block = self._block(shard, parts)
        block.carried = carried
        if carried is not None and len(carried.entity):
            self._leave_out(block, unscored_rows(carried, block.table, block.starts), carried)
        return block

    def _stream(self, shard: Shard, parts: _Extents, skip_rows: int, carried: CarriedState | None) -> Iterator[Block]:
        """One long entity; what is late, or keeps it in quarantine, is looked for before its first row is scored."""
        known = carried is not None and len(carried.entity) > 0
        late, lines, stays = self._look_ahead(shard, parts, carried) if known and carried else (0, None, False)
        rows_left = shard.rows - late
        if stays or not rows_left:
            yield self._unscored(shard, parts, lines, carried)
            return
        time_before = self._time(shard, parts, late + skip_rows - 1) if skip_rows else None
        for part in parts.cut(self.block_rows, late + skip_rows):
            block = self._block(shard, part)
            block.rows_before, skip_rows = skip_rows, skip_rows + part.rows
            block.rows_after = rows_left - skip_rows
            block.late, block.carried = lines, carried
            block.time_before, time_before = time_before, None
            yield block

    def _time(self, shard: Shard, parts: _Extents, row: int) -> pa.Table:
        """The time of one row of a long entity, as a carry-over has it."""
        return canonical_table(self._block(shard, next(parts.cut(1, row))).table, self._settings.time)

    def _look_ahead(self, shard: Shard, parts: _Extents, carried: CarriedState) -> tuple[int, pa.Table | None, bool]:
        """Of a long entity: its late rows, their line, and whether it stays in quarantine whatever follows."""
        lines: pa.Table | None = None
        late, stays = 0, True
        for part in parts.cut(self.block_rows, 0):
            block = self._block(shard, part)
            found = unscored_rows(carried, block.table, block.starts)
            if found.late[0] and lines is None:
                lines = self._late_lines(block, found.late)
            late += int(found.late[0])
            stays = stays and bool(found.broken[0])
            if found.late[0] < block.rows and not stays:
                break
        if lines is not None:
            lines = with_rows(lines, [late])
        return late, lines, stays

    def _unscored(self, shard: Shard, parts: _Extents, lines: pa.Table | None, carried: CarriedState | None) -> Block:
        """The only block of a long entity of which no row is scored: one row that stands for them."""
        late = int(line_column(lines, "rows")[0].as_py()) if lines is not None else 0
        block = self._block(shard, next(parts.cut(1, min(late, shard.rows - 1))))
        block.late, block.carried = lines, carried
        block.lengths[:] = 0
        if late < shard.rows:
            self._keep_back(block, np.zeros(1, np.int64), np.array([shard.rows - late]))
        return block

    def _leave_out(self, block: Block, found: UnscoredRows, carried: CarriedState) -> None:
        if found.late.any():
            block.late = self._late_lines(block, found.late)
            kept = np.flatnonzero(block.positions >= np.repeat(found.late, block.sizes))
            block.order = kept if block.order is None else block.order[kept]
            block.table = block.table.take(kept)
            block.lengths = block.lengths - found.late
            block.starts = np.cumsum(block.lengths) - block.lengths
        stays = np.flatnonzero(found.broken & (block.lengths > 0))
        if len(stays):
            rows = block.lengths[stays]
            block.lengths[stays] = 0
            self._keep_back(block, stays, rows)

    def _keep_back(self, block: Block, series: Ints, rows: Ints) -> None:
        """Entities that stay in quarantine, with so many rows each."""
        assert block.carried is not None, "nobody else knows that an entity is broken"
        place = block.carried.place(len(block.starts))[series]
        since = block.carried.times(block.carried.schema.broken).column(0).take(place)
        reasons = [broken_reason(text) for text in cast(list[str], texts_of(since).to_pylist())]
        _add(block, self._lines(block, block.starts[series], rows, reasons))

    def _late_lines(self, block: Block, late: Ints) -> pa.Table:
        series = np.flatnonzero(late)
        at = block.starts[series]
        self._refuse(
            block, at, LATE, 'set [state] late to "quarantine" or "drop"' if self._settings.late == "fail" else None
        )
        return self._lines(block, at, late[series], [LATE] * len(at))

    def _settle_late(self, block: Block, late: pa.Table) -> None:
        if self._settings.late == "drop":
            block.skipped_rows += int(pc.sum(line_column(late, "rows")).as_py())
        else:
            _add(block, late)

    def _cut(self, block: Block, faults: Faults) -> None:
        bad = faults.rows
        series = np.searchsorted(block.starts, bad, side="right") - 1
        scored = bad - block.starts[series] < block.lengths[series]  # others are in quarantine already
        series, first = np.unique(series[scored], return_index=True)
        at = bad[scored][first]
        if not len(at):
            return
        reasons = [faults.reasons[int(row)] for row in at]
        fail = self._settings.bad_entity == "fail"
        self._refuse(block, at, reasons[0], 'set [faults] bad_entity = "quarantine"' if fail else None)
        kept = at - block.starts[series]
        lost = block.lengths[series] - kept + block.rows_after  # a streamed shard has one entity: only its rows follow
        block.lengths[series] = kept
        block.rows_after = 0
        block.broken_at = np.full(len(block.starts), -1, np.int64)
        block.broken_at[series] = at
        _add(block, self._lines(block, at, lost, reasons))

    def _refuse(self, block: Block, at: Ints, reason: str, remedy: str | None) -> None:
        if remedy is not None:
            paths, row = self._files.locate(*block.locate(at[:1]))
            raise InputUnfit(
                f"{paths[0]}, row {row[0]}: {reason}; mend the row or {remedy}, and score into another output.path."
            )

    def _lines(self, block: Block, at: Ints, rows: Ints, reasons: Sequence[str]) -> pa.Table:
        """Lines for the quarantine: the entities of the rows `at`, each with so many rows from there on."""
        paths, row = self._files.locate(*block.locate(at))
        keys = without_dictionaries(block.table.select(list(self._settings.entity)).take(at))
        time = texts_of(as_plain(block.table.column(self._settings.time[0]).take(at)))
        return quarantine_lines(keys, reasons, rows, (paths, row), time)


def _drop_tails(block: Block, window: int) -> None:
    """Ends each series with its last whole window; only the last block of a long entity has rows behind that."""
    tails = block.lengths % window
    assert block.final or not tails.any(), "a block of a long entity fills whole windows"
    block.lengths = block.lengths - tails
    block.skipped_rows += int(tails.sum())


def _add(block: Block, lines: pa.Table) -> None:
    block.quarantine = lines if block.quarantine is None else pa.concat_tables([block.quarantine, lines])


@dataclass(frozen=True)
class _Extents:
    """A shard's extents as arrays."""

    entity: Ints
    file: Ints
    start: Ints
    count: Ints
    sorted: Bools
    faults: dict[int, str]  # number of the entity among these -> why it is in quarantine from its first row on
    keys: pa.Table  # (extent, entity columns); without a column where a plan has been relieved of them

    @property
    def rows(self) -> int:
        """Rows of all extents."""
        return int(self.count.sum())

    @staticmethod
    def of(table: pa.Table) -> _Extents:
        names = ("entity", "file", "row_start", "row_count")
        entity, file, start, count = (table.column(name).to_numpy().astype(np.int64) for name in names)
        keys = entity_keys(table)
        return _Extents(entity, file, start, count, table.column("sorted").to_numpy(), _faults(table, entity), keys)

    def ranges(self) -> list[tuple[int, int, int]]:
        """(file, start, stop), neighbours joined: a loop over what is left of them, a few per row group."""
        stop = self.start + self.count
        joins = (self.file[1:] == self.file[:-1]) & (self.start[1:] == stop[:-1])
        begin = np.flatnonzero(np.append(True, ~joins))
        end = np.append(begin[1:], len(self.file)) - 1
        return [(int(self.file[b]), int(self.start[b]), int(stop[e])) for b, e in zip(begin, end, strict=True)]

    def series(self) -> tuple[Ints, Ints]:
        """The first extent of each entity, and its rows."""
        begin = np.flatnonzero(np.append(True, self.entity[1:] != self.entity[:-1]))
        return begin, np.add.reduceat(self.count, begin)

    def cut(self, block_rows: int, skip_rows: int) -> Iterator[_Extents]:
        """The rows of a single entity behind the first `skip_rows`, in parts of `block_rows`."""
        ends = np.cumsum(self.count)
        for low in range(skip_rows, int(ends[-1]), block_rows):
            high = min(low + block_rows, int(ends[-1]))
            first, last = np.searchsorted(ends, [low, high - 1], side="right")
            part = slice(first, last + 1)
            begin = ends[part] - self.count[part]
            skipped = np.maximum(low - begin, 0)
            count = np.minimum(high, ends[part]) - np.maximum(low, begin)
            start = self.start[part] + skipped
            keys = self.keys.slice(part.start, part.stop - part.start)
            yield _Extents(self.entity[part], self.file[part], start, count, self.sorted[part], self.faults, keys)


def _faults(table: pa.Table, entity: Ints) -> dict[int, str]:
    """The faults of an extent table's entities, by their number among these: in a whole shard their ordinals."""
    column = table.column("fault")
    if column.null_count == len(column):
        return {}
    number = np.cumsum(np.append(False, entity[1:] != entity[:-1]))
    rows = np.flatnonzero(column.is_valid().to_numpy())
    return dict(zip(number[rows].tolist(), column.take(rows).to_pylist(), strict=True))


def _sort_by_time(block: Block, time: tuple[str, ...]) -> None:
    """Puts the rows of each series into time order; rows of equal time stay in file order."""
    by_time = time_order(block.table.select(list(time)))
    series = np.repeat(np.arange(len(block.starts)), block.sizes)
    block.order = by_time[np.argsort(series[by_time], kind="stable")]
    block.table = block.table.take(block.order)
