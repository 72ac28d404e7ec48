"""Row groups: rows `start..stop` of a Parquet file as a table, decoded once for neighbours that want the same group.

What it decides: which decoded row groups are kept (those used last whose end was not read yet, up to `cache_bytes`),
and which files stay open. Every table has the first file's types, or those of a given schema, where files differ. It
leaves alone what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cluster.core.locations import Options, is_url
from cluster.core.plan.column_conversion import converted
from cluster.core.plan.partitions import Partitions
from cluster.run_errors import InputBroken, InputDamaged, InputUnfit, first_line
from cluster.runtime.input.opened_types import opened, opened_schema
from cluster.runtime.input.source_faults import is_damage, why_unsupported
from cluster.runtime.storage.filesystems import open_file
from cluster.runtime.storage.open_parquet import OpenFiles, OpenParquet
from cluster.runtime.storage.table_cache import TableCache
from lstm_core.array_types import Ints


class RowGroups:
    """Reads ranges of rows of the given columns."""

    def __init__(  # noqa: PLR0913  # what a plan says of its files
        self,
        paths: tuple[str, ...],
        columns: tuple[str, ...],
        partitions: Partitions,
        *,
        cache_bytes: int,
        storage: Options | None = None,
        types: pa.Schema | None = None,
        checksums: bool = True,
    ) -> None:
        """`types` are those of the columns, among others, where not all files have the first one's.

        With `checksums` those that pages carry are looked at.
        """
        self._paths, self._storage, self._checksums = paths, storage or {}, checksums
        self._columns = list(columns)
        self._partitions = partitions
        self._files = OpenFiles(self._opened)
        self._differ = types is not None
        self._schema = None if types is None else pa.schema([types.field(name) for name in columns])
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

    def _alike(self, table: pa.Table, file: int) -> pa.Table:
        """A file's table with the types of all: a column may be text in one file and large text in another."""
        if not self._differ:
            table = table.select(self._columns)
            return table if table.schema.equals(self.schema) else converted(opened(table), self.schema)
        try:
            return converted(opened(table), self.schema)
        except pa.ArrowException as error:
            raise InputBroken(
                f"{self._paths[file]} has a value that was not there when the run was planned, and that does not fit "
                f"into the type in which all files are read: {first_line(error)}; put the planned file back, or score "
                "the new input into another output."
            ) from None

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
        return self._alike(self._partitions.complete(table, self._paths[file], self._columns), file)


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
