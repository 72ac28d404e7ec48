"""The files of an input, in order of path, with what tables say of theirs.

A table's own metadata hold the values of its partition columns; where a file is a table's, they go before the names of
its folders. They come with the files, so that nobody reads such a table twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowScalar

FILE = "@file"


@dataclass(frozen=True)
class TableValues:
    """The partition values of one table's files, in the types of the table's schema."""

    table: pa.Table  # (file, FILE + the partition columns that a run needs); rising by path

    @staticmethod
    def of(files: Sequence[str], columns: Mapping[str, ArrowArray]) -> TableValues:
        """Of files (file,) in any order, and the values (file,) of each partition column."""
        table = pa.table([pa.array(files, pa.large_string()), *columns.values()], names=[FILE, *columns])
        return TableValues(table.take(pa.array(sorted(range(len(files)), key=files.__getitem__), pa.int64())))

    @property
    def columns(self) -> list[str]:
        """The partition columns."""
        return self.table.column_names[1:]

    def of_file(self, path: str) -> dict[str, ArrowScalar] | None:
        """The values of a file, or None where the table has no such file."""
        row = bisect_left(range(self.table.num_rows), path, key=self._path)
        if row == self.table.num_rows or self._path(row) != path:
            return None
        return {name: self.table.column(index)[row] for index, name in enumerate(self.columns, start=1)}

    def _path(self, row: int) -> str:
        return str(self.table.column(0)[row])


@dataclass(frozen=True)
class FileList(Sequence[str]):
    """An input's files, as absolute paths and URLs."""

    paths: tuple[str, ...]  # rising, each once
    tables: tuple[TableValues, ...] = ()  # of the tables among the input, those with files

    @staticmethod
    def of(paths: Iterable[str], tables: Iterable[TableValues] = ()) -> FileList:
        """Of files in any order."""
        return FileList(tuple(sorted(paths)), tuple(tables))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self.paths[index] if isinstance(index, int) else list(self.paths[index])

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)
