"""Where a row of the plan's files stood in the input, and how it is read from there.

The plan of interleaved input names buckets, whose rows know their place in the input; all other plans name the input's
own files. When a run is done its buckets keep only keys and places: whoever needs a feature then, the audit, reads it
from the input, row group by row group, which is slow and right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import pyarrow as pa

from cluster.core.locations import Options
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.plan.shuffle_plan import ORIGIN_FILE, ORIGIN_ROW, place_of
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.input.source_files import open_source
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Ints


class RowSource(Protocol):
    """Rows of a plan's files by number."""

    @property
    def schema(self) -> pa.Schema:
        """Of what `rows` gives."""

    def rows(self, file: int, start: int, stop: int) -> pa.Table:
        """The rows start..stop of a file. Raises `InputBroken`."""


@dataclass(frozen=True)
class InputFiles:
    """The files that a plan's extents lie in, and the input's own where those are buckets; paths, or URLs."""

    files: tuple[str, ...]
    sources: tuple[str, ...] = ()
    storage: Options = field(default_factory=dict)  # how remote ones are reached
    checksums: bool = True  # look at those that pages carry

    @staticmethod
    def of(head: PlanHead, store: Store, storage: Options, *, checksums: bool = True) -> InputFiles:
        """Of a plan in a store."""
        if not head.sources:
            return InputFiles(tuple(file.path for file in head.files), storage=storage, checksums=checksums)
        buckets = tuple(store.path(file.path) for file in head.files)
        return InputFiles(buckets, tuple(file.path for file in head.sources), storage, checksums)

    def open(self, columns: tuple[str, ...], *, cache_bytes: int) -> RowSource:
        """A reader of some columns."""
        if self.sources and not self._has_all(columns):
            return _ScatteredRows(self, columns, cache_bytes=cache_bytes)
        return self.groups(self.files, columns, cache_bytes=cache_bytes)

    def groups(self, files: tuple[str, ...], columns: tuple[str, ...], *, cache_bytes: int) -> RowGroups:
        """A reader of some columns of files that lie where these do."""
        return RowGroups(files, columns, cache_bytes=cache_bytes, storage=self.storage, checksums=self.checksums)

    def locate(self, file: Ints, row: Ints) -> tuple[list[str], Ints]:
        """The input's file and the row in it, of rows of the plan's files. Raises `InputBroken`."""
        if not self.sources:
            return [self.files[index] for index in file], row
        if not len(file):
            return [], row
        places = self.groups(self.files, (ORIGIN_FILE, ORIGIN_ROW), cache_bytes=0)
        table = _gathered(places, file, row)
        paths = [self.sources[index] for index in cast(list[int], table.column(ORIGIN_FILE).to_pylist())]
        return paths, place_of(table.column(ORIGIN_ROW).to_numpy())

    def _has_all(self, columns: tuple[str, ...]) -> bool:
        with open_source(self.files[0], self.storage) as parquet:
            return set(columns) <= set(parquet.schema_arrow.names)


class _ScatteredRows:
    """Implements `RowSource` for buckets whose features are gone; rows that could not be read are null."""

    def __init__(self, files: InputFiles, columns: tuple[str, ...], *, cache_bytes: int) -> None:
        own = tuple(name for name in columns if name != ORIGIN_ROW)
        self._places = files.groups(files.files, (ORIGIN_FILE, ORIGIN_ROW), cache_bytes=cache_bytes)
        self._input = files.groups(files.sources, own, cache_bytes=cache_bytes)
        self._wants_place = ORIGIN_ROW in columns

    @property
    def schema(self) -> pa.Schema:
        return self._input.schema

    def rows(self, file: int, start: int, stop: int) -> pa.Table:
        places = self._places.rows(file, start, stop)
        source, row = (places.column(name).to_numpy().astype(np.int64) for name in (ORIGIN_FILE, ORIGIN_ROW))
        whole = row >= 0
        nothing = self._input.schema.empty_table()
        table = _gathered(self._input, source[whole], row[whole]) if whole.any() else nothing
        table = table.take(pa.array(np.cumsum(whole) - 1, pa.int64(), mask=~whole))
        return table.append_column(ORIGIN_ROW, places.column(ORIGIN_ROW)) if self._wants_place else table


def _gathered(groups: RowGroups, file: Ints, row: Ints) -> pa.Table:
    """Rows of several files as one table, in the order in which they were asked for."""
    order = np.lexsort((row, file))
    parts = []
    for index in np.unique(file):
        parts += groups.scattered(int(index), row[order][file[order] == index])
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_tables(parts).combine_chunks().take(back)
