"""One entity's rows, found in the input by the audit: in order of time, without those that carry-over leaves out.

What it decides: the plan says where an entity's rows lie, or the bucket of a pre-pass does; all else is read again from
the input's files. Rows of equal time stay in the order of files and rows. Of an entity longer than `rows_max` only the
first rows are read, where the plan says that they are in order; `late` rows are those not after the carried last time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken
from cluster.runtime.audit.bucket_audit import origins
from cluster.runtime.audit.own_features import EntityFeatures
from cluster.runtime.audit.own_rows import Access, OwnRows
from cluster.runtime.audit.own_values import Moments, compared, joined, moments_of
from cluster.runtime.rows.row_origins import InputFiles
from lstm_core.array_types import Array, Ints
from lstm_core.contract.model_contract import InputContract

STRETCH_ROWS = 131_072


@dataclass(frozen=True)
class Carried:
    """What an earlier run has left of an entity."""

    last: Moments | None  # (1,) of its last scored row
    broken: Moments | None  # (1,) of its first bad row
    known: dict[str, float | str | None]  # column -> its last value
    states: dict[tuple[str, int], Array]  # by layer and index


NOTHING = Carried(None, None, {}, {})


class EntityReader:
    """Reads single entities."""

    def __init__(self, files: InputFiles, settings: InputSettings, inputs: tuple[InputContract, ...]) -> None:
        self._settings, self._inputs = settings, inputs
        sources, beside = files.sources or files.files, files.partitions
        access = Access(files.storage, files.checksums, beside.tables, beside.types)
        self._times = OwnRows(sources, settings.time, access)
        # A page of a kept column that is damaged takes its rows with it too.
        self._features = OwnRows(
            sources, settings.feature_columns, access, beside=settings.keep, words=settings.vocabulary
        )
        self._buckets = OwnRows(files.files, files.origin, Access(files.storage)) if files.sources else None

    def arrays(self, extents: pa.Table, carried: Carried, rows_max: int) -> tuple[list[Array], int]:
        """The model's inputs for the rows that are to be scored, up to `rows_max`, and how many of them fit.

        `extents` are the entity's part of the plan. Raises InputBroken.
        """
        places = _Places(extents, self._buckets)
        if not places.sorted or (self._buckets is not None and places.rows <= rows_max):
            self._put_in_order(places)
        late, stays = self._left_out(places, carried)
        rows = min(places.rows - late, rows_max)
        features = EntityFeatures(self._settings, self._inputs, rows)
        for part, table in self._parts(self._features, *places.between(late, late + rows)):
            if table is None:
                features.lost[part] = True
            else:
                features.put(part, table)
        arrays, good = features.arrays(carried.known, places.rows)
        return arrays, 0 if stays or places.lost else good

    def _put_in_order(self, places: _Places) -> None:
        file, row = places.between(0, places.rows)
        as_listed = np.lexsort((row, file))
        order = as_listed[self._moments(file[as_listed], row[as_listed]).order()]
        places.put_in_order(file[order], row[order])

    def _left_out(self, places: _Places, carried: Carried) -> tuple[int, bool]:
        """The late rows, and whether the entity stays in quarantine, as the row that broke it is not there again."""
        if carried.last is None and carried.broken is None:
            return 0, False
        late, again = 0, False
        for low in range(0, places.rows, STRETCH_ROWS):
            moments = self._moments(*places.between(low, low + STRETCH_ROWS))
            behind = 0 if carried.last is None else _not_after(moments, carried.last)
            late += behind
            again = again or (carried.broken is not None and bool(_equal(moments, carried.broken)[behind:].any()))
        return late, carried.broken is not None and not again

    def _moments(self, file: Ints, row: Ints) -> Moments:
        found = list(self._parts(self._times, file, row))
        order = np.concatenate([part for part, _ in found])
        tables = [table for _, table in found if table is not None]
        if len(tables) < len(found):
            raise InputBroken("The times of an entity cannot be read again.")
        moments = joined([moments_of(table, self._settings.time) for table in tables])
        return moments.take(np.argsort(order))

    def _parts(self, reader: OwnRows, file: Ints, row: Ints) -> Iterator[tuple[Ints, pa.Table | None]]:
        """Rows by their places, in parts: which of them (part,), and the rows; None where they cannot be read."""
        order = np.lexsort((row, file))
        borders = np.flatnonzero(np.diff(file[order], prepend=-1, append=-1))
        for low, high in pairwise(borders.tolist()):
            mine = order[low:high]
            for part, table in reader.scattered(int(file[mine[0]]), row[mine]):
                yield mine[part], table


def _not_after(moments: Moments, last: Moments) -> int:
    less, equal = compared(moments, last.take(np.zeros(len(moments), np.int64)))
    return int((less | equal).sum())


def _equal(moments: Moments, one: Moments) -> Array:
    return compared(moments, one.take(np.zeros(len(moments), np.int64)))[1]


class _Places:
    """Where the rows of one entity lie in the input."""

    def __init__(self, extents: pa.Table, buckets: OwnRows | None) -> None:
        names = ("file", "row_start", "row_count")
        self._file, self._start, self._count = (extents.column(name).to_numpy().astype(np.int64) for name in names)
        self._buckets = buckets
        self._ends = np.cumsum(self._count)
        self.rows = int(self._ends[-1])
        self.sorted = bool(extents.column("sorted").to_numpy(zero_copy_only=False).all())
        self.lost = extents.column("fault").null_count < extents.num_rows
        self._ordered: tuple[Ints, Ints] | None = None

    def put_in_order(self, file: Ints, row: Ints) -> None:
        """From now on its rows come in this order."""
        self._ordered = (file, row)

    def between(self, low: int, high: int) -> tuple[Ints, Ints]:
        """The files and rows of the entity's rows low..high, as far as it has them."""
        if self._ordered is not None:
            return self._ordered[0][low:high], self._ordered[1][low:high]
        begin = self._ends - self._count
        start = self._start + np.clip(low - begin, 0, self._count)
        count = np.maximum(self._start + np.clip(high - begin, 0, self._count) - start, 0)
        file, row = np.repeat(self._file, count), np.repeat(start, count)
        row += np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return (file, row) if self._buckets is None else _origins(self._buckets, file, row)


def _origins(buckets: OwnRows, file: Ints, row: Ints) -> tuple[Ints, Ints]:
    """Where rows of buckets stood in the input; an entity's rows lie together in one bucket."""
    if not len(file):
        return file, row
    found = pa.concat_tables([part.table for part in buckets.rows(int(file[0]), int(row[0]), int(row[-1]) + 1)])
    of_file, of_row = found.column_names
    return origins(found, (of_file, of_row))
