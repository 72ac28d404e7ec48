"""Row groups: rows `start..stop` of a Parquet file as a table, decoded once for neighbours that want the same group.

What it decides: which decoded row groups are kept (those used last whose end was not read yet, up to `cache_bytes`),
and which files stay open. It leaves alone what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cluster.core.locations import Options, is_url
from cluster.run_errors import InputBroken, InputDamaged, InputUnfit, first_line
from cluster.runtime.input.hive_partitions import HivePartitions
from cluster.runtime.input.source_faults import is_damage, why_unsupported
from cluster.runtime.storage.filesystems import open_file
from cluster.runtime.storage.open_parquet import OpenFiles, OpenParquet
from cluster.runtime.storage.table_cache import TableCache
from lstm_core.array_types import Ints


class RowGroups:
    """Reads ranges of rows of the given columns."""

    def __init__(
        self,
        paths: tuple[str, ...],
        columns: tuple[str, ...],
        *,
        cache_bytes: int,
        storage: Options | None = None,
        checksums: bool = True,
    ) -> None:
        """With `checksums` those that pages carry are looked at."""
        self._paths, self._storage, self._checksums = paths, storage or {}, checksums
        self._columns = list(columns)
        self._partitions = HivePartitions.of(paths)
        self._files = OpenFiles(self._opened)
        self._schema: pa.Schema | None = None  # of every table: the first file's, opened
        self._groups = TableCache(cache_bytes)

    def rows(self, file: int, start: int, stop: int) -> pa.Table:
        """The rows start..stop of a file. Raises `InputBroken` where the file cannot be read."""
        with self._named(file, start, stop):
            return self._rows(file, start, stop)

    @contextmanager
    def _named(self, file: int, start: int, stop: int) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            place = f" at rows {start} to {stop - 1}" if stop else ""
            raise _fault(error, self._paths[file], place) from None

    def borders(self, file: int) -> Ints:
        """The first row of each row group of a file, and behind them its rows. Raises `InputBroken`."""
        with self._named(file, 0, 0):
            return self._files.get(file).borders

    @property
    def schema(self) -> pa.Schema:
        """Of every table."""
        if self._schema is None:
            with self._named(0, 0, 0):
                reader = self._files.get(0)
                wanted = self._partitions.extend(reader.schema, self._paths[0])
            self._schema = opened_schema(pa.schema([wanted.field(name) for name in self._columns]))
        return self._schema

    def scattered(self, file: int, rows: Ints) -> list[pa.Table]:
        """Some rows of a file, given ascending, as tables that follow each other. Raises `InputBroken`."""
        with self._named(file, int(rows[0]), int(rows[-1]) + 1):
            borders = self._files.get(file).borders
            cuts = np.searchsorted(rows, borders)
            return [
                self._group(file, group).take(rows[low:high] - borders[group])
                for group, (low, high) in enumerate(pairwise(cuts))
                if high > low
            ]

    def _rows(self, file: int, start: int, stop: int) -> pa.Table:
        borders = self._files.get(file).borders
        if stop > borders[-1]:
            raise InputUnfit(
                f"{self._paths[file]} has {borders[-1]:,} rows, but the run was planned with {stop:,} or more: put the "
                "planned file back, or score the new input into another output."
            )
        first, last = np.searchsorted(borders, [start, stop - 1], side="right") - 1
        parts = []
        for group in range(first, last + 1):
            begin, end = int(borders[group]), int(borders[group + 1])
            low, high = max(start, begin), min(stop, end)
            table = self._group(file, group, keep=high < end)  # who reads on behind its end needs the next one
            parts.append(table.slice(low - begin, high - low))
        return pa.concat_tables(parts) if len(parts) > 1 else parts[0]

    def _alike(self, table: pa.Table) -> pa.Table:
        """The table with the types of the first file: a column may be text in one file and large text in another."""
        table = table.select(self._columns)
        return table if table.schema.equals(self.schema) else table.cast(self.schema)

    def _opened(self, file: int) -> OpenParquet:
        path = self._paths[file]
        return OpenParquet(open_file(path, self._storage), local=not is_url(path), checksums=self._checksums)

    def _group(self, file: int, group: int, *, keep: bool = True) -> pa.Table:
        return self._groups.get((file, group), partial(self._decoded, file, group), keep=keep)

    def _decoded(self, file: int, group: int) -> pa.Table:
        reader = self._files.get(file)
        own = [name for name in self._columns if name in reader.schema.names]
        try:
            table = reader.read_row_group(group, own)
        except (OSError, pa.ArrowException) as error:
            column = _unreadable(reader, group, own) if is_damage(error) else ""
            place = f" at rows {reader.borders[group]} to {reader.borders[group + 1] - 1}{column}"
            raise _fault(error, self._paths[file], place) from None
        return self._alike(self._partitions.complete(table, self._paths[file], self._columns))


def _unreadable(reader: OpenParquet, group: int, columns: list[str]) -> str:
    """The column because of which a row group cannot be read; goes on from its rows."""
    return next((f" in column {name!r}" for name in columns if not _reads(reader, group, name)), "")


def _reads(reader: OpenParquet, group: int, column: str) -> bool:
    try:
        reader.read_row_group(group, [column])
    except (OSError, pa.ArrowException):
        return False
    return True


def _fault(error: OSError | pa.ArrowException, path: str, place: str) -> InputBroken:
    """What is said of a file of a plan; `place` goes on from "is damaged"."""
    unsupported, why = why_unsupported(error), first_line(error)
    if unsupported is not None:
        return InputUnfit(f"{path} {unsupported}; that wants another output.path.")
    if is_damage(error):
        remedy = "write the file again or take it out of the input, which wants another output.path"
        return InputDamaged(f"{path} is damaged{place} ({why}): {remedy}.")
    return InputBroken(f"{path} cannot be read{place} ({why}): mend that, and the same command goes on.")


def opened_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with views and dictionaries as plain columns: pyarrow can neither pick rows of the one nor join the
    other across files."""
    return pa.schema([field.with_type(_opened_type(field.type)) for field in schema])


def _opened_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _opened_type(kind.value_type)
    of_views: dict[pa.DataType, pa.DataType] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return of_views.get(kind, kind)
