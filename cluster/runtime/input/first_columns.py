"""The columns of an input before all its files are looked at: those of one file, and what others say beside it.

What it decides: whose columns count as the input's (the first file's that can be read and has rows), and where to look
for a column of which that file says nothing, since it came later or is null there: in the last file, where such a
column is as a rule, and only then in all others. Whether a column can be used is the business of `column_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.plan.file_list import FileList
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken
from cluster.runtime.input.source_files import open_source
from cluster.runtime.input.unreadable_files import lost_file


@dataclass
class FirstColumns:
    """The first file's columns, and those of others as far as they were asked for."""

    path: str
    schema: pa.Schema
    folders: frozenset[str]  # columns that only the names of its folders have
    _others: Iterator[tuple[str, pa.Schema]]
    found: dict[str, tuple[ArrowField, str]] = field(default_factory=dict)  # column -> itself, and whose it is

    @staticmethod
    def of(settings: InputSettings, files: FileList) -> FirstColumns:
        """Of files in order of path. Raises InputBroken where none can be read, or one that may not be lost."""
        opened = _Opened(settings, Partitions.of(files, settings))
        path, own, rest = opened.first(files)
        schema = opened.partitions.extend(own, path)
        found = {column.name: (column, path) for column in schema}
        folders = frozenset(schema.names) - frozenset(own.names)
        return FirstColumns(path, schema, folders, opened.others([*rest[-1:], *rest[:-1]]), found)

    def beside(self) -> tuple[str, pa.Schema] | None:
        """Another file's columns; None where there is none left."""
        return next(self._others, None)

    def ask_others(self, names: Sequence[str], tells: Callable[[ArrowField], bool]) -> None:
        """Looks for columns of which no file has said enough yet, until all are found or no file is left."""
        untold = [name for name in names if name not in self.found or not tells(self.found[name][0])]
        while untold and (other := self.beside()) is not None:
            path, schema = other
            for name in [name for name in untold if name in schema.names]:
                if name not in self.found or tells(schema.field(name)):
                    self.found[name] = schema.field(name), path
            untold = [name for name in untold if name not in self.found or not tells(self.found[name][0])]


@dataclass(frozen=True)
class _Opened:
    """Opens files for their columns."""

    settings: InputSettings
    partitions: Partitions

    def first(self, files: Sequence[str]) -> tuple[str, pa.Schema, Sequence[str]]:
        """The first file that has rows, or else that can be read; and those behind it."""
        found: tuple[str, pa.Schema, Sequence[str]] | None = None
        broken_first: InputBroken | None = None
        for number, path in enumerate(files):
            try:
                schema, rows = self._columns(path)
            except InputBroken as broken:
                if lost_file(path, broken, self.settings, self.partitions) is None:
                    raise
                broken_first = broken_first or broken
                continue
            found = found or (path, schema, files[number + 1 :])
            if rows:
                return path, schema, files[number + 1 :]
        if found is not None:
            return found
        assert broken_first is not None, "an input without files is refused when it is listed"
        raise broken_first

    def others(self, files: Sequence[str]) -> Iterator[tuple[str, pa.Schema]]:
        """Those with rows; what cannot be read is told by whoever must read it."""
        for path in files:
            try:
                schema, rows = self._columns(path)
            except InputBroken:
                continue
            if rows:
                yield path, self.partitions.extend(schema, path)

    def _columns(self, path: str) -> tuple[pa.Schema, int]:
        with open_source(path, self.settings.storage) as parquet:
            return parquet.schema_arrow, parquet.metadata.num_rows
