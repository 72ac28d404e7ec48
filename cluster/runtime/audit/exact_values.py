"""Keys and times in other types, for audits: by arithmetic of their own, which shares nothing with a run's conversion.

What it decides: that a value is brought into another type only where it is exactly one of it. What a run has read in
one type from files that differ, an audit reads from each file alone, and brings it here to what the plan and the output
have; so a run that has changed a value is found out. Two tables of two runs meet in types that hold what both have.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.times import compare_tables, plain_type, stored_type
from cluster.run_errors import InputBroken
from cluster.runtime.commit.row_checksum import canonical
from lstm_core.array_types import Bools, Ints

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
_DAY_S = 86_400
_ANY_WHOLE = pa.decimal128(20, 0)
_ANY_MOMENT = pa.decimal128(38, 0)  # nanoseconds
_DIGITS_MAX = 76  # of a decimal


def planned_types(head: PlanHead) -> pa.Schema | None:
    """Keys and times as an output has them; None where that is as the files have them."""
    if head.types is None:
        return None
    names = dict.fromkeys((*head.entity, *head.time))
    return pa.schema([pa.field(name, stored_type(plain_type(head.types.field(name).type))) for name in names])


def in_types(table: pa.Table, schema: pa.Schema | None, path: str) -> pa.Table:
    """Columns of a file in the types of a schema that has them all; raises InputBroken for what is no such value."""
    if schema is None:
        return table
    columns = []
    for name in table.column_names:
        wanted = schema.field(name).type
        try:
            columns.append(_exact(canonical(table.column(name)), wanted))
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise InputBroken(
                f"{path}: a value of column {name!r} is no {wanted}, as the plan has it: {error}."
            ) from None
    return pa.table(columns, names=table.column_names)


def _exact(values: ArrowArray, wanted: pa.DataType) -> ArrowArray:
    """Values that are exactly some of another type. Raises ValueError."""
    kind = values.type
    if kind == wanted:
        return values
    if _is_whole(kind) and _is_whole(wanted):
        return _whole(values, wanted)
    if _is_moment(kind) and _is_moment(wanted):
        return _moment(values, wanted)
    return values.cast(wanted)


def _whole(values: ArrowArray, wanted: pa.DataType) -> ArrowArray:
    numbers, missing = _numbers(values)
    into = np.iinfo(_dtype(wanted))
    for bound in (int(numbers.min(initial=0)), int(numbers.max(initial=0))):
        if not into.min <= bound <= into.max:
            raise ValueError(f"{bound} is out of its range")
    return pa.array(numbers.astype(into.dtype), wanted, mask=missing)


def _moment(values: ArrowArray, wanted: pa.DataType) -> ArrowArray:
    numbers, missing = _numbers(values.cast(pa.int32()) if values.type.bit_width == 32 else values.cast(pa.int64()))
    factor = _seconds(values.type) / _seconds(wanted)
    numbers = numbers.astype(np.int64)
    if (numbers % factor.denominator).any():
        raise ValueError("it is finer")
    numbers //= factor.denominator
    size = max(abs(int(numbers.min(initial=0))), abs(int(numbers.max(initial=0)))) * factor.numerator
    if size >= 1 << (wanted.bit_width - 1):
        raise ValueError("it is out of its range")
    numbers *= factor.numerator
    kind = pa.int32() if wanted.bit_width == 32 else pa.int64()
    exact: ArrowArray = pa.array(numbers, kind, mask=missing).cast(wanted)
    return exact


def _numbers(values: ArrowArray) -> tuple[Ints, Bools]:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return values.fill_null(0).to_numpy(zero_copy_only=False), missing


def _dtype(whole: pa.DataType) -> type[np.signedinteger[Any] | np.unsignedinteger[Any]]:
    found: type[np.signedinteger[Any] | np.unsignedinteger[Any]] = whole.to_pandas_dtype()  # type: ignore[assignment]  # of a whole number it is one of these
    return found


def _seconds(kind: pa.DataType) -> Fraction:
    """What one counts for."""
    if pa.types.is_date32(kind):
        return Fraction(_DAY_S)
    return Fraction(1, _TICKS[getattr(kind, "unit", "ms")])


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind))


def alike(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Two tables of the same columns in types that hold what both have, where theirs differ."""
    pairs = [_meet(*pair) for pair in zip(left.columns, right.columns, strict=True)]
    names = left.column_names
    return pa.table([pair[0] for pair in pairs], names), pa.table([pair[1] for pair in pairs], names)


def _meet(left: ArrowColumn, right: ArrowColumn) -> tuple[ArrowArray, ArrowArray]:
    ours, theirs = canonical(left), canonical(right)
    kinds = (ours.type, theirs.type)
    if kinds[0] == kinds[1]:
        return ours, theirs
    if all(map(_is_whole, kinds)):
        return ours.cast(_ANY_WHOLE), theirs.cast(_ANY_WHOLE)
    if all(map(_is_moment, kinds)):
        return _nanoseconds(ours), _nanoseconds(theirs)
    if any(map(_is_whole, kinds)) and any(map(pa.types.is_large_string, kinds)):  # names of folders
        return ours.cast(pa.large_string()), theirs.cast(pa.large_string())
    wanted = next((kind for kind in kinds if not pa.types.is_fixed_size_binary(kind)), kinds[0])
    if any(map(pa.types.is_decimal, kinds)):
        wanted = pa.decimal256(_DIGITS_MAX, max(getattr(kind, "scale", 0) for kind in kinds))
    return ours.cast(wanted), theirs.cast(wanted)


def _nanoseconds(moments: ArrowArray) -> ArrowArray:
    """Moments of any unit as decimals, none of which overflows."""
    numbers = moments.cast(pa.int32()) if moments.type.bit_width == 32 else moments.cast(pa.int64())
    factor = pa.scalar(Decimal(int(_seconds(moments.type) * _TICKS["ns"])), pa.decimal128(14, 0))
    return pc.multiply(numbers.cast(pa.decimal128(19, 0)), factor).cast(_ANY_MOMENT)


def compare_moments(left: pa.Table, right: pa.Table) -> tuple[Bools, Bools]:
    """Times (pair, time columns) of two tables -> (left < right, left == right); the first column decides first."""
    if left.schema.types == right.schema.types:
        return compare_tables(left, right)
    less, equal = np.zeros(len(left), np.bool_), np.ones(len(left), np.bool_)
    for ours, theirs in zip(*(table.columns for table in alike(left, right)), strict=True):
        less |= equal & np.asarray(pc.less(ours, theirs).to_numpy(zero_copy_only=False), np.bool_)
        equal &= np.asarray(pc.equal(ours, theirs).to_numpy(zero_copy_only=False), np.bool_)
    return less, equal
