"""Time columns as whole numbers that can be compared, and the columns' types that can be keys or times.

Decides which Arrow types may be an entity or a time, and how a moment becomes an int64 *ordinal*: a number that orders
as the moments do. Ordinals of the first time column are absolute, in the column's own unit (ISO strings: as
`spelt_times` has them, those without a zone counted as UTC), so `since` and `until` are ordinals too. Strings in
further time columns only break ties: they are ordered by their bytes, and their ordinals hold within one call only.
Leaves files alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TypeAlias, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowScalar, ArrowValues
from cluster.core.spelt_times import iso_ordinals, nanosecond_ordinal, read_time, zone_named
from cluster.run_errors import InputRefused
from lstm_core.array_types import Array, Bools, Ints

Ordinals: TypeAlias = Ints  # moments
Flags: TypeAlias = Bools

_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_NS = 86_400 * 10**9
_INT64 = np.iinfo(np.int64)


def plain_type(column_type: pa.DataType) -> pa.DataType:
    """The type that a column is compared in: dictionaries and extensions opened, text and bytes with 64-bit offsets,
    decimals of 128 bits at least: Arrow can neither sort nor number shorter ones."""
    opened = opened_type(column_type)
    if pa.types.is_decimal(opened) and opened.bit_width < 128:
        return pa.decimal128(opened.precision, opened.scale)
    return opened


def opened_type(column_type: pa.DataType) -> pa.DataType:
    """The same, with decimals as they are."""
    if isinstance(column_type, pa.BaseExtensionType):
        return opened_type(column_type.storage_type)
    if pa.types.is_dictionary(column_type):
        return opened_type(column_type.value_type)
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
    column = as_opened(column)
    wanted = plain_type(column.type)
    return column if column.type == wanted else column.cast(wanted)


def as_opened(column: ArrowValues) -> ArrowValues:
    """A column in its `opened_type`."""
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        storages = [chunk.storage for chunk in chunks]  # type: ignore[attr-defined]  # each is an extension's array
        column = pa.chunked_array(storages, type=column.type.storage_type)  # type: ignore[call-overload]  # the stubs name types one by one
    wanted = opened_type(column.type)
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
    found, valid, _ = _numbers(column, first=first)
    return found, valid


def table_ordinals(times: pa.Table) -> list[Ordinals]:
    """A table of time columns without nulls -> what its rows are ordered by, (row,) each, the first one deciding first.

    That is the ordinals of each column, and behind those of texts that one number does not tell apart a second one.
    """
    moments: list[Ordinals] = []
    for place in range(times.num_columns):
        found, _, rest = _numbers(as_plain(times.column(place)), first=place == 0)
        moments += [found] if rest is None else [found, rest]
    return moments


def _numbers(column: ArrowValues, *, first: bool) -> tuple[Ordinals, Bools, Ints | None]:
    """As `ordinals`, and what tells moments apart that have one ordinal, where there are such."""
    rest = None
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_null(column.type):  # as a file without a single time may have it
        column = column.cast(pa.int64())
    if _is_text(column.type):
        column, rest = iso_ordinals(column) if first else (_rank(column), None)
    valid = _numpy(column.is_valid())
    if pa.types.is_unsigned_integer(column.type) and column.type.bit_width == 64:
        unsigned = _numpy(column.fill_null(0))
        return (unsigned ^ np.uint64(1 << 63)).view(np.int64), valid, rest
    if column.type.bit_width < 64:
        column = column.cast(pa.int32()) if not pa.types.is_integer(column.type) else column
    return _numpy(column.cast(pa.int64()).fill_null(0)), valid, rest


def time_order(times: pa.Table) -> Ints:
    """The stable order (row,) of a table of time columns (row, time columns): equal times keep their place."""
    order: Ints = np.lexsort(tuple(reversed(table_ordinals(times)))).astype(np.int64, copy=False)
    return order


@dataclass
class TimeBounds:
    """The earliest and the latest time of columns of one type; text by its bytes."""

    earliest: ArrowScalar | None = None
    latest: ArrowScalar | None = None

    def add(self, column: ArrowValues) -> None:
        """Takes a column, in any form."""
        column = as_plain(column)
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for bound in (self.earliest, self.latest):
            chunks += [] if bound is None else [pa.repeat(bound, 1)]  # type: ignore[call-overload]  # the stubs name types one by one
        found = pc.min_max(pa.chunked_array(chunks, column.type))
        if found["min"].is_valid:
            self.earliest, self.latest = found["min"], found["max"]


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
    nanoseconds = _parse_moment(text, plain, setting=setting)
    if _is_text(plain):
        return nanosecond_ordinal(nanoseconds)
    step_ns = _DAY_NS if pa.types.is_date32(plain) else 10**9 // _UNITS_PER_SECOND[getattr(plain, "unit", "ms")]
    return max(int(_INT64.min), min(int(_INT64.max), -(-nanoseconds // step_ns)))


def _parse_whole(text: str, plain: pa.DataType, *, setting: str) -> int:
    try:
        whole = int(text)
    except ValueError as error:
        raise InputRefused(
            f"{setting} is {text!r}, but the time column holds whole numbers ({plain}): give a whole number."
        ) from error
    ordinal = whole - (1 << 63) if plain == pa.uint64() else whole
    return max(int(_INT64.min), min(int(_INT64.max), ordinal))


def _parse_moment(text: str, plain: pa.DataType, *, setting: str) -> int:
    """Nanoseconds since 1970."""
    moment = read_time(text)
    if moment is None:
        raise InputRefused(
            f"{setting} is {text!r}{_what_it_is(text)}, but the time column is {_describe(plain)}: "
            "give an ISO 8601 date or time such as 2026-11-20 or 2026-11-20T06:00:00."
        )
    zone_name = getattr(plain, "tz", None)
    if zone_name is None:
        if moment.zoned and not _is_text(plain):
            raise InputRefused(
                f"{setting} is {text!r} with a zone, but the time column is {_describe(plain)} without one: "
                "give the time as it stands in the column."
            )
        return moment.within(UTC)
    return moment.within(UTC if moment.zoned else _zone(zone_name))


def _what_it_is(text: str) -> str:
    """Of a text that is no moment, what it may have been meant for."""
    kinds = (
        (r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?", "a time of day without its day"),
        (r"\d{4}(-?\d{2})?", "a year or a month without a day"),
        (r"-?\d+(\.\d+)?", "a number"),
        (r"\d{1,2}[./]\d{1,2}[./]\d{4}.*|\d{4}/\d{1,2}/\d{1,2}.*", "a date in no ISO 8601 order"),
    )
    return next((f", {kind}" for pattern, kind in kinds if re.fullmatch(pattern, text.strip())), "")


def _zone(name: str) -> tzinfo:
    zone = zone_named(name)
    if zone is None:
        raise InputRefused(
            f"The time column's zone {name!r} is not known on this machine: install the Python package tzdata, "
            "or give since and until with an offset such as 2026-11-20T00:00:00+00:00."
        )
    return zone


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
