"""Rows for an audit: the input's keys and times again, and the output's rows batch by batch.

What it decides: that memory follows a shard, or a batch where one entity is the shard. Its way to the input's rows is
not the run's: it knows the plan's extents, reads them by `own_rows`, compares them by `own_values`, and sorts for
itself what the plan says is out of order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowDictionary
from cluster.core.entity_keys import describe_entity
from cluster.core.plan.shard_plan import PlanHead, Shard, entity_keys
from cluster.run_errors import InputBroken
from cluster.runtime.audit.own_rows import FoundRows, OwnRows
from cluster.runtime.audit.own_values import Moments, joined, moments_of, numbers_of, spelt_keys
from lstm_core.array_types import Bools, Ints


class ShardRows:
    """The rows of one shard as the input holds them, numbered in the order in which the output should have them."""

    def __init__(self, files: OwnRows, head: PlanHead, shard: Shard, extents: pa.Table) -> None:
        self._files, self._head, self._shard = files, head, shard
        self.time = head.time
        names = ("entity", "file", "row_start", "row_count")
        self.entity, self.file, self.start, self.count = (extents.column(name).to_numpy() for name in names)
        first = np.flatnonzero(np.append(True, self.entity[1:] != self.entity[:-1]))
        self.keys = shard_keys(extents)
        self.spelt = spelt_keys(self.keys, head.entity)  # (entity,) the same, as they are compared
        self.lost = extents.column("fault").is_valid().to_numpy()[first]  # (entity,) one of its files cannot be read
        self.entity_rows = np.add.reduceat(self.count, first).astype(np.int64)
        self._begin = np.cumsum(self.entity_rows) - self.entity_rows  # (entity,) its first row
        self._ends = np.cumsum(self.count)  # (extent,)
        self._sorted = extents.column("sorted").to_numpy(zero_copy_only=False)
        self._whole: Moments | None = None

    def times(self, entity: Ints, position: Ints) -> Moments:
        """The times (row,) of rows of this shard. Raises InputBroken where the input has changed."""
        rows = self._begin[entity] + position
        if not self._shard.streamed:
            self._whole = self._whole if self._whole is not None else self._in_time(self._read(0, int(self._ends[-1])))
            return self._whole.take(rows)
        low, high = (int(rows.min()), int(rows.max())) if len(rows) else (0, 0)
        return self._read(low, high + 1).take(rows - low)

    def numbers(self, table: pa.Table | pa.RecordBatch) -> Ints:
        """The entity (row,) of each row of a table with the entity columns, -1 where it is none of this shard's."""
        return numbers_of(self.spelt, spelt_keys(table, self._head.entity))

    def _read(self, low: int, high: int) -> Moments:
        """The times of rows low..high in the plan's order; their keys are checked on the way."""
        first, last = np.searchsorted(self._ends, [low, max(low, high - 1)], side="right")
        part = slice(int(first), int(last) + 1)
        begin = self._ends[part] - self.count[part]
        start = self.start[part] + np.maximum(low - begin, 0)
        stop = self.start[part] + np.minimum(high - begin, self.count[part])
        entity, row, parts = np.repeat(self.entity[part], stop - start), 0, []
        for file, *stretch in _joined(self.file[part], start, stop):
            for found in self._files.rows(file, *stretch):
                rows = found.table.num_rows
                self._check_keys(found, entity[row : row + rows], low + row)
                parts.append(moments_of(found.table, self.time))
                parts[-1].valid[~found.there] = False
                row += rows
        _check_alike(parts)
        return joined(parts)

    def _check_keys(self, found: FoundRows, entity: Ints, row: int) -> None:
        """Rows that the file does not hold are nobody's; that they have no score is seen by their times."""
        wrong = np.flatnonzero((self.numbers(found.table) != entity) & found.there)
        if len(wrong):
            keys = _for_sentences(found.table.select(list(self._head.entity)))
            path, place = self._locate(row + int(wrong[0]))
            raise InputBroken(
                f"{path}, row {place}, is of entity {describe_entity(keys, int(wrong[0]))}, but the plan has "
                f"{describe_entity(self.keys, int(entity[wrong[0]]))} there: the input has changed since."
            )

    def _locate(self, row: int) -> tuple[str, int]:
        extent = int(np.searchsorted(self._ends, row, side="right"))
        into = row - int(self._ends[extent] - self.count[extent])
        return self._head.files[int(self.file[extent])].path, int(self.start[extent]) + into

    def _in_time(self, times: Moments) -> Moments:
        """The whole shard's times, those of entities that the plan calls unsorted in order; equal ones keep theirs."""
        if self._sorted.all():
            return times
        rows = np.flatnonzero(~np.repeat(self._sorted, self.count))
        order = np.arange(len(times))
        order[rows] = rows[times.take(rows).order(np.repeat(self.entity, self.count)[rows])]
        return times.take(order)


