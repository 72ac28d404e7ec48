"""An entity's key: numbered, described, and the names of columns that stand beside it.

Decides how keys become entity numbers, by first appearance, and how an entity is named in a sentence. Leaves files, and
what an entity's rows are, alone.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowDictionary, ArrowScalar
from lstm_core.array_types import Ints

KEY_PREFIX = "key__"  # before an entity column's name wherever columns of our own stand beside it


def describe_entity(keys: pa.Table, entity: int) -> str:
    """An entity as a user writes it: `tailnum='N123'`."""
    return ", ".join(f"{name}={_describe_value(keys.column(name)[entity])}" for name in keys.column_names)


def _describe_value(value: ArrowScalar) -> str:
    return repr(python_value(value)) if pa.types.is_large_string(value.type) else str(python_value(value))


def python_value(value: ArrowScalar) -> object:
    """A value as Python has it; a text that is no UTF-8 as bytes."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return bytes(value.as_buffer())  # type: ignore[attr-defined]  # why: only a text fails so


def number_keys(keys: pa.Table) -> tuple[Ints, pa.Table]:
    """Keys (run, entity columns) -> entity numbers (run,) by first appearance, keys (entity, entity columns)."""
    if keys.num_rows == 0:
        return np.zeros(0, np.int64), keys
    numbers, distinct = _encode_column(keys.column(0))
    if keys.num_columns == 1:
        return numbers, pa.table([distinct], schema=keys.schema)
    for column in keys.columns[1:]:
        more, distinct = _encode_column(column)
        numbers, _ = _encode_column(pa.chunked_array([pa.array(numbers * len(distinct) + more)]))
    return numbers, keys.take(_first_appearances(numbers))


def _encode_column(column: ArrowColumn) -> tuple[Ints, ArrowArray]:
    chunks = cast("list[ArrowDictionary]", column.dictionary_encode().chunks)  # each has the whole column's dictionary
    numbers = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    return numbers, chunks[-1].dictionary


def _first_appearances(numbers: Ints) -> Ints:
    return np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0).astype(np.int64)
