"""Keys, moments and numbers as the audit understands them, by code that no run uses.

What it decides: a key is compared by how its value is spelt, and a moment as whole seconds and a rest, so that files
and nights may differ in types, units and zones; a number becomes a float32 from its own file's type, with nothing in
between. Slow where that is simpler: decimals go one by one. It leaves open what a null means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowDictionary, ArrowScalar, ArrowValues
from cluster.core.plan.shuffle_plan import Hashes, row_hashes
from lstm_core.array_types import Array, Bools, Floats, Ints

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400
_NANOSECONDS_S = 2**63 // 10**9  # seconds, on either side of 1970
_DIGITS = 9  # of a fraction of a second
_SHAPE = re.compile(
    rb"0000-00-00([T ]00(:00(:00(\.0{1,9})?)?)?(Z|[+-]00(:?00)?)?)?\Z"
)  # a text of time with all digits as zeros
_OTHER_FORM = re.compile(
    rb"(?P<year>\d{4})-?(?:W(?P<week>\d\d)(?:-?(?P<weekday>[1-7]))?|(?P<month>\d\d)-?(?P<day>\d\d)|(?P<of_year>\d{3}))"
    rb"(?:[T ](?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?:?"
    rb"\s*(?:UTC|GMT|(?:Z|(?P<sign>[+-])(?P<east>\d{1,2})(?::?(?P<east_minutes>\d\d))?)(?:\[[^\]]*\])?)?)?"
)
_MONTH_ENDS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def opened(column: ArrowValues) -> ArrowArray:
    """A column as one array: extensions by what they store, dictionaries by their values, text and bytes as bytes."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_opened(chunk) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    return pa.concat_arrays(parts) if parts else _opened(pa.array([], column.type))


def _opened(array: ArrowArray) -> ArrowArray:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _opened(array.storage)  # type: ignore[attr-defined]  # it is an extension's array
    if pa.types.is_dictionary(kind):
        encoded = cast(ArrowDictionary, array)
        return _opened(encoded.dictionary).take(encoded.indices)
    return array.cast(pa.large_binary()) if _is_bytes(kind) else array


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    some = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(text or some or types.is_fixed_size_binary(kind))


def spelt(column: ArrowValues) -> ArrowArray:
    """Each value (row,) of a key's column as bytes, the same for the same value in any type; null for a null."""
    array = opened(column)
    kind = array.type
    if pa.types.is_large_binary(kind):
        return array
    if pa.types.is_temporal(kind):
        second, rest = (pa.array(part, pa.int64()).cast(pa.string()) for part in _whole(array))
        texts = _side_by_side([second, rest], pa.scalar("+"))
        texts = pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.string()))
    else:
        texts = array.cast(pa.string())
    if pa.types.is_decimal(kind):
        texts = pc.replace_substring_regex(texts, r"(\.[0-9]*[1-9])0+$|\.0+$", r"\1")
    spelling: ArrowArray = texts.cast(pa.large_binary())
    return spelling


def spelt_keys(table: pa.Table | pa.RecordBatch, names: Sequence[str]) -> ArrowArray:
    """The key (row,) of each row as one text of bytes; null where a part of it is. Raises KeyError."""
    parts = [spelt(table.column(name)) for name in names]
    if len(parts) == 1:
        return parts[0]
    # With its length before it, so that no two keys run together into one text.
    lengths = [_lengths(part).cast(pa.string()).cast(pa.large_binary()) for part in parts]
    pieces = [piece for pair in zip(lengths, parts, strict=True) for piece in pair]
    return _side_by_side(pieces, pa.scalar(b":", pa.large_binary()))


def _side_by_side(parts: Sequence[ArrowArray], between: ArrowScalar) -> ArrowArray:
    whole: ArrowArray = pc.binary_join_element_wise(*parts, between)  # type: ignore[call-overload]  # the stubs know no list
    return whole


def _lengths(texts: ArrowArray) -> ArrowArray:
    lengths: ArrowArray = pc.binary_length(texts)  # type: ignore[call-overload]  # the stubs name types one by one
    return lengths


