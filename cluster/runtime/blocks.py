"""Blocks: the rows of a shard, in output order, in pieces that fit into the arena.

What it decides: where a long entity is cut (at whole chunks), that an unsorted entity is sorted by time, and that an
entity with a bad row ends before it, the rest being quarantined. A shard of whole entities is one block; the shard of
one entity that is longer than a shard may be is a stream of blocks, so memory follows the piece and not the entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.core.plan import Shard
from cluster.core.settings import InputSettings
from cluster.core.times import time_order
from cluster.errors import InputBroken
from cluster.runtime.encode import Encoder, Faults, LastKnown
from cluster.runtime.origins import InputFiles

Ints = NDArray[np.int64]
Array = NDArray[Any]


@dataclass
class Block:
    """Consecutive rows of a shard."""

    shard: Shard
    table: Any  # (row,) entity, time and keep columns, and until encoded the features
    starts: Ints  # (series,) first row of each series
    lengths: Ints  # (series,) rows that are scored; 0 where the series is bad from its first row
    ranges: list[tuple[int, int, int]]  # (file, start, stop) that the rows were read from, in order
    first: bool  # the shard's first block
    rows_after: int  # rows of the shard behind this block; 0 in its last one
    order: Ints | None = None  # (row,) where the row stood in `ranges`, when the block had to be sorted
    quarantine: Any = None  # rows that are not scored: entity columns, reason, rows, file, row, time
    quarantined_rows: int = 0

    @property
    def final(self) -> bool:
        """True for the shard's last block."""
        return self.rows_after == 0

    @property
    def rows(self) -> int:
        """Rows of the block, bad ones included."""
        return int(self.table.num_rows)

    def scored_mask(self) -> NDArray[np.bool_] | None:
        """True where a row is scored; None where all are."""
        if int(self.lengths.sum()) == self.rows:
            return None
        sizes = np.diff(np.append(self.starts, self.rows))
        inside = np.arange(self.rows) - np.repeat(self.starts, sizes)
        return np.asarray(inside < np.repeat(self.lengths, sizes))

    def locate(self, rows: Ints) -> tuple[Ints, Ints]:
        """The file, and the row in it, of rows of the block."""
        if self.order is not None:
            rows = self.order[rows]
        file, start, stop = np.array(self.ranges, np.int64).T
        begin = np.concatenate([[0], np.cumsum(stop - start)])
        part = np.searchsorted(begin, rows, side="right") - 1
        return file[part], start[part] + rows - begin[part]


class BlockReader:
    """Reads shards."""

    def __init__(
        self, settings: InputSettings, encoder: Encoder, files: InputFiles, *, piece_rows: int, cache_bytes: int
    ) -> None:
        self._settings = settings
        self._encoder = encoder
        self._files = files
        self.piece_rows = piece_rows  # of a streamed shard's blocks but the last
        columns = (*settings.entity, *settings.time, *settings.feature_columns, *settings.keep, *settings.target)
        self._groups = files.open(tuple(dict.fromkeys(columns)), cache_bytes=cache_bytes)

    def blocks(self, shard: Shard, segments: Any, skip_rows: int = 0) -> Iterator[Block]:
        """The shard's blocks in order, not yet encoded; `segments` is its part of the plan.

        Of a streamed shard the first `skip_rows` rows are left out; other shards are read whole.
        """
        parts = _Segments.of(segments)
        if not shard.streamed:
            yield self._block(shard, parts, first=True, rows_after=0)
            return
        if not parts.sorted.all():
            raise InputBroken(
                f"The entity of shard {shard.index} has {shard.rows} rows that are not in time order, too many to "
                'sort in memory: set input.layout = "auto", and a new run clusters them first.'
            )
        rows_after = shard.rows - skip_rows
        for piece in parts.cut(self.piece_rows, skip_rows):
            first, rows_after = rows_after == shard.rows, rows_after - piece.rows
            yield self._block(shard, piece, first=first, rows_after=rows_after)

    def encode(self, block: Block, into: list[Array], targets: Array | None, last_known: LastKnown | None) -> None:
        """Writes the block's features into the arena's rows, and cuts each series before its first bad row."""
        faults = self._encoder.encode(block.table, block.starts, into, last_known)
        if targets is not None and targets.shape[1]:
            self._encoder.encode_targets(block.table, targets)
        if faults.reasons:
            self._cut(block, faults)
        wanted = dict.fromkeys((*self._settings.entity, *self._settings.time, *self._settings.keep))
        block.table = block.table.select(list(wanted))

    def last_known(self, inputs: list[Array], row: int) -> dict[str, float]:
        """The last known values behind an encoded row of the arena, by column filled with "previous"."""
        return self._encoder.last_known(inputs, row)

    def _block(self, shard: Shard, parts: _Segments, *, first: bool, rows_after: int) -> Block:
        ranges = parts.ranges()
        table = pa.concat_tables([self._groups.rows(*part) for part in ranges])
        block = Block(shard, table, *parts.series(), ranges, first, rows_after)
        if not parts.sorted.all():
            _sort_by_time(block, self._settings.time)
        return block

    def _cut(self, block: Block, faults: Faults) -> None:
        bad = faults.rows
        series, first = np.unique(np.searchsorted(block.starts, bad, side="right") - 1, return_index=True)
        at = bad[first]
        if self._settings.bad_entity == "fail":
            paths, row = self._files.locate(*block.locate(at[:1]))
            raise InputBroken(
                f"{paths[0]}, row {row[0]}: {faults.reasons[int(at[0])]}; mend the row, or "
                'set [faults] bad_entity = "quarantine".'
            )
        kept = at - block.starts[series]
        lost = (
            block.lengths[series] - kept + block.rows_after
        )  # a streamed shard has one entity, so nothing else is behind
        block.lengths[series] = kept
        block.rows_after = 0
        block.quarantined_rows = int(lost.sum())
        block.quarantine = self._quarantine(block, at, lost, [faults.reasons[int(row)] for row in at])

    def _quarantine(self, block: Block, at: Ints, lost: Ints, reasons: list[str]) -> Any:
        paths, row = self._files.locate(*block.locate(at))
        table = block.table.select(list(self._settings.entity)).take(at)
        table = table.append_column("reason", pa.array(reasons, pa.string()))
        table = table.append_column("rows", pa.array(lost, pa.int64()))
        table = table.append_column("file", pa.array(paths, pa.string()))
        table = table.append_column("row", pa.array(row, pa.int64()))
        time = block.table.column(self._settings.time[0]).take(at)
        return table.append_column("time", pc.cast(time, pa.string()))


