"""Columns that stand in the names of a file's folders, as in `date=2026-11-20/carrier=AA/part-0.parquet`.

Decides what such a name means, as pyarrow's datasets read it: name and value are percent-decoded, a column is int32
where every value of it is a whole number of that size and text elsewhere, `__HIVE_DEFAULT_PARTITION__` is null. All
folders of a path count, also those above `input.path`, so that a run over one night's folder knows its date. A column
that the file has as well is the file's, and `key_scan` checks that both say the same. Leaves the files alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowScalar, ArrowValues
from cluster.run_errors import InputRefused
from lstm_core.shown_text import utf8

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"-?\d+")
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class HivePartitions:
    """The types of the columns that some file of the input has in the names of its folders."""

    types: dict[str, pa.DataType]  # column -> pa.int32() or pa.string()

    @staticmethod
    def of(paths: Sequence[str]) -> HivePartitions:
        """The partition columns of an input that consists of these files."""
        values: dict[str, set[str]] = {}
        for folder in dict.fromkeys(path.rpartition("/")[0] for path in paths):
            for name, value in _named(folder):
                _refuse_bytes(folder, name + value)
                values.setdefault(name, set()).add(value)
        return HivePartitions({name: _type_of(found - {_NULL}) for name, found in values.items()})

    def values(self, path: str) -> dict[str, ArrowScalar]:
        """What one file's folders say of each column; of two folders with one name the inner one counts."""
        found = {name: value for name, value in _named(path.rpartition("/")[0]) if name in self.types}
        return {name: _scalar(value, self.types[name]) for name, value in found.items()}

    def extend(self, schema: pa.Schema, path: str) -> pa.Schema:
        """A file's schema with the columns that only its folders have."""
        for name, value in self.values(path).items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, value.type))
        return schema

    def complete(self, rows: Rows, path: str, names: Sequence[str]) -> Rows:
        """A file's rows with those of the columns `names` that only its folders have."""
        absent = [name for name in names if name not in rows.schema.names]
        values = self.values(path) if absent else {}
        for name in absent:
            column: ArrowArray = pa.repeat(values[name], rows.num_rows)  # type: ignore[call-overload]  # the stubs name types one by one
            rows = rows.append_column(name, column)
        return rows


def differing_row(column: ArrowValues, value: ArrowScalar) -> int | None:
    """The first row of a file's column that does not say what the folder says, or None."""
    wanted = pa.scalar(None, column.type) if not value.is_valid else _as_type(value, column.type)
    if value.is_valid and not wanted.is_valid:
        return 0 if len(column) else None
    same = pc.equal(column, wanted).fill_null(False) if value.is_valid else pc.is_null(column)
    row = pc.index(same, False).as_py()
    return None if row < 0 else int(row)


def _as_type(value: ArrowScalar, wanted: pa.DataType) -> ArrowScalar:
    """The folder's value as the file's column would hold it; null where it cannot."""
    try:
        return value.cast(pa.string()).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.scalar(None, wanted)


def _named(folder: str) -> Iterable[tuple[str, str]]:
    for part in folder.split("/"):
        name, equals, value = part.partition("=")
        if equals and name:
            yield unquote(name), unquote(value)


def _refuse_bytes(folder: str, text: str) -> None:
    if utf8(text) != text:
        raise InputRefused(
            f"The name of folder {folder} is not UTF-8, so it can say no column's name or value: write it in UTF-8."
        )


def _type_of(values: set[str]) -> pa.DataType:
    whole = bool(values) and all(_WHOLE.fullmatch(value) and _INT32.min <= int(value) <= _INT32.max for value in values)
    return pa.int32() if whole else pa.string()


def _scalar(value: str, wanted: pa.DataType) -> ArrowScalar:
    if value == _NULL:
        return pa.scalar(None, wanted)
    return pa.scalar(int(value) if pa.types.is_int32(wanted) else value, wanted)
