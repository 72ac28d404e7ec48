"""Times as people and other programs spell them: ISO 8601 text and the names of zones, as whole numbers and offsets.

Decides which spellings are understood: ISO 8601 dates and times in the extended and the basic form, weeks and days of
the year, a comma for the point, `t` and `z`, a space before the zone, the words UTC and GMT in its place; and zones as
Java, pandas and others name them. Limits it sets: years 1 to 9999, and at most nanoseconds. What is not understood is
null, never another moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Literal, TypeAlias, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray
from lstm_core.array_types import Bools, Ints

_Unit: TypeAlias = Literal["us", "ns"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Between the two a nanosecond is a step of an ordinal, before and behind them a microsecond is.
_FINE_FROM_US = (datetime(1700, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_FINE_UNTIL_US = (datetime(2250, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_FINE_FROM, _FINE_UNTIL = 1000 * _FINE_FROM_US, 1000 * _FINE_UNTIL_US

# What Arrow reads as a time, and nothing else.
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}(:\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
_ISO_WITH_ZONE = r"[T ]\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_FRACTION = r"^(.*\.[0-9]{6})([0-9]{1,3})(.*)$"  # one that is finer than a microsecond, and what stands around it
_FAR_YEAR = r"^(0|1[0-6]|22[5-9]|2[3-9]|[3-9])"  # of an ISO text: it may lie where only microseconds are told apart
_REWRITTEN = (  # one after the other, where a text is not as Arrow reads it
    (r"^\s+|\s+$", ""),
    (r"(Z|[+-][0-9:]+)\[[^\]]*\]$", r"\1"),  # Java's name of the zone behind its offset
    (r"^([0-9W-]+)t", r"\1T"),
    (r"([0-9]),([0-9])", r"\1.\2"),
    (r"([0-9])\s*(?i:z|utc|gmt)$", r"\1Z"),
    (r"([0-9])\s+([+-][0-9:]+)$", r"\1\2"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})($|[T ])", r"\1-\2-\3\4"),
)
_REWRITTEN_THEN = (  # when its day is year, month and day
    (r"^(.{10}[T ].*[0-9])([+-])([0-9])(:|$)", r"\1\20\3\4"),  # its groups have one digit: the nought is one
    (r"^(.{10}[T ][0-9]{2})([0-9]{2})([0-9]{2})?($|[^0-9:].*$)", r"\1:\2:\3\4"),
    (r"^(.{10}[T ][0-9]{2}:[0-9]{2}):($|[^0-9].*$)", r"\1\2"),
    (r"(\.[0-9]{9})0+($|[^0-9])", r"\1\2"),
)
_LAST_HOUR = r"^.{10}[T ]24"
_BY_WEEK = re.compile(r"(\d{4})-?W(\d{2})(?:-?([1-7]))?($|[T ].*)")
_BY_DAY = re.compile(r"(\d{4})-?(\d{3})($|T.*)")
_MIDNIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})([T ])24(:00(?::00(?:\.0+)?)?)?(|Z|[+-][\d:]+)$")
_OFFSET = re.compile(r"(?:utc|gmt|ut|z)?([+-])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?", re.IGNORECASE)
_UNIVERSAL = {"z", "utc", "gmt", "ut", "zulu", "uct", "universal"}


# ---- zones


@cache
def zone_named(name: str) -> tzinfo | None:
    """The zone that a name means: an offset such as `+05:30`, `-0800`, `GMT+5` or `UTC+1`, `Z`, or a place; else None.

    A name of the time zone database counts first, as `Etc/GMT+5`, whose sign is the other way round, does.
    """
    name = name.strip()
    if name.lower() in _UNIVERSAL:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        return _at_offset(offset)
    found = _place_named(name)
    if found is None and name.lower() in _places():
        return _place_named(_places()[name.lower()])
    return found


def _at_offset(offset: re.Match[str]) -> tzinfo | None:
    hours, minutes, seconds = (int(offset[place] or 0) for place in (2, 3, 4))
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    behind = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-behind if offset[1] == "-" else behind)


def _place_named(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # one that leads out of the database, or is a folder of it
        return None


@cache
def _places() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def arrow_zone(name: str) -> str:
    """The same zone under a name that Arrow knows; UTC where nobody knows it."""
    zone = zone_named(name)
    if isinstance(zone, ZoneInfo):
        return zone.key
    minutes, seconds = divmod((zone.utcoffset(None) if zone else None) or timedelta(), timedelta(minutes=1))
    if not minutes or seconds:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


# ---- single texts


@dataclass(frozen=True)
class SpeltTime:
    """A moment as a text says it."""

    microseconds: int  # since 1970; of a text without a zone as if it were UTC
    rest_ns: int  # 0 to 999, on top of them
    zoned: bool  # the text names its zone

    def within(self, zone: tzinfo) -> int:
        """Nanoseconds since 1970, where a text without a zone is meant in `zone`."""
        offset = timedelta()
        if not self.zoned:
            local = EPOCH.replace(tzinfo=None) + self.microseconds * _MICROSECOND
            offset = local.replace(tzinfo=zone).utcoffset() or offset
        return 1000 * (self.microseconds - offset // _MICROSECOND) + self.rest_ns


def read_time(text: str) -> SpeltTime | None:
    """The moment that an ISO 8601 text says; None where it says none, or one before the year 1 or behind 9999."""
    spelt = _arrow_spelling(pa.array([text], pa.large_string()))
    iso = spelt[0].as_py()
    if iso is None:
        return None
    finer = re.match(_FRACTION, iso)
    shortened = f"{finer[1]}{finer[3]}" if finer else iso
    found = _cast_or_null(pa.array([shortened], pa.large_string()), "us")[0].as_py()
    zoned = bool(re.search(_ISO_WITH_ZONE, iso))
    return None if found is None else SpeltTime(found, int(finer[2].ljust(3, "0")) if finer else 0, zoned)


def nanosecond_ordinal(nanoseconds: int) -> int:
    """A moment as `iso_ordinals` orders it; the first number that is not before it, where there is none for itself."""
    if _FINE_FROM <= nanoseconds < _FINE_UNTIL:
        return nanoseconds
    return _coarse_ordinal(-(-nanoseconds // 1000))


def _coarse_ordinal(microseconds: int) -> int:
    if microseconds < _FINE_FROM_US:
        return microseconds - _FINE_FROM_US + _FINE_FROM
    return microseconds - _FINE_UNTIL_US + _FINE_UNTIL


# ---- columns


def iso_ordinals(texts: ArrowArray) -> tuple[ArrowArray, Ints | None]:
    """ISO 8601 texts (row,) -> int64 (row,) that order as the moments do, those without a zone in UTC; else null.

    From 1700 to 2250 it is nanoseconds since 1970; before and behind them a step is a microsecond, so that all moments
    of the years 1 to 9999 have a number. Where some there have nanoseconds too, these are the second value (row,).
    """
    try:
        return _on_one_scale(_cast(texts, "ns"))
    except pa.ArrowInvalid:
        texts = _arrow_spelling(texts)
    far = _matches(texts, _FAR_YEAR)
    nothing = pa.scalar(None, texts.type)
    near, rest = _on_one_scale(_cast_or_null(pc.if_else(far, nothing, texts), "ns"))
    if not far.true_count:
        return near, rest
    late, late_rest = _coarse(pc.if_else(far, texts, nothing))
    found = late_rest if rest is None else rest + late_rest
    return pc.coalesce(near, late), found if found.any() else None


def _on_one_scale(nanoseconds: ArrowArray) -> tuple[ArrowArray, Ints | None]:
    """Nanoseconds since 1970 as ordinals, and what is left of those before 1700 and behind 2250, if anything is."""
    bounds = pc.min_max(nanoseconds)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or (low >= _FINE_FROM and high < _FINE_UNTIL):
        return nanoseconds, None
    values: Ints = nanoseconds.fill_null(0).to_numpy(zero_copy_only=False)
    outside = (values < _FINE_FROM) | (values >= _FINE_UNTIL)
    rest = np.where(outside, values % 1000, 0)
    found = np.where(outside, _coarse_values(values // 1000), values)
    return pa.array(found, pa.int64(), mask=_nulls(nanoseconds)), rest if rest.any() else None


def _coarse(texts: ArrowArray) -> tuple[ArrowArray, Ints]:
    """The same of texts of which many lie there."""
    digits = pc.replace_substring_regex(texts, _FRACTION, r"\2")
    digits = pc.if_else(_matches(texts, _FRACTION), digits, pa.scalar("0", texts.type))
    microseconds = _cast_or_null(pc.replace_substring_regex(texts, _FRACTION, r"\1\3"), "us")
    values: Ints = microseconds.fill_null(0).to_numpy(zero_copy_only=False)
    rest: Ints = pc.utf8_rpad(digits, 3, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
    near = (values >= _FINE_FROM_US) & (values < _FINE_UNTIL_US)
    found = np.where(near, 1000 * np.where(near, values, 0) + rest, _coarse_values(values))
    return pa.array(found, pa.int64(), mask=_nulls(microseconds)), np.where(near, 0, rest)


def _coarse_values(microseconds: Ints) -> Ints:
    early = microseconds - _FINE_FROM_US + _FINE_FROM
    return np.where(microseconds < _FINE_FROM_US, early, microseconds - _FINE_UNTIL_US + _FINE_UNTIL)


def _nulls(column: ArrowArray) -> Bools:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _cast(texts: ArrowArray, unit: _Unit) -> ArrowArray:
    """Texts as Arrow reads them, as whole numbers of a unit. Raises ArrowInvalid where one of them is none."""
    nothing = pa.scalar(None, texts.type)
    zoned = pc.match_substring_regex(texts, _ISO_WITH_ZONE)
    local = pc.if_else(zoned, nothing, texts).cast(pa.timestamp(unit)).cast(pa.int64())
    universal = pc.if_else(zoned, texts, nothing).cast(pa.timestamp(unit, "UTC")).cast(pa.int64())
    return pc.coalesce(local, universal)


def _cast_or_null(texts: ArrowArray, unit: _Unit) -> ArrowArray:
    """The same with nulls for those; each distinct text by itself, where a batch has one such as 2026-02-30."""
    try:
        return _cast(texts, unit)
    except pa.ArrowInvalid:
        encoded = texts.dictionary_encode()
    distinct = encoded.dictionary
    values = [_one_or_null(distinct[place : place + 1], unit) for place in range(len(distinct))]
    return pa.array(values, type=pa.int64()).take(encoded.indices)


def _one_or_null(text: ArrowArray, unit: _Unit) -> int | None:
    try:
        found: int | None = _cast(text, unit)[0].as_py()
    except pa.ArrowInvalid:
        return None
    return found


def _arrow_spelling(texts: ArrowArray) -> ArrowArray:
    """Texts as Arrow reads them; what cannot be brought there is null."""
    nothing = pa.scalar(None, texts.type)
    fits = pc.and_not(_matches(texts, _ISO), _matches(texts, _LAST_HOUR))
    others = _by_the_calendar(_rewritten(pc.if_else(fits, nothing, texts), _REWRITTEN))
    others = _rewritten(others, _REWRITTEN_THEN)
    found: ArrowArray = pc.if_else(fits, texts, pc.if_else(_matches(others, _ISO), others, nothing))
    return found


def _matches(texts: ArrowArray, pattern: str) -> pa.BooleanArray:
    """Which texts (row,) have the pattern; a null has none."""
    return cast(pa.BooleanArray, pc.match_substring_regex(texts, pattern).fill_null(False))


def _rewritten(texts: ArrowArray, patterns: tuple[tuple[str, str], ...]) -> ArrowArray:
    for pattern, replacement in patterns:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _by_the_calendar(texts: ArrowArray) -> ArrowArray:
    """The few spellings that take a calendar: by week, by day of the year, and the 24th hour."""
    special = _matches(texts, r"^[0-9]{4}(-?W|-?[0-9]{3}($|T)|.{6}[T ]24)")
    if not special.true_count:
        return texts
    encoded = pc.if_else(special, texts, pa.scalar(None, texts.type)).dictionary_encode()
    spelt = [_extended(str(text)) for text in encoded.dictionary]
    found: ArrowArray = pc.if_else(special, pa.array(spelt, texts.type).take(encoded.indices), texts)
    return found


def _extended(text: str) -> str | None:
    try:
        week, day, midnight = _BY_WEEK.fullmatch(text), _BY_DAY.fullmatch(text), _MIDNIGHT.fullmatch(text)
        if week:
            return f"{date.fromisocalendar(int(week[1]), int(week[2]), int(week[3] or 1)).isoformat()}{week[4]}"
        if day:
            first = date(int(day[1]), 1, 1)
            found = first + timedelta(days=int(day[2]) - 1)
            return f"{found.isoformat()}{day[3]}" if found.year == first.year else None
        if midnight:
            after = date.fromisoformat(midnight[1]) + timedelta(days=1)
            return f"{after.isoformat()}{midnight[2]}00:00:00{midnight[4]}"
    except (ValueError, OverflowError):
        return None
    return None
