"""Time columns as whole numbers that can be compared, and the columns' types that can be keys or times.

Decides which Arrow types may be an entity or a time, and how a moment becomes an int64 *ordinal*: a number that orders
as the moments do. Ordinals of the first time column are absolute, in the column's own unit (ISO strings: nanoseconds,
strings without a zone counted as UTC), so `since` and `until` are ordinals too. Strings in further time columns only
break ties: they are ordered by their bytes, and their ordinals hold within one call only. Leaves files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TypeAlias, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowValues
from cluster.run_errors import InputRefused
from lstm_core.array_types import Array, Bools, Ints

Ordinals: TypeAlias = Ints  # moments
Flags: TypeAlias = Bools

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}(:\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
_ISO_WITH_ZONE = r"[T ]\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_INT64 = np.iinfo(np.int64)


def plain_type(column_type: pa.DataType) -> pa.DataType:
    """The type that a column is compared in: dictionaries and extensions opened, text and bytes with 64-bit offsets."""
    if isinstance(column_type, pa.BaseExtensionType):
        return plain_type(column_type.storage_type)
    if pa.types.is_dictionary(column_type):
        return plain_type(column_type.value_type)
    if _is_text(column_type):
        return pa.large_string()
    if any(check(column_type) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return pa.large_binary()
    return column_type


@overload
def as_plain(column: ArrowColumn) -> ArrowColumn: ...


@overload
def as_plain(column: ArrowValues) -> ArrowValues: ...


def as_plain(column: ArrowValues) -> ArrowValues:
    """A column in its `plain_type`; nulls stay nulls, also those that hide in a dictionary's values."""
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        storages = [chunk.storage for chunk in chunks]  # type: ignore[attr-defined]  # each is an extension's array
        column = pa.chunked_array(storages, type=column.type.storage_type)  # type: ignore[call-overload]  # the stubs name types one by one
    wanted = plain_type(column.type)
    return column if column.type == wanted else column.cast(wanted)


def stored_type(plain: pa.DataType) -> pa.DataType:
    """The type that a plain column comes back in from Parquet, which has no seconds, and dates in days only."""
    if pa.types.is_timestamp(plain) and plain.unit == "s":
        return pa.timestamp("ms", plain.tz)
    if plain == pa.time32("s"):
        return pa.time32("ms")
    return pa.date32() if pa.types.is_date64(plain) else plain


def is_key_type(column_type: pa.DataType) -> bool:
    """Whether a column may name entities: text, bytes, whole numbers, dates, times, decimals and booleans may."""
    plain = plain_type(column_type)
    return bool(
        _is_text(plain)
        or pa.types.is_large_binary(plain)
        or pa.types.is_fixed_size_binary(plain)
        or pa.types.is_boolean(plain)
        or pa.types.is_decimal(plain)
        or _is_number_of_time(plain)
    )


def is_time_type(column_type: pa.DataType) -> bool:
    """Whether a column may order an entity's rows: timestamps, dates, whole numbers, ISO strings, times of day."""
    plain = plain_type(column_type)
    return bool(_is_text(plain) or _is_number_of_time(plain))


