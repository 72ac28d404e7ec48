"""Files of an input read alone, for audits: each in the types that it has itself, whatever the others have.

What it decides: that a run's conversion has no part in what an audit reads. Keys and times come as the file has them.
The features of an entity that is scored again come as the numbers and the words that the model would get if their file
were the only one: by NumPy's arithmetic on the file's own type. Opening files and decoding row groups is
`row_groups`' business here as there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowColumn
from cluster.core.plan.column_conversion import nulls
from cluster.core.settings import InputSettings
from cluster.core.times import as_plain
from cluster.runtime.audit.exact_values import in_types
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.rows.row_origins import InputFiles
from lstm_core.array_types import Array
from lstm_core.contract.model_contract import InputContract


class SingleFiles(RowGroups):
    """Reads ranges of rows of the given columns, in each file's own types, made plain."""

    def _alike(self, table: pa.Table, file: int) -> pa.Table:
        there = [as_plain(table.column(name)) if name in table.column_names else None for name in self._columns]
        return pa.table([pa.nulls(len(table)) if column is None else column for column in there], self._columns)


@dataclass(frozen=True)
class FilesAlone(InputFiles):
    """An input whose rows are read for a model, each file alone."""

    settings: InputSettings = field(kw_only=True)
    inputs: tuple[InputContract, ...] = field(kw_only=True)

    def open_input(self, columns: tuple[str, ...], *, cache_bytes: int) -> RowGroups:
        """As its base does, with features as the model gets them."""
        rows = _ModelRows(
            self.sources or self.files, columns, cache_bytes=cache_bytes, storage=self.storage, types=self.types
        )
        rows.read_as = {name: kind for name, kind in self._read_as.items() if name in columns}
        return rows

    @cached_property
    def _read_as(self) -> dict[str, pa.DataType]:
        """Feature columns -> what the model gets: words, whole numbers that must stay exact, or numbers."""
        kinds = {contract.name: contract.kind for contract in self.inputs}
        found: dict[str, pa.DataType] = {}
        for name, columns in self.settings.features:
            for column in set(columns) - {*self.settings.entity, *self.settings.time}:
                exact = kinds[name] == "categorical" or found.get(column) == pa.float64()
                found[column] = pa.float64() if exact else pa.float32()
        return found | {name: pa.large_string() for name in self.settings.vocabulary if name in found}

    def _has_all(self, columns: tuple[str, ...]) -> bool:
        return False  # what a pre-pass has written is what the run has read


class _ModelRows(RowGroups):
    read_as: dict[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([field.with_type(self.read_as.get(field.name, field.type)) for field in super().schema])

    def _alike(self, table: pa.Table, file: int) -> pa.Table:
        keys = [name for name in self._columns if name not in self.read_as]
        kept = in_types(table.select(keys), pa.schema([self.schema.field(name) for name in keys]), self._paths[file])
        columns = [
            kept.column(name) if name in keys else _model_values(table, name, self.read_as[name])
            for name in self._columns
        ]
        return pa.table(columns, schema=self.schema)


def _model_values(table: pa.Table, name: str, wanted: pa.DataType) -> ArrowArray | ArrowColumn:
    if name not in table.column_names or pa.types.is_null(table.schema.field(name).type):
        return nulls(pa.field(name, wanted), len(table))
    column = as_plain(table.column(name))
    if pa.types.is_large_string(wanted):
        words: ArrowColumn = column.cast(pa.string()).cast(wanted)
        return words
    values = np.asarray(_numbers(column.combine_chunks()))
    with np.errstate(over="ignore"):  # what is too large for a float32 is infinite, which is a fault of its row
        numbers = values.astype(np.float32 if pa.types.is_float32(wanted) else np.float64)
    given: ArrowArray = pa.array(numbers, mask=column.is_null().to_numpy())
    return given


def _numbers(column: ArrowArray) -> Array:
    """Numbers of any kind as NumPy has them, null ones as zero."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))
