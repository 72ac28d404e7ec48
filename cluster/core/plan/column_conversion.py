"""Columns in another type: a file's own, brought to the one that all files are read in.

What it decides: that no value is changed. Arrow's casts are checked ones: what does not fit raises ArrowInvalid. There
is one exception. A float64 does not hold all whole numbers of 64 bits: these come so that a float32 made of it is the
one that the whole number itself would have become, not one that was rounded twice. That is for features alone; where a
column is handed through, `holds_all` says beforehand that its values are exact. A column that a file does not have
comes as nulls.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowField
from cluster.core.times import as_plain
from lstm_core.array_types import Doubles, Ints

_DROPPED_BITS = np.uint64(11)  # of whole numbers beyond a float64's: what is left is wider than a float32 by far
_EXACT = 2.0**53  # up to here a float64 holds every whole number


def converted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` in its types; what the table does not have is null. Raises what Arrow's casts raise."""
    if table.schema.equals(schema):
        return table
    there = set(table.column_names)
    columns = [
        as_type(table.column(field.name), field.type) if field.name in there else nulls(field, len(table))
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def as_type(column: ArrowColumn, wanted: pa.DataType) -> ArrowColumn:
    """One column. Raises what Arrow's casts raise."""
    if column.type == wanted:
        return column
    if isinstance(wanted, pa.BaseExtensionType):
        chunks = as_type(column, wanted.storage_type).chunks
        wrapped: ArrowColumn = pa.chunked_array([_wrapped(chunk, wanted) for chunk in chunks], type=wanted)  # type: ignore[call-overload]  # the stubs name types one by one
        return wrapped
    plain = as_plain(column)
    if pa.types.is_float64(wanted) and pa.types.is_integer(plain.type) and plain.type.bit_width == 64:
        return pa.chunked_array([_as_number(chunk) for chunk in plain.chunks], type=wanted)
    return plain.cast(wanted)


def holds_all(column: ArrowColumn, wanted: pa.DataType) -> bool:
    """Whether every value of a column is exactly one of another type."""
    try:
        as_plain(column).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def nulls(field: ArrowField, count: int) -> ArrowArray:
    """So many nulls of a type."""
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    found: ArrowArray = pa.nulls(count, kind)  # type: ignore[call-overload]  # the stubs name types one by one
    return _wrapped(found, field.type) if isinstance(field.type, pa.BaseExtensionType) else found


def _wrapped(storage: ArrowArray, kind: pa.BaseExtensionType) -> ArrowArray:
    found: ArrowArray = kind.wrap_array(storage)
    return found


def _as_number(chunk: ArrowArray) -> ArrowArray:
    """Whole numbers of 64 bits as float64, those beyond its own rounded to odd."""
    missing = chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count else None
    return pa.array(_rounded_to_odd(chunk.fill_null(0).to_numpy(zero_copy_only=False)), pa.float64(), mask=missing)


def _rounded_to_odd(whole: Ints) -> Doubles:
    """Whole numbers (row,) as float64; of large ones the last bits become one bit, which is set where any of them is.

    So what is rounded again, to fewer bits, goes the way that the whole number would. Boldo and Melquiond, "Emulation
    of FMA and correctly rounded sums: proved algorithms using rounding to odd" (2008).
    """
    numbers = whole.astype(np.float64)
    large = np.abs(numbers) >= _EXACT
    if large.any():
        size = np.abs(whole[large]).astype(np.uint64)
        kept = size >> _DROPPED_BITS
        rest = (kept << _DROPPED_BITS) != size
        numbers[large] = np.copysign(np.ldexp((kept | rest).astype(np.float64), int(_DROPPED_BITS)), numbers[large])
    return numbers