def _for_sentences(keys: pa.Table) -> pa.Table:
    """Keys with bytes as text again, where they are text."""
    try:
        texts = [pa.large_string() if pa.types.is_large_binary(field.type) else field.type for field in keys.schema]
        return keys.cast(pa.schema([(name, kind) for name, kind in zip(keys.column_names, texts, strict=True)]))
    except pa.ArrowInvalid:
        return keys


class TimeOrder:
    """Whether an entity's rows stand in order of time, over any number of batches."""

    def __init__(self) -> None:
        self._entity = np.zeros(0, np.int64)
        self._times: Moments | None = None  # the last row of each entity so far

    def falls(self, entity: Ints, times: Moments) -> Ints:
        """The rows of the next batch that are earlier than the row of their entity before."""
        carried = len(self._entity)
        if self._times is not None:
            entity, times = np.append(self._entity, entity), joined([self._times, times])
        order = np.argsort(entity, kind="stable")
        same = entity[order[1:]] == entity[order[:-1]]
        earlier = _earlier([column[order] for column in times.ranks()])
        last = order[np.append(~same, True)] if len(order) else order
        self._entity, self._times = entity[last], times.take(last)
        return np.sort(order[1:][same & earlier]) - carried


def _earlier(ranks: list[Ints]) -> Bools:
    """Which rows (row - 1,) are before their neighbour above."""
    earlier, equal = np.zeros(max(len(ranks[0]) - 1, 0), np.bool_), np.ones(max(len(ranks[0]) - 1, 0), np.bool_)
    for column in ranks:
        earlier |= equal & (column[1:] < column[:-1])
        equal &= column[1:] == column[:-1]
    return earlier


def _joined(file: Ints, start: Ints, stop: Ints) -> Iterator[tuple[int, int, int]]:
    """(file, start, stop) of extents, neighbours joined: a few are left of very many."""
    breaks = (file[1:] != file[:-1]) | (start[1:] != stop[:-1])
    begin, end = np.flatnonzero(np.append(True, breaks)), np.flatnonzero(np.append(breaks, True))
    return ((int(file[b]), int(start[b]), int(stop[e])) for b, e in zip(begin, end, strict=True))


def _check_alike(parts: list[Moments]) -> None:
    for part in parts[1:]:
        if part.styles != parts[0].styles:
            here, there = ", ".join(part.styles), ", ".join(parts[0].styles)
            raise InputBroken(f"The input's times are {here} in one place and {there} in another.")


def shard_keys(extents: pa.Table) -> pa.Table:
    """The keys (entity, entity columns) of a shard's entities, by ordinal."""
    entity = extents.column("entity").to_numpy()
    first = np.flatnonzero(np.append(True, entity[1:] != entity[:-1]))
    return entity_keys(extents).take(first)


def entities_twice(keys: list[pa.Table]) -> list[tuple[int, int]]:
    """Who is in more than one shard, given the keys (entity, entity columns) of each: (shard, ordinal), once each."""
    spelt = pa.concat_arrays([spelt_keys(table, table.column_names) for table in keys])
    encoded = cast(ArrowDictionary, pc.dictionary_encode(spelt, null_encoding="encode"))
    number = encoded.indices.to_numpy(zero_copy_only=False)
    first = np.unique(number, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(number)), first)
    ends = np.cumsum([table.num_rows for table in keys])
    shards = np.searchsorted(ends, again, side="right")
    begins = ends - [table.num_rows for table in keys]
    return list(zip(shards.tolist(), (again - begins[shards]).tolist(), strict=True))
