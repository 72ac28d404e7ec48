"""Rows counted again: which entity a row belongs to, which of the entity's rows it is, and what no shard has taken.

The arithmetic of an audit, over arrays; it shares nothing with the code that put the rows there but the order of times.
Entities are numbered within their shard, as the plan has them. Leaves files alone, and what is said about a find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowDictionary
from cluster.core.times import compare, table_ordinals
from lstm_core.array_types import Bools, Ints


def number_entities(keys: pa.Table, rows: pa.Table) -> Ints:
    """The entity of each row (row,), -1 where there is no such entity.

    `keys` (entity, entity columns) and `rows` (row, entity columns) have one schema.
    """
    both = pa.concat_tables([keys, rows])
    numbers = np.zeros(both.num_rows, np.int64)
    for index, column in enumerate(both.columns):
        encoded = cast(ArrowDictionary, pc.dictionary_encode(column.combine_chunks(), null_encoding="encode"))
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        numbers = codes if index == 0 else _dense(numbers * len(encoded.dictionary) + codes)
    entity_of = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
    entity_of[numbers[: keys.num_rows]] = np.arange(keys.num_rows)
    return np.asarray(entity_of[numbers[keys.num_rows :]])


def _dense(numbers: Ints) -> Ints:
    return np.asarray(np.unique(numbers, return_inverse=True)[1], np.int64)


class Ledger:
    """How far each entity of a shard has come in its fragments, taken in order."""

    def __init__(self, entity_rows: Ints) -> None:
        self.entity_rows = entity_rows  # (entity,) as planned
        self.late = np.zeros_like(entity_rows)  # (entity,) leading rows that are not scored
        self.skipped = np.zeros_like(entity_rows)  # (entity,) rows that are neither scored nor in quarantine
        self.scored = np.zeros_like(entity_rows)  # (entity,)
        self.quarantined = np.zeros_like(entity_rows)  # (entity,)
        self._fragment = np.full(len(entity_rows), -1, np.int64)  # (entity,) the last one that has rows of it

    def take(self, entity: Ints, fragment: int, covers: Ints | None = None) -> tuple[Ints, Ints]:
        """Rows of fragment number `fragment`, as entities (row,), each of which stands for one of the entity's rows.

        Where it stands for several, `covers` says for how many (row,). Returns which of its entity's rows each is, or
        the last of them, (row,), and the entities that were away for a fragment before it.
        """
        covers = np.ones(len(entity), np.int64) if covers is None else covers
        order = np.argsort(entity, kind="stable")
        behind = np.cumsum(covers[order])
        count = np.zeros(len(self.entity_rows), np.int64)
        np.add.at(count, entity, covers)
        position = np.empty(len(entity), np.int64)
        position[order] = behind - 1 - (np.cumsum(count) - count)[entity[order]]
        position += self.late[entity] + self.scored[entity]
        here = np.flatnonzero(count)
        before = self._fragment[here]
        self.scored += count
        self._fragment[here] = fragment
        return position, here[(before >= 0) & (fragment - before > 1)]

    def skip_tails(self, window: int) -> None:
        """Counts as skipped what is left of each entity where that does not fill a window; of all, in the end."""
        self.skipped += np.where(self.left > 0, (self.scored + self.left) % window, 0)

    @property
    def left(self) -> Ints:
        """Rows (entity,) that are neither scored nor in quarantine; negative where there are too many."""
        return self.entity_rows - self.scored - self.quarantined - self.skipped


class TimeOrder:
    """Whether an entity's rows stand in order of time, over any number of batches."""

    def __init__(self) -> None:
        self._entity = np.zeros(0, np.int64)
        self._times: pa.Table | None = None  # the last row of each entity so far

    def falls(self, entity: Ints, times: pa.Table) -> Ints:
        """The rows of the next batch that are earlier than the row of their entity before."""
        carried = len(self._entity)
        if self._times is not None:
            # A run that an earlier version has begun may have fragments with times of another unit.
            times = times if times.schema.equals(self._times.schema) else times.cast(self._times.schema)
            entity, times = np.append(self._entity, entity), pa.concat_tables([self._times, times])
        order = np.argsort(entity, kind="stable")
        same = entity[order[1:]] == entity[order[:-1]]
        moments = table_ordinals(times)
        earlier, _ = compare([column[order[1:]] for column in moments], [column[order[:-1]] for column in moments])
        last = order[np.append(~same, True)] if len(order) else order
        self._entity, self._times = entity[last], times.take(last)
        return np.sort(order[1:][same & earlier]) - carried


class Coverage:
    """Which rows of the input's files the shards have taken."""

    def __init__(self) -> None:
        self._parts: list[Ints] = []  # each (3, range): file, start, stop

    def add(self, file: Ints, start: Ints, count: Ints) -> None:
        """The extents (extent,) of one shard; neighbours are joined, so little is kept of them."""
        stop = start + count
        joins = (file[1:] == file[:-1]) & (start[1:] == stop[:-1])
        begin, end = np.flatnonzero(np.append(True, ~joins)), np.flatnonzero(np.append(~joins, True))
        self._parts.append(np.stack([file[begin], start[begin], stop[end]]))

    def close(self, file_rows: Ints) -> tuple[Ints, Ints]:
        """Given the rows of each file (file,) -> what is taken twice, and what by no shard; each (range, 3)."""
        borders = np.stack([np.arange(len(file_rows)), file_rows, file_rows])  # an empty range ends each file
        ranges = np.concatenate([*self._parts, borders], axis=1)
        file, start, stop = ranges[:, np.lexsort((ranges[2], ranges[1], ranges[0]))]
        fresh = np.append(True, file[1:] != file[:-1])
        before = np.where(fresh, 0, np.append(0, stop[:-1]))
        twice, gap = start < before, start > before
        return (
            np.stack([file[twice], start[twice], np.minimum(before, stop)[twice]], axis=1),
            np.stack([file[gap], before[gap], start[gap]], axis=1),
        )


def inside(ranges: Ints, file: Ints, row: Ints) -> Bools:
    """Which rows (row,) of which files lie in one of the ranges (range, 3), which are sorted and do not overlap."""
    if not len(ranges):
        return np.zeros(len(row), np.bool_)
    width = int(max(ranges[:, 2].max(), row.max(initial=0))) + 1
    part = np.searchsorted(ranges[:, 0] * width + ranges[:, 1], file * width + row, side="right") - 1
    found = ranges[np.maximum(part, 0)]
    return np.asarray((part >= 0) & (found[:, 0] == file) & (row < found[:, 2]))


def draw_entities(
    sizes: Sequence[tuple[int, int]],
    wanted: Sequence[tuple[int, int]],
    count: int,
    generator: np.random.Generator,
) -> dict[int, list[int]]:
    """At most `count` entities: those `wanted` first, as (shard, ordinal), the others drawn evenly.

    `sizes` are (shard, entities in it). Returns the ordinals of each shard that has any, rising.
    """
    ends = np.cumsum([entities for _, entities in sizes])
    total = int(ends[-1]) if len(ends) else 0
    chosen = list(dict.fromkeys(wanted))
    for number in generator.choice(total, size=min(total, count), replace=False).tolist():
        place = int(np.searchsorted(ends, number, side="right"))
        chosen.append((sizes[place][0], number - int(ends[place]) + sizes[place][1]))
    drawn: dict[int, list[int]] = {}
    for shard, entity in sorted(list(dict.fromkeys(chosen))[:count]):
        drawn.setdefault(shard, []).append(entity)
    return drawn