def ordinals(column: ArrowValues, *, first: bool) -> tuple[Ordinals, Bools]:
    """A time column (row,) in its plain type -> its ordinals (row,) and whether each row has one (row,)."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_null(column.type):  # as a file without a single time may have it
        column = column.cast(pa.int64())
    if _is_text(column.type):
        column = _parse_iso(column) if first else _rank(column)
    valid = _numpy(column.is_valid())
    if pa.types.is_unsigned_integer(column.type) and column.type.bit_width == 64:
        unsigned = _numpy(column.fill_null(0))
        return (unsigned ^ np.uint64(1 << 63)).view(np.int64), valid
    if column.type.bit_width < 64:
        column = column.cast(pa.int32()) if not pa.types.is_integer(column.type) else column
    return _numpy(column.cast(pa.int64()).fill_null(0)), valid


def table_ordinals(times: pa.Table) -> list[Ordinals]:
    """A table of time columns without nulls -> the ordinals of each column, (row,) each."""
    return [ordinals(as_plain(times.column(i)), first=i == 0)[0] for i in range(times.num_columns)]


def time_order(times: pa.Table) -> Ints:
    """The stable order (row,) of a table of time columns (row, time columns): equal times keep their place."""
    order: Ints = np.lexsort(tuple(reversed(table_ordinals(times)))).astype(np.int64, copy=False)
    return order


def compare(left: Sequence[Ordinals], right: Sequence[Ordinals]) -> tuple[Bools, Bools]:
    """Time tuples (pair,) against each other, the first column deciding first -> (left < right, left == right)."""
    less = np.zeros(len(left[0]), dtype=np.bool_)
    equal = np.ones(len(left[0]), dtype=np.bool_)
    for a, b in zip(left, right, strict=True):
        less |= equal & (a < b)
        equal &= a == b
    return less, equal


def compare_tables(left: pa.Table, right: pa.Table) -> tuple[Bools, Bools]:
    """As `compare`, of two tables of time columns (pair, time columns) without nulls and with one schema."""
    moments = table_ordinals(pa.concat_tables([left, right]))  # one call: a text's rank holds within one call only
    rows = left.num_rows
    return compare([column[:rows] for column in moments], [column[rows:] for column in moments])


def parse_bound(text: str, column_type: pa.DataType, *, setting: str) -> int:
    """`since` or `until` as an ordinal of the first time column: the smallest that is not before the given moment.

    A moment without a zone is meant in the column's zone. Raises InputRefused with the setting's name and the text.
    """
    plain = plain_type(column_type)
    if pa.types.is_integer(plain):
        return _parse_whole(text, plain, setting=setting)
    moment = _parse_moment(text, plain, setting=setting)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    units = 1 if pa.types.is_date32(plain) else _UNITS_PER_SECOND[getattr(plain, "unit", _default_unit(plain))]
    seconds = 86_400 if pa.types.is_date32(plain) else 1
    ordinal = -((-microseconds * units) // (seconds * 10**6))
    return max(int(_INT64.min), min(int(_INT64.max), ordinal))


def _default_unit(plain: pa.DataType) -> str:
    return "ms" if pa.types.is_date64(plain) else "ns"


def _parse_whole(text: str, plain: pa.DataType, *, setting: str) -> int:
    try:
        whole = int(text)
    except ValueError as error:
        raise InputRefused(
            f"{setting} is {text!r}, but the time column holds whole numbers ({plain}): give a whole number."
        ) from error
    ordinal = whole - (1 << 63) if plain == pa.uint64() else whole
    return max(int(_INT64.min), min(int(_INT64.max), ordinal))


def _parse_moment(text: str, plain: pa.DataType, *, setting: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputRefused(
            f"{setting} is {text!r}, but the time column is {_describe(plain)}: "
            "give an ISO 8601 date or time such as 2026-11-20 or 2026-11-20T06:00:00."
        ) from error
    zone_name = getattr(plain, "tz", None)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=_zone(zone_name))
    if zone_name is None and not _is_text(plain):
        raise InputRefused(
            f"{setting} is {text!r} with a zone, but the time column is {_describe(plain)} without one: "
            "give the time as it stands in the column."
        )
    return moment


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    if name[:1] in "+-":
        hours, _, minutes = name[1:].partition(":")
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-offset if name[0] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputRefused(
            f"The time column's zone {name!r} is not known on this machine: install the Python package tzdata, "
            "or give since and until with an offset such as 2026-11-20T00:00:00+00:00."
        ) from error


def _describe(plain: pa.DataType) -> str:
    return "text" if _is_text(plain) else str(plain)


def _is_text(column_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(column_type) or types.is_large_string(column_type) or types.is_string_view(column_type))


def _is_number_of_time(plain: pa.DataType) -> bool:
    return bool(pa.types.is_integer(plain) or (pa.types.is_temporal(plain) and not _is_span(plain)))


def _is_span(plain: pa.DataType) -> bool:
    return bool(pa.types.is_duration(plain) or pa.types.is_interval(plain))


def _numpy(column: ArrowValues) -> Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.to_numpy(zero_copy_only=False)


def _rank(texts: ArrowArray) -> ArrowArray:
    ranks = pc.rank(texts, sort_keys="ascending", tiebreaker="dense").cast(pa.int64())
    known: ArrowArray = pc.if_else(texts.is_valid(), ranks, pa.scalar(None, pa.int64()))
    return known


def _parse_iso(texts: ArrowArray) -> ArrowArray:
    """ISO 8601 texts as nanoseconds since 1970; what is none, or lies outside 1678 to 2262, becomes null."""
    try:
        return _cast_iso(texts)
    except pa.ArrowInvalid:
        texts = pc.if_else(pc.match_substring_regex(texts, _ISO), texts, pa.scalar(None, texts.type))
    try:
        return _cast_iso(texts)
    except pa.ArrowInvalid:
        return _cast_iso_one_by_one(texts)


def _cast_iso(texts: ArrowArray) -> ArrowArray:
    nothing = pa.scalar(None, texts.type)
    zoned = pc.match_substring_regex(texts, _ISO_WITH_ZONE)
    local = pc.if_else(zoned, nothing, texts).cast(pa.timestamp("ns")).cast(pa.int64())
    universal = pc.if_else(zoned, texts, nothing).cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    return pc.coalesce(local, universal)


def _cast_iso_one_by_one(texts: ArrowArray) -> ArrowArray:
    """The slow road, for batches with a text such as 2026-02-30 that looks like a time and is none."""
    encoded = texts.dictionary_encode()
    values = [_cast_iso_or_null(encoded.dictionary[i : i + 1]) for i in range(len(encoded.dictionary))]
    return pa.array(values, type=pa.int64()).take(encoded.indices)


def _cast_iso_or_null(text: ArrowArray) -> int | None:
    try:
        nanoseconds: int | None = _cast_iso(text)[0].as_py()
    except pa.ArrowInvalid:
        return None
    return nanoseconds
