"""Values as text: times, keys and whatever else stands in a column. No value makes it fail.

Decides how a time is written where a person reads it. `text_of` writes one value as Python does, for sentences, records
and terminals; `texts_of` a whole column as Arrow does, for columns of text. Both begin with the whole number that a
time is: Python's own times know neither a nanosecond nor the years before 1 and behind 9999, and both engines stumble
over a zone that is spelt otherwise than in the time zone database. `spelling` writes a value of any depth so that two
values are the same just where their spellings are, whatever else is installed where it is asked.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowScalar, ArrowValues
from cluster.core.spelt_times import EPOCH, arrow_zone, zone_named

_DAY_US = 86_400 * 10**6
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAYS_OF_YEAR_ONE = date(1970, 1, 1).toordinal()
_NAMED_S = 9 * 10**11  # seconds from 1970 on, beyond which Arrow writes no year, or that of another moment
# No zone has changed its rules before the one, and none has decided what it will do behind the other.
_RULES_FROM_US, _RULES_UNTIL_US = (
    (datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) for year in (2, 9998)
)
_CYCLE_DAYS = 146_097  # of 400 years, after which the calendar and the days of the week repeat


# ---- one value


def text_of(value: ArrowScalar) -> str:
    """A value as a sentence has it: `2026-11-20 05:00:00+01:00`, `17`, `b'\\x00'`; `None` for a null."""
    kind = value.type
    if not value.is_valid:
        return "None"
    if isinstance(kind, pa.TimestampType):
        return _moment_text(_whole(value), kind.unit, zone_named(kind.tz) or UTC if kind.tz is not None else None)
    if pa.types.is_date32(kind):
        return _day_text(_whole(value))
    if pa.types.is_date64(kind):
        return _day_text(_whole(value) // 86_400_000)
    if pa.types.is_time(kind):
        return _clock_text(*_split(_whole(value), kind.unit))
    if isinstance(value, pa.DictionaryScalar):
        return text_of(value.value)
    try:
        return str(value.as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        return spelling(value)


def _whole(value: ArrowScalar) -> int:
    """The number that a time is."""
    number: int = value.value  # type: ignore[attr-defined]  # why: every scalar of a time has it
    return number


def _split(whole: int, unit: str) -> tuple[int, int]:
    """A whole number of a unit as microseconds, and nanoseconds on top of them."""
    return divmod(whole * (10**9 // _PER_SECOND[unit]), 1000)


def _moment_text(whole: int, unit: str, zone: tzinfo | None) -> str:
    microseconds, rest_ns = _split(whole, unit)
    offset = timedelta() if zone is None else _offset(microseconds, zone)
    days, clock = divmod(microseconds + offset // timedelta(microseconds=1), _DAY_US)
    return f"{_day_text(days)} {_clock_text(clock, rest_ns)}{'' if zone is None else _offset_text(offset)}"


def _offset(microseconds: int, zone: tzinfo) -> timedelta:
    within = max(microseconds, _RULES_FROM_US)
    if within > _RULES_UNTIL_US:  # the same day of an earlier cycle, since Python has none so late
        cycle = _CYCLE_DAYS * _DAY_US
        within -= -(-(within - _RULES_UNTIL_US) // cycle) * cycle
    return (EPOCH + timedelta(microseconds=within)).astimezone(zone).utcoffset() or timedelta()


def _offset_text(offset: timedelta) -> str:
    sign, seconds = ("-", -offset) if offset < timedelta() else ("+", offset)
    whole = seconds // timedelta(seconds=1)
    odd = f":{whole % 60:02d}" if whole % 60 else ""
    return f"{sign}{whole // 3600:02d}:{whole // 60 % 60:02d}{odd}"


def _day_text(days: int) -> str:
    """A day counted from 1970, in the calendar of today for all times."""
    ordinal = days + _DAYS_OF_YEAR_ONE
    if 1 <= ordinal <= date.max.toordinal():
        return date.fromordinal(ordinal).isoformat()
    cycles, within = divmod(ordinal - 1, _CYCLE_DAYS)
    like = date.fromordinal(within + 1)
    year = like.year + 400 * cycles
    return f"{'-' if year < 0 else ''}{abs(year):04d}-{like.month:02d}-{like.day:02d}"


def _clock_text(microseconds: int, rest_ns: int) -> str:
    seconds, fraction = divmod(microseconds, 10**6)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if rest_ns:
        return f"{text}.{fraction:06d}{rest_ns:03d}"
    return f"{text}.{fraction:06d}" if fraction else text


# ---- one value of any depth


def spelling(value: ArrowScalar) -> str:
    """A value as Python's `repr` has it where no pandas is installed; of what has none its text."""
    kind: Any = value.type
    if not value.is_valid:
        return "None"
    if isinstance(value, pa.MapScalar):
        pairs: Any = value.values
        both = zip(pairs.field(0), pairs.field(1), strict=True)
        return f"[{', '.join(f'({spelling(key)}, {spelling(item)})' for key, item in both)}]"
    if pa.types.is_struct(kind):
        fields: Any = value
        inside = (f"{kind.field(place).name!r}: {spelling(fields[place])}" for place in range(kind.num_fields))
        return f"{{{', '.join(inside)}}}"
    if pa.types.is_nested(kind):
        return f"[{', '.join(map(spelling, _items(value)))}]"
    if isinstance(value, pa.DictionaryScalar):
        return spelling(value.value)
    return _leaf_spelling(value)


