"""Rows for an audit: the input's keys and times again, and the output's rows batch by batch.

What it decides: that both come in one form, so that they can be compared, and that memory follows a shard, or a batch
where one entity is the shard. Its way to the input's rows is not the run's: it knows the plan's extents, reads each
file alone, and sorts for itself what the plan says is out of order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.entity_keys import describe_entity
from cluster.core.plan.shard_plan import PlanHead, Shard, entity_keys
from cluster.core.row_accounting import number_entities
from cluster.core.times import table_ordinals
from cluster.run_errors import InputBroken
from cluster.runtime.audit.exact_values import in_types, planned_types
from cluster.runtime.audit.single_files import SingleFiles
from cluster.runtime.commit.row_checksum import canonical_table
from lstm_core.array_types import Bools, Ints


class ShardRows:
    """The rows of one shard as the input holds them, numbered in the order in which the output should have them."""

    def __init__(self, groups: SingleFiles, head: PlanHead, shard: Shard, extents: pa.Table) -> None:
        self._groups, self._head, self._shard = groups, head, shard
        self.time = head.time
        names = ("entity", "file", "row_start", "row_count")
        self.entity, self.file, self.start, self.count = (extents.column(name).to_numpy() for name in names)
        first = np.flatnonzero(np.append(True, self.entity[1:] != self.entity[:-1]))
        self.keys = shard_keys(extents)
        self.lost = extents.column("fault").is_valid().to_numpy()[first]  # (entity,) one of its files cannot be read
        self.entity_rows = np.add.reduceat(self.count, first).astype(np.int64)
        self._begin = np.cumsum(self.entity_rows) - self.entity_rows  # (entity,) its first row
        self._ends = np.cumsum(self.count)  # (extent,)
        self._sorted = extents.column("sorted").to_numpy(zero_copy_only=False)
        self._whole: pa.Table | None = None

    def times(self, entity: Ints, position: Ints) -> pa.Table:
        """The times (row, time columns) of rows of this shard. Raises InputBroken where the input has changed."""
        rows = self._begin[entity] + position
        if not self._shard.streamed:
            self._whole = self._whole if self._whole is not None else self._in_time(self._read(0, int(self._ends[-1])))
            return self._whole.take(rows)
        low = int(rows.min(initial=int(self._ends[-1])))
        return self._read(low, int(rows.max(initial=low - 1)) + 1).take(rows - low)

    def _read(self, low: int, high: int) -> pa.Table:
        """The times of rows low..high in the plan's order; their keys are checked on the way."""
        first, last = np.searchsorted(self._ends, [low, max(low, high - 1)], side="right")
        part = slice(int(first), int(last) + 1)
        begin = self._ends[part] - self.count[part]
        skipped = np.maximum(low - begin, 0)
        start = self.start[part] + skipped
        stop = self.start[part] + np.minimum(high - begin, self.count[part])
        wanted = (*self._head.entity, *self._head.time)
        parts = [self._part(place, wanted) for place in _joined(self.file[part], start, stop)]
        _check_alike(parts)
        table = pa.concat_tables(parts)
        self._check_keys(table.select(list(self._head.entity)), np.repeat(self.entity[part], stop - start), low)
        return table.select(list(self._head.time)).combine_chunks()

    def _part(self, place: tuple[int, int, int], wanted: Sequence[str]) -> pa.Table:
        """Rows of one file, as the plan has them where files differ."""
        rows = canonical_table(self._groups.rows(*place), list(dict.fromkeys(wanted)))
        return in_types(rows, planned_types(self._head), self._head.files[place[0]].path).select(list(wanted))

    def _check_keys(self, keys: pa.Table, entity: Ints, low: int) -> None:
        if not keys.schema.equals(self.keys.schema):
            raise InputBroken(f"The input's entity columns are {_types(keys)}, but the plan has {_types(self.keys)}.")
        wrong = np.flatnonzero(number_entities(self.keys, keys) != entity)
        if len(wrong):
            row = int(wrong[0])
            path, place = self._locate(low + row)
            raise InputBroken(
                f"{path}, row {place}, is of entity {describe_entity(keys, row)}, but the plan has "
                f"{describe_entity(self.keys, int(entity[row]))} there: the input has changed since."
            )

    def _locate(self, row: int) -> tuple[str, int]:
        extent = int(np.searchsorted(self._ends, row, side="right"))
        into = row - int(self._ends[extent] - self.count[extent])
        return self._head.files[int(self.file[extent])].path, int(self.start[extent]) + into

    def _in_time(self, times: pa.Table) -> pa.Table:
        """The whole shard's times, those of entities that the plan calls unsorted in order; equal ones keep theirs."""
        if self._sorted.all():
            return times
        entity = np.repeat(self.entity, self.count)
        moments = [np.where(np.repeat(self._sorted, self.count), 0, column) for column in table_ordinals(times)]
        return times.take(np.lexsort((*reversed(moments), entity)))


def _joined(file: Ints, start: Ints, stop: Ints) -> list[tuple[int, int, int]]:
    """(file, start, stop) of extents, neighbours joined: a few are left of very many."""
    breaks = (file[1:] != file[:-1]) | (start[1:] != stop[:-1])
    begin, end = np.flatnonzero(np.append(True, breaks)), np.flatnonzero(np.append(breaks, True))
    return [(int(file[b]), int(start[b]), int(stop[e])) for b, e in zip(begin, end, strict=True)]


def _check_alike(parts: Sequence[pa.Table]) -> None:
    for part in parts[1:]:
        if not part.schema.equals(parts[0].schema):
            raise InputBroken(f"The input's keys are {_types(part)} in one place and {_types(parts[0])} in another.")


def shard_keys(extents: pa.Table) -> pa.Table:
    """The keys (entity, entity columns) of a shard's entities, by ordinal, in their canonical form."""
    entity = extents.column("entity").to_numpy()
    first = np.flatnonzero(np.append(True, entity[1:] != entity[:-1]))
    keys = entity_keys(extents)
    return canonical_table(keys.take(first), keys.column_names)


def differing(left: pa.Table, right: pa.Table) -> Bools:
    """Which rows (row,) of two tables of equal length are not the same; a null is the same as nothing."""
    differ = np.zeros(left.num_rows, np.bool_)
    for ours, theirs in zip(left.columns, right.columns, strict=True):
        same = pc.equal(ours, theirs).fill_null(False)
        differ |= ~same.to_numpy()
    return differ


def _types(table: pa.Table) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in table.schema)
