"""Whether a file's own column says what the folder of the file says.

Decides which spellings of a folder mean a value of the column's type: writers spell the same moment, number or null in
different ways, and a file that holds the column as well is right wherever one reading of the folder is its value. What
no reading gives is a contradiction, and nobody could say which of the two is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowScalar, ArrowValues
from lstm_core.array_types import Bools

# How writers call a folder of rows without a value, beside Hive's own name, which comes as None.
_NULLS = frozenset({"", "null", "none", "nan", "nat", "<na>"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECOND = timedelta(seconds=1)
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_FRACTION = re.compile(r"(:\d\d)\.(\d{1,9})")
_DUCKDB_BYTE = re.compile(rb"\\x([0-9A-F]{2})")


def differing_row(column: ArrowValues, text: str | None) -> int | None:
    """The first row of a plain column that does not say what its folder says, or None; `text` is None for null."""
    column = _comparable(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    null = text is None or text.lower() in _NULLS
    same = _flags(column.is_null()) if null else np.zeros(len(column), np.bool_)
    for value in _readings(text, column.type):
        same |= _equal(column, value)
    return None if same.all() else int(np.argmin(same))


def shown(column: ArrowValues, row: int) -> str:
    """A value for a sentence."""
    try:
        return str(column.slice(row, 1).cast(pa.string())[0].as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return f"a {column.type}"


def _flags(column: ArrowArray) -> Bools:
    """Booleans without nulls, as NumPy has them."""
    return column.to_numpy(zero_copy_only=False).astype(np.bool_)


def _comparable(column: ArrowArray) -> ArrowArray:
    """The column in a type that Arrow compares."""
    kind = column.type
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    return column


def _equal(column: ArrowArray, value: object) -> Bools:
    if isinstance(value, float) and value != value:
        return _flags(pc.is_nan(column).fill_null(False))
    try:
        wanted: ArrowScalar = pa.scalar(value, column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # no value of this type
        return np.zeros(len(column), np.bool_)
    return _flags(pc.equal(column, wanted).fill_null(False))


def _readings(text: str | None, kind: pa.DataType) -> list[object]:
    """What a folder's text may mean, as values of a type; none where it can mean no such value."""
    of_null: list[object] = [float("nan")] if pa.types.is_floating(kind) else [""] if _is_text(kind) else []
    if text is None:
        return of_null
    found: list[object] = []
    read = next((reader for matches, reader in _READERS if matches(kind)), None)
    if read is not None:
        with suppress(ValueError, InvalidOperation, OverflowError):  # it is no such value, or has one reading less
            found.extend(read(text, kind))
    return found


def _texts(text: str, kind: pa.DataType) -> Iterator[object]:
    yield text
    if _WHOLE.fullmatch(text):
        yield str(int(text))  # as a reader gives it that takes the folder for a number


def _whole(text: str, kind: pa.DataType) -> Iterator[object]:
    number = Decimal(_digits(text))
    if number.is_finite() and number == number.to_integral_value():
        yield int(number)


def _floats(text: str, kind: pa.DataType) -> Iterator[object]:
    yield float(_digits(text))


def _decimals(text: str, kind: pa.Decimal128Type) -> Iterator[object]:
    number = Decimal(_digits(text))
    rounded = number.quantize(Decimal(1).scaleb(-kind.scale))
    if rounded == number:
        yield rounded


def _booleans(text: str, kind: pa.DataType) -> Iterator[object]:
    if text.lower() in _BOOLEANS:
        yield _BOOLEANS[text.lower()]


def _bytes(text: str, kind: pa.DataType) -> Iterator[object]:
    yield text.encode()
    yield unquote_to_bytes(text)  # what is not UTF-8 is left encoded
    yield _DUCKDB_BYTE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        with suppress(ValueError):
            yield UUID(text).bytes


def _dates(text: str, kind: pa.DataType) -> Iterator[object]:
    moment = datetime.fromisoformat(text)
    if moment.time() == time():
        yield moment.date()


def _times(text: str, kind: pa.DataType) -> Iterator[object]:
    yield time.fromisoformat(text)


def _timestamps(text: str, kind: pa.TimestampType) -> Iterator[object]:
    """As whole numbers in the type's unit; a moment without a zone may be meant in UTC or in the column's zone."""
    moment = datetime.fromisoformat(text)
    part = _FRACTION.search(text)
    nanoseconds = int(part[2].ljust(9, "0")) if part else 0
    for at in _in_utc(moment, kind):
        seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // _SECOND
        number, left = divmod(seconds * 10**9 + nanoseconds, 10**9 // _PER_SECOND[kind.unit])
        if not left:
            yield number


def _in_utc(moment: datetime, kind: pa.TimestampType) -> Iterator[datetime]:
    moment = moment.replace(microsecond=0)
    if moment.tzinfo is not None:
        yield moment
        return
    yield moment.replace(tzinfo=UTC)
    if kind.tz is not None:
        local = pc.assume_timezone(pa.scalar(moment, pa.timestamp("us")), kind.tz, ambiguous="earliest")
        yield datetime.fromtimestamp(local.value // 10**6, UTC)


def _digits(text: str) -> str:
    """The text of a number: Python would read `1_000` as one."""
    return text.replace("_", "?")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[str, Any], Iterator[object]]], ...] = (
    (_is_text, _texts),
    (pa.types.is_integer, _whole),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _decimals),
    (pa.types.is_boolean, _booleans),
    (_is_bytes, _bytes),
    (pa.types.is_date, _dates),
    (pa.types.is_time, _times),
    (pa.types.is_timestamp, _timestamps),
)
