"""Where a row of the plan's files stood in the input, and how it is read from there.

The plan of interleaved input names buckets, whose rows know their place in the input; all other plans name the input's
own files. When a run is done its buckets keep only keys and places: whoever needs a feature then, the audit, reads it
from the input, row group by row group, which is slow and right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from cluster.core.locations import Options
from cluster.core.plan.partitions import NO_PARTITIONS, Partitions
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.plan.shuffle_plan import place_of
from cluster.runtime.input.opened_types import empty_table
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
    partitions: Partitions = NO_PARTITIONS  # what stands beside the input's own
    types: pa.Schema | None = None  # in which the input's files are read, where they have not all the first one's
    checksums: bool = True  # look at those that pages carry

    @staticmethod
    def of(head: PlanHead, store: Store, storage: Options, *, checksums: bool = True) -> InputFiles:
        """Of a plan in a store."""
        if not head.sources:
            files = tuple(file.path for file in head.files)
            return InputFiles(files, (), storage, head.beside, head.types, checksums)
        buckets = tuple(store.path(file.path) for file in head.files)
        sources = tuple(file.path for file in head.sources)
        return InputFiles(buckets, sources, storage, head.beside, head.types, checksums)

    def open(self, columns: tuple[str, ...], *, cache_bytes: int) -> RowSource:
        """A reader of some columns."""
        if not self.sources:
            return self.of_input(columns, cache_bytes=cache_bytes)
        if not self._has_all(columns):
            return _ScatteredRows(self, columns, cache_bytes=cache_bytes)
        return self.planned(columns, cache_bytes=cache_bytes)

    def of_input(self, columns: tuple[str, ...], *, cache_bytes: int) -> RowGroups:
        """A reader of some columns of the input's own files."""
        return self._groups(self.sources or self.files, columns, self.partitions, cache_bytes, self.types)

    def planned(self, columns: tuple[str, ...], *, cache_bytes: int) -> RowGroups:
        """A reader of some columns of the plan's files, which have them."""
        if not self.sources:
            return self.of_input(columns, cache_bytes=cache_bytes)
        # A bucket has all columns itself, in the types of all.
        return self._groups(self.files, columns, NO_PARTITIONS, cache_bytes, None)

    def _groups(
        self,
        files: tuple[str, ...],
        columns: tuple[str, ...],
        beside: Partitions,
        cache_bytes: int,
        types: pa.Schema | None,
    ) -> RowGroups:
        return RowGroups(
            files,
            columns,
            beside,
            cache_bytes=cache_bytes,
            storage=self.storage,
            types=types,
            checksums=self.checksums,
        )

    @cached_property
    def origin(self) -> tuple[str, str]:
        """The columns of the buckets that say where a row stood: the input's file, and the row in it."""
        with open_source(self.files[0], self.storage) as parquet:
            *_, file, row = parquet.schema_arrow.names
        return file, row

    def locate(self, file: Ints, row: Ints) -> tuple[list[str], Ints]:
        """The input's file and the row in it, of rows of the plan's files. Raises `InputBroken`."""
        if not self.sources:
            return [self.files[index] for index in file], row
        if not len(file):
            return [], row
        places = self.planned(self.origin, cache_bytes=0)
        source, place = (column.to_numpy() for column in _gathered(places, file, row).columns)
        return [self.sources[index] for index in source.tolist()], place_of(place)

    def _has_all(self, columns: tuple[str, ...]) -> bool:
        with open_source(self.files[0], self.storage) as parquet:
            return set(columns) <= set(parquet.schema_arrow.names)


class _ScatteredRows:
    """Implements `RowSource` for buckets whose features are gone; rows that could not be read are null."""

    def __init__(self, files: InputFiles, columns: tuple[str, ...], *, cache_bytes: int) -> None:
        self._place = files.origin[1]
        own = tuple(name for name in columns if name != self._place)
        self._places = files.planned(files.origin, cache_bytes=cache_bytes)
        self._input = files.of_input(own, cache_bytes=cache_bytes)
        self._wants_place = self._place in columns

    @property
    def schema(self) -> pa.Schema:
        return self._input.schema

    def rows(self, file: int, start: int, stop: int) -> pa.Table:
        places = self._places.rows(file, start, stop)
        source, row = (column.to_numpy().astype(np.int64) for column in places.columns)
        whole = row >= 0
        nothing = empty_table(self._input.schema)
        table = _gathered(self._input, source[whole], row[whole]) if whole.any() else nothing
        table = table.take(pa.array(np.cumsum(whole) - 1, pa.int64(), mask=~whole))
        return table.append_column(self._place, places.column(self._place)) if self._wants_place else table


def _gathered(groups: RowGroups, file: Ints, row: Ints) -> pa.Table:
    """Rows of several files as one table, in the order in which they were asked for."""
    order = np.lexsort((row, file))
    parts = []
    for index in np.unique(file):
        parts += groups.scattered(int(index), row[order][file[order] == index])
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_tables(parts).combine_chunks().take(back)
