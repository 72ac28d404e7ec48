"""Keys from the plan: the entity columns of a block, without reading them again.

What it decides: which entity columns need not be read, and in which form they come instead. The plan knows what each
entity is called, and a name stands in thousands of rows: so a column of text that nothing else asks for is one
dictionary per block, made of its entities' keys. It saves decoding it, encoding it again, and most of its memory. What
is written is the column that the input has, in the type that the input has.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.settings import InputSettings
from cluster.core.times import plain_type
from cluster.run_errors import InputBroken
from cluster.runtime.input.opened_types import opened_schema
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.parquet_writer import ParquetOptions
from lstm_core.array_types import Ints


@dataclass(frozen=True)
class PlannedKeys:
    """Entity columns that blocks take from the plan."""

    fields: tuple[ArrowField, ...] = ()  # as the input has it

    @staticmethod
    def of(settings: InputSettings, files: InputFiles) -> PlannedKeys:
        """Those of an input; none where its first file cannot be read, of which whoever reads its rows will tell."""
        others = {*settings.time, *settings.feature_columns, *settings.keep, *settings.target}
        alone = tuple(name for name in settings.entity if name not in others)
        try:
            fields = tuple(files.open(alone, cache_bytes=0).schema)
        except InputBroken:
            return PlannedKeys()
        return PlannedKeys(tuple(field for field in fields if _is_text(field.type)))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(field.name for field in self.fields)

    def put_into(self, table: pa.Table, keys: pa.Table, series: tuple[Ints, Ints]) -> pa.Table:
        """The table with these columns: of each series the row of `keys` that has its key, and its rows (series,)."""
        if not self.fields:
            return table
        place, lengths = series
        index = pa.array(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths), pa.int32())
        for field in self.fields:
            key = keys.column(field.name).take(place).combine_chunks().cast(field.type)
            column = pa.DictionaryArray.from_arrays(index, key)
            table = table.append_column(field.with_type(column.type), column)
        return table


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column is text or bytes that a dictionary can hold, as it cannot what has a meaning of its own."""
    text = (pa.large_string(), pa.large_binary())
    return not isinstance(kind, pa.BaseExtensionType) and plain_type(kind) in text


def keys_as_read(keys: pa.Table, files: InputFiles) -> pa.Table:
    """Keys of a plan in the types that rows of the input have; as they are, where its first file cannot be read."""
    try:
        found = files.open(tuple(keys.column_names), cache_bytes=0).schema
    except InputBroken:
        return keys
    return pa.table([column.cast(field.type) for column, field in zip(keys.columns, found, strict=True)], schema=found)


def without_dictionaries(table: pa.Table) -> pa.Table:
    """The table with such columns in the type that the input has."""
    schema = opened_schema(table.schema)
    return table if schema.equals(table.schema) else table.cast(schema)


def writer_options(schema: pa.Schema) -> tuple[ParquetOptions, dict[bytes, bytes]]:
    """How a pq.ParquetWriter is told to write a table of `schema` as if such columns were not dictionaries.

    Returns its options, and the metadata that the file must end with.
    """
    plain = opened_schema(schema)
    if plain.equals(schema):
        return {}, {}
    told = b64encode(plain.with_metadata(schema.metadata).serialize().to_pybytes())
    return {"store_schema": False}, {**(schema.metadata or {}), b"ARROW:schema": told}