@dataclass(frozen=True)
class _Segments:
    """A shard's segments as arrays."""

    entity: Ints
    file: Ints
    start: Ints
    count: Ints
    sorted: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Rows of all segments."""
        return int(self.count.sum())

    @staticmethod
    def of(table: Any) -> _Segments:
        names = ("entity", "file", "row_start", "row_count")
        entity, file, start, count = (table.column(name).to_numpy().astype(np.int64) for name in names)
        return _Segments(entity, file, start, count, table.column("sorted").to_numpy())

    def ranges(self) -> list[tuple[int, int, int]]:
        """(file, start, stop), neighbours joined: a loop over what is left of them, a few per row group."""
        stop = self.start + self.count
        joins = (self.file[1:] == self.file[:-1]) & (self.start[1:] == stop[:-1])
        begin = np.flatnonzero(np.append(True, ~joins))
        end = np.append(begin[1:], len(self.file)) - 1
        return [(int(self.file[b]), int(self.start[b]), int(stop[e])) for b, e in zip(begin, end, strict=True)]

    def series(self) -> tuple[Ints, Ints]:
        """First row and length of each entity within these segments."""
        begin = np.flatnonzero(np.append(True, self.entity[1:] != self.entity[:-1]))
        lengths = np.add.reduceat(self.count, begin)
        return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64), lengths

    def cut(self, piece_rows: int, skip_rows: int) -> Iterator[_Segments]:
        """The rows behind the first `skip_rows` in pieces of `piece_rows`."""
        ends = np.cumsum(self.count)
        for low in range(skip_rows, int(ends[-1]), piece_rows):
            high = min(low + piece_rows, int(ends[-1]))
            first, last = np.searchsorted(ends, [low, high - 1], side="right")
            part = slice(first, last + 1)
            begin = ends[part] - self.count[part]
            skipped = np.maximum(low - begin, 0)
            count = np.minimum(high, ends[part]) - np.maximum(low, begin)
            yield _Segments(self.entity[part], self.file[part], self.start[part] + skipped, count, self.sorted[part])


def _sort_by_time(block: Block, time: tuple[str, ...]) -> None:
    """Puts the rows of each series into time order; rows of equal time stay in file order."""
    by_time = time_order(block.table.select(list(time)))
    series = np.repeat(np.arange(len(block.starts)), np.diff(np.append(block.starts, block.rows)))
    block.order = by_time[np.argsort(series[by_time], kind="stable")]
    block.table = block.table.take(pa.array(block.order))
