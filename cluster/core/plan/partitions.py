"""Columns that stand beside a file: in what a table says of it, or in the names of its folders.

Decides which of the two counts. A table's own metadata go before the folders of its files, whose names may be spelled
in any way: where a file is a table's, its folders say nothing. A column that the file has itself is the file's.
The types are those of the whole input, kept with its plan, so that a part of its files is read like all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowScalar
from cluster.core.plan.file_list import FileList, TableValues
from cluster.core.plan.folder_names import folder_type, names_in, spellings_in
from cluster.core.settings import InputSettings

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


@dataclass(frozen=True)
class Partitions:
    """What stands beside each file of an input."""

    types: dict[str, pa.DataType] = field(default_factory=dict)  # of the columns that folders name
    tables: tuple[TableValues, ...] = ()

    @staticmethod
    def of(files: FileList, settings: InputSettings) -> Partitions:
        """Of an input's files. Raises InputRefused where two folders fall together."""
        of_tables = {path for values in files.tables for path in values.table.column(0).to_pylist()}
        found = spellings_in(_folders([path for path in files if path not in of_tables] if of_tables else files))
        types = {column: folder_type(column, spellings, settings) for column, spellings in found.items()}
        return Partitions(types, files.tables)

    @staticmethod
    def as_before(paths: Sequence[str]) -> Partitions:
        """Of a plan that keeps none: it was made when the types were those of pyarrow's datasets."""
        found = spellings_in(_folders(paths))
        return Partitions({column: folder_type(column, spellings, None) for column, spellings in found.items()})

    def values(self, path: str) -> dict[str, ArrowScalar]:
        """What stands beside one file, of each column."""
        said = self.of_table(path)
        return (
            {column: _scalar(text, self.types[column]) for column, text in self.spelled(path)} if said is None else said
        )

    def of_table(self, path: str) -> dict[str, ArrowScalar] | None:
        """What a table says of a file; None where it is no table's."""
        for table in self.tables:
            found = table.of_file(path)
            if found is not None:
                return found
        return None

    def spelled(self, path: str) -> list[tuple[str, str | None]]:
        """The columns that a file's folders name, and the text of each; None for null."""
        found = {column: text for column, text, _ in names_in(path.rpartition("/")[0]) if column in self.types}
        return list(found.items())

    def extend(self, schema: pa.Schema, path: str) -> pa.Schema:
        """A file's schema with the columns that only stand beside it."""
        for name, value in self.values(path).items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, value.type))
        return schema

    def complete(self, rows: Rows, path: str, names: Sequence[str]) -> Rows:
        """A file's rows with those of the columns `names` that only stand beside it."""
        absent = [name for name in names if name not in rows.schema.names]
        values = self.values(path) if absent else {}
        for name in [name for name in absent if name in values]:
            column: ArrowArray = pa.repeat(values[name], rows.num_rows)  # type: ignore[call-overload]  # the stubs name types one by one
            rows = rows.append_column(name, column)
        return rows


NO_PARTITIONS = Partitions()


def _folders(paths: Sequence[str]) -> dict[str, None]:
    return dict.fromkeys(path.rpartition("/")[0] for path in paths)


def _scalar(text: str | None, wanted: pa.DataType) -> ArrowScalar:
    if text is None:
        return pa.scalar(None, wanted)
    return pa.scalar(int(text) if pa.types.is_integer(wanted) else text, wanted)