def numbers_of(keys: ArrowArray, rows: ArrowArray) -> Ints:
    """The number (row,) of each row's key among `keys` (entity,), -1 where it is none of them."""
    return np.asarray(pc.index_in(rows, value_set=keys).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


# ---- moments


@dataclass(frozen=True)
class Moments:
    """The times of rows: what is compared column by column, the first deciding first."""

    columns: tuple[Ints | ArrowArray, ...]  # (row,) each: two of whole numbers for one of the table's, or bytes
    styles: tuple[str, ...]  # of each of the table's columns: "moment", "whole", "text" (ISO 8601), "bytes"
    texts: tuple[ArrowArray, ...]  # (row,) as written, where the first column is text
    valid: Bools  # (row,) every column has a value, and the first one is a time

    def __len__(self) -> int:
        return len(self.valid)

    def take(self, rows: Ints) -> Moments:
        """Some rows of them."""
        columns = tuple(
            column[rows] if isinstance(column, np.ndarray) else column.take(rows) for column in self.columns
        )
        return Moments(columns, self.styles, tuple(text.take(rows) for text in self.texts), self.valid[rows])

    @property
    def far(self) -> Bools:
        """Which moments (row,) whole nanoseconds of 64 bits do not hold, by the first column."""
        second = self.columns[0]
        assert isinstance(second, np.ndarray), "the first column is never compared as bytes"
        return np.asarray((second >= _NANOSECONDS_S) | (second < -_NANOSECONDS_S))

    @property
    def first(self) -> Moments:
        """The first of the table's columns alone."""
        return Moments(self.columns[:2], self.styles[:1], self.texts, self.valid)

    def ranks(self) -> list[Ints]:
        """Whole numbers (row,) in the place of each column, in its order; they hold within this call only."""
        return [column if isinstance(column, np.ndarray) else _ranks(column) for column in self.columns]

    def order(self, *before: Ints) -> Ints:
        """The stable order (row,) by what stands before, then by time."""
        return np.lexsort((*reversed(self.ranks()), *reversed(before))).astype(np.int64, copy=False)

    def show(self, row: int) -> str:
        """One moment for a sentence."""
        columns = iter(self.columns)
        return ", ".join(_shown(style, columns, row) for style in self.styles) if self.valid[row] else "no time"


def moments_of(table: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Moments:
    """The times of a table's rows. Raises KeyError for a column that is not there."""
    columns: list[Ints | ArrowArray] = []
    styles: list[str] = []
    texts: tuple[ArrowArray, ...] = ()
    valid = np.ones(table.num_rows, np.bool_)
    for name in names:
        array = opened(table.column(name))
        valid &= array.is_valid().to_numpy(zero_copy_only=False)
        if not pa.types.is_large_binary(array.type):
            columns += _whole(array)
            styles.append("moment" if pa.types.is_temporal(array.type) else "whole")
        elif not styles:
            texts = (array,)
            *parsed, iso = iso_moments(array)
            columns += parsed
            styles.append("text")
            valid &= iso
        else:
            columns.append(array)
            styles.append("bytes")
    return Moments(tuple(columns), tuple(styles), texts, valid)


def joined(parts: Sequence[Moments]) -> Moments:
    """Moments of one kind, one after the other."""
    columns = []
    for column in zip(*(part.columns for part in parts), strict=True):
        whole = isinstance(column[0], np.ndarray)
        columns.append(np.concatenate(column) if whole else pa.concat_arrays(cast("list[ArrowArray]", list(column))))
    texts = tuple(pa.concat_arrays(list(text)) for text in zip(*(part.texts for part in parts), strict=True))
    return Moments(tuple(columns), parts[0].styles, texts, np.concatenate([part.valid for part in parts]))


def compared(left: Moments, right: Moments) -> tuple[Bools, Bools]:
    """Moments (pair,) against each other -> (left < right, left == right)."""
    less, equal = np.zeros(len(left), np.bool_), np.ones(len(left), np.bool_)
    for ranks in joined([left, right]).ranks():
        ours, theirs = ranks[: len(left)], ranks[len(left) :]
        less |= equal & (ours < theirs)
        equal &= ours == theirs
    return less, equal


def differing(left: Moments, right: Moments) -> Bools:
    """Which moments (pair,) are not the same, or none; texts must be the same to the letter."""
    if left.styles != right.styles:
        return np.ones(len(left), np.bool_)
    _, equal = compared(left, right)
    for ours, theirs in zip(left.texts, right.texts, strict=True):
        equal &= pc.equal(ours, theirs).fill_null(False).to_numpy(zero_copy_only=False)
    return ~(equal & left.valid & right.valid)


def hashes(keys: ArrowArray, moments: Moments) -> Hashes:
    """A number for each row (row,) that follows from its key and its time, in whatever types they come."""
    columns = [column if isinstance(column, pa.Array) else pa.array(column, pa.int64()) for column in moments.columns]
    every = [keys, *columns, *moments.texts]
    return row_hashes(pa.table(every, names=[str(number) for number in range(len(every))]))


def _shown(style: str, columns: Iterator[Ints | ArrowArray], row: int) -> str:
    first = next(columns)[row]
    if style == "bytes":
        return repr(first.as_py())
    upper, lower = int(first), int(next(columns)[row])
    if style == "whole":
        return str((upper << 32) + lower)
    day, second = divmod(upper, _DAY_S)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}" + (f".{lower:09}" if lower else "")
    return f"{np.datetime64(day, 'D')} {clock}"


def _ranks(texts: ArrowArray) -> Ints:
    ranks = pc.rank(texts, sort_keys="ascending", tiebreaker="dense")
    return np.asarray(ranks.to_numpy(zero_copy_only=False)).astype(np.int64)


def _whole(array: ArrowArray) -> tuple[Ints, Ints]:
    """Dates and times as (seconds, nanoseconds), whole numbers as (their upper half, the lower): (row,) each.

    Both halves are whole for the year 300,000 in nanoseconds too, and for whole numbers without a sign.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64), np.zeros(len(array), np.int64)
    if pa.types.is_integer(kind):
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
        return (values >> 32).astype(np.int64) if values.dtype.itemsize == 8 else values.astype(np.int64) >> 32, (
            values.astype(np.int64) & 0xFFFFFFFF
        )
    values = array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).fill_null(0).to_numpy().astype(np.int64)
    if pa.types.is_date32(kind):
        return values * _DAY_S, np.zeros_like(values)
    per = _PER_SECOND["ms" if pa.types.is_date64(kind) else kind.unit]
    second, rest = np.divmod(values, per)
    return second, rest * (10**9 // per)


# ---- texts of time


def iso_moments(texts: ArrowArray) -> tuple[Ints, Ints, Bools]:
    """Texts (row,) as (seconds, nanoseconds) since 1970 of UTC, and which of them are ISO 8601; a text without a zone
    counts as UTC."""
    second, rest, good = _extended_moments(texts)
    others = np.flatnonzero(~good & texts.is_valid().to_numpy(zero_copy_only=False))
    if len(others):
        unread = cast("list[bytes]", texts.take(others).to_pylist())
        spelt_out = pa.array([_extended(text) for text in unread], pa.large_binary())
        second[others], rest[others], good[others] = _extended_moments(spelt_out)
    return second, rest, good


def _extended(text: bytes) -> bytes:
    """A text in another form of ISO 8601 in the extended form; as it is where it is none."""
    found = _OTHER_FORM.fullmatch(text.strip().upper())
    if found is None:
        return text
    part = {name: value.decode() for name, value in found.groupdict().items() if value is not None}
    try:
        if "week" in part:
            day = date.fromisocalendar(int(part["year"]), int(part["week"]), int(part.get("weekday", 1)))
        elif "of_year" in part:
            day = date(int(part["year"]), 1, 1) + timedelta(int(part["of_year"]) - 1)
            if day.year != int(part["year"]):
                return text
        else:
            day = date(int(part["year"]), int(part["month"]), int(part["day"]))
        hour, minute, second = (int(part.get(name, 0)) for name in ("hour", "minute", "second"))
        fraction = part.get("fraction", "").rstrip("0")
        if hour == 24 and not (minute or second or fraction):
            day, hour = day + timedelta(1), 0
    except (ValueError, OverflowError):
        return text
    zone = f"{part['sign']}{int(part['east']):02}:{int(part.get('east_minutes', 0)):02}" if "sign" in part else "Z"
    clock = f"{hour:02}:{minute:02}:{second:02}" + (f".{fraction}" if fraction else "")
    return f"{day.isoformat()}T{clock}{zone}".encode()


def _extended_moments(texts: ArrowArray) -> tuple[Ints, Ints, Bools]:
    """The same of texts in the extended form, digit by digit."""
    second, rest = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    good = np.zeros(len(texts), np.bool_)
    lengths = np.asarray(_lengths(texts).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    for length in np.unique(lengths[lengths >= 10]).tolist():
        rows = np.flatnonzero(lengths == length)
        letters = np.frombuffer(b"".join(cast("list[bytes]", texts.take(rows).to_pylist())), np.uint8)
        second[rows], rest[rows], good[rows] = _of_one_length(letters.reshape(-1, length))
    return second, rest, good


def _of_one_length(letters: Array) -> tuple[Ints, Ints, Bools]:
    """Texts (row, letter) of one length."""
    zeros = np.where((letters >= ord("0")) & (letters <= ord("9")), ord("0"), letters).astype(np.uint8)
    second, rest = np.zeros(len(letters), np.int64), np.zeros(len(letters), np.int64)
    good = np.zeros(len(letters), np.bool_)
    shapes, shape_of = np.unique(zeros, axis=0, return_inverse=True)
    for index, shape in enumerate(shapes):
        match = _SHAPE.match(shape.tobytes())
        if match:
            rows = np.flatnonzero(shape_of.reshape(-1) == index)
            second[rows], rest[rows], good[rows] = _of_one_shape(letters[rows].astype(np.int64) - ord("0"), match)
    return second, rest, good


def _of_one_shape(digits: Ints, match: re.Match[bytes]) -> tuple[Ints, Ints, Bools]:
    def number(begin: int, end: int) -> Ints:
        value = np.zeros(len(digits), np.int64)
        for place in range(begin, end):
            value = value * 10 + digits[:, place]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour = number(11, 13) if match[1] else number(0, 0)
    minute = number(14, 16) if match[2] else number(0, 0)
    seconds = number(17, 19) if match[3] else number(0, 0)
    fraction = match.end(4) - match.start(4) - 1 if match[4] else 0
    rest = number(20, 20 + fraction) * 10 ** (_DIGITS - fraction)
    good = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (seconds < 60)
    good &= day <= _month_days(year, np.clip(month, 1, 12))
    zone = match[5] or b"Z"
    offset = number(0, 0)
    if zone != b"Z":
        begin = match.start(5) + 1
        minutes = number(match.end(5) - 2, match.end(5)) if len(zone) > 3 else number(0, 0)
        good &= minutes < 60
        hours = number(begin, begin + 2)
        good &= hours < 24
        offset = (hours * 60 + minutes) * 60
        offset = np.where(digits[:, begin - 1] + ord("0") == ord("-"), -offset, offset)
    days = _days(year, np.clip(month, 1, 12), day)
    return days * _DAY_S + hour * 3600 + minute * 60 + seconds - offset, rest, good


def _month_days(year: Ints, month: Ints) -> Ints:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.asarray(_MONTH_ENDS[month - 1] + (leap & (month == 2)))


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970 in the Gregorian calendar, as it would have been before 1582 too (Hinnant 2013)."""
    year = year - (month <= 2)
    era, of_era = year // 400, year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return np.asarray(era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468)


# ---- numbers


def numbers_in(column: ArrowValues) -> tuple[Array, Bools]:
    """A feature's numbers (row,) in their own type, and which of them are missing: null or NaN."""
    array = opened(column)
    kind, missing = array.type, ~array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.float32), missing
    if pa.types.is_large_binary(kind):  # folders that spell a number in two ways
        array, kind = array.cast(pa.string()).cast(pa.int64()), pa.int64()
    if pa.types.is_decimal(kind):
        exact = cast("list[Decimal | None]", array.to_pylist())
        return np.array([0.0 if value is None else float(value) for value in exact], np.float64), missing
    if pa.types.is_floating(kind):
        values = array.to_numpy(zero_copy_only=False)  # a null is NaN
        return values, np.asarray(np.isnan(values))
    return array.fill_null(False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False), missing


def as_float32(values: Array) -> Floats:
    """The numbers as a model takes them; what is too large for it is infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