def _items(value: ArrowScalar) -> ArrowArray:
    items: ArrowArray = value.values  # type: ignore[attr-defined]  # why: every scalar of a list has them
    return items


def _leaf_spelling(value: ArrowScalar) -> str:
    if getattr(value.type, "unit", None) == "ns":  # Python has no nanoseconds, and pandas may be there or not
        microseconds, rest_ns = divmod(_whole(value), 1000)
        if rest_ns:
            return f"{_whole(value)} ns" if pa.types.is_duration(value.type) else text_of(value)
        value = pa.scalar(microseconds, pa.int64()).cast(_in_microseconds(value.type))
    try:
        return repr(value.as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        pass
    if isinstance(value, pa.ExtensionScalar):
        return spelling(cast(ArrowScalar, value.value))
    if pa.types.is_temporal(value.type):
        return f"{_whole(value)}" if pa.types.is_duration(value.type) else text_of(value)
    return repr(bytes(value.as_buffer()))  # type: ignore[attr-defined]  # why: what is left is text that is none


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.TimestampType):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")


def spellings(array: ArrowArray) -> list[str]:
    """The spelling of each value (row,)."""
    if not _has_nanoseconds(array.type):
        try:
            return [repr(value) for value in array.to_pylist()]  # the same, at once
        except (ValueError, OverflowError, pa.ArrowException):
            pass
    return [spelling(value) for value in array]


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_nanoseconds(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _has_nanoseconds(kind.value_type)
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return getattr(kind, "unit", None) == "ns" or any(map(_has_nanoseconds, inner))


def json_values(column: ArrowColumn) -> list[Any]:
    """A column as what JSON has, or what has a text: a time is its text, also where Python has no such time."""
    if not pa.types.is_temporal(column.type):
        try:
            return column.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            pass
    return [_text_or_null(value) for value in column]


# ---- a column


def texts_of(column: ArrowValues) -> ArrowColumn:
    """A column as text: `2026-11-20 05:00:00.000000+0100`; nulls stay nulls. Nested values and views are none of it."""
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([column])
    texts = _arrow_texts(column)
    if texts is None:
        return _texts_one_by_one(column)
    far = _beyond_names(column)
    if far is None:
        return texts
    spelt = pa.array([text_of(value) for value in column.filter(far)], pa.string())
    return pa.chunked_array([pc.replace_with_mask(texts.combine_chunks(), far.combine_chunks(), spelt)])


def _arrow_texts(column: ArrowColumn) -> ArrowColumn | None:
    """As Arrow writes them; None where it cannot, as bytes that are no text, or in a zone of which it has no rules."""
    attempts = [column]
    if isinstance(column.type, pa.TimestampType) and column.type.tz is not None:
        attempts.append(column.cast(pa.timestamp(column.type.unit, arrow_zone(column.type.tz))))
    for attempt in attempts:
        try:
            return pc.cast(attempt, pa.string())
        except pa.ArrowException:
            pass
    return None


def _texts_one_by_one(column: ArrowColumn) -> ArrowColumn:
    """Each distinct value by itself."""
    whole = column.combine_chunks()
    of_kind = whole if isinstance(whole, pa.ExtensionArray) else None
    encoded = (whole if of_kind is None else of_kind.storage).dictionary_encode()
    distinct = encoded.dictionary
    if of_kind is not None:
        distinct = pa.ExtensionArray.from_storage(of_kind.type, distinct)
    return pa.chunked_array([pa.array([_text_or_null(value) for value in distinct], pa.string()).take(encoded.indices)])


def _text_or_null(value: ArrowScalar) -> str | None:
    if not value.is_valid:
        return None
    if isinstance(value, pa.BinaryScalar):
        content = bytes(value.as_buffer())
        try:
            return content.decode()
        except UnicodeDecodeError:
            return repr(content)
    return text_of(value)


def _beyond_names(column: ArrowColumn) -> ArrowColumn | None:
    """Which times (row,) lie so far off that Arrow has no text for them; None where none does."""
    kind = column.type
    if isinstance(kind, pa.TimestampType):
        bound = _NAMED_S * _PER_SECOND[kind.unit]
    elif pa.types.is_date(kind):
        bound = _NAMED_S // 86_400 * (1 if pa.types.is_date32(kind) else 86_400_000)
    else:
        return None
    if bound > np.iinfo(np.int64).max:
        return None
    whole = (column.cast(pa.int32()) if pa.types.is_date32(kind) else column).cast(pa.int64())
    low, high = pa.scalar(-bound), pa.scalar(bound)
    far = cast(ArrowColumn, pc.or_(pc.greater(whole, high), pc.less(whole, low)).fill_null(False))
    return far if pc.any(far).as_py() else None
