"""Times and zones as people and programs spell them, against Python's own dates and numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.spelt_times import arrow_zone, iso_ordinals, nanosecond_ordinal, read_time, zone_named
from cluster.core.times import compare_tables, ordinals, parse_bound, time_order

EPOCH = datetime(1970, 1, 1)
FIVE = datetime(2026, 11, 20, 5)
SPELLINGS = {
    "2026-11-20T05:00:00": FIVE,
    "2026-11-20 05": FIVE,
    "20261120T050000Z": FIVE,
    "20261120T0500": FIVE,
    "20261120 050000.000": FIVE,
    "20261120": datetime(2026, 11, 20),
    "2026-11-20t05:00:00z": FIVE,
    "2026-11-20T05:00:00,123": FIVE + timedelta(milliseconds=123),
    "20261120T050000,5+0100": FIVE + timedelta(milliseconds=500) - timedelta(hours=1),
    "2026-11-20 05:00+0100": FIVE - timedelta(hours=1),
    "2026-11-20 05:00:00 +01:00": FIVE - timedelta(hours=1),
    "2026-11-20T05:00:00-3": FIVE + timedelta(hours=3),
    "2026-11-20 05:00:00 UTC": FIVE,
    "2026-11-20 05:00:00.000 gmt": FIVE,
    "2026-11-20T05:00:00+01:00[Europe/Berlin]": FIVE - timedelta(hours=1),
    "  2026-11-20T05:00:00 ": FIVE,
    "2026-W47-5": datetime(2026, 11, 20),
    "2026W475T050000Z": FIVE,
    "2026-W01": datetime(2025, 12, 29),
    "2026-324": datetime(2026, 11, 20),
    "2024-366T05:00": datetime(2024, 12, 31, 5),
    "2026-11-20T24:00": datetime(2026, 11, 21),
    "2026-12-31 24:00:00Z": datetime(2027, 1, 1),
    "2026-11-20T05:00:00.1234560000000": FIVE + timedelta(microseconds=123456),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1),
    "9999-12-31T23:59:59.999999": datetime(9999, 12, 31, 23, 59, 59, 999999),
}
NO_TIMES = (
    *("", "x", "20.11.2026", "11/20/2026", "1700000000", "2026", "2026-11", "2026-02-30", "2026-13-01", "2026-366"),
    *("2026-11-20T25:00", "2026-11-20T05:60", "2026-11-20T05:00:60Z", "2026-11-20T24:01", "2026-W54-1", "10000-01-01"),
    *("2026-11-20T05:00:00.1234567891", "2026-11-20T05:00:00[Europe/Berlin]", "-0001-01-01", "2026-11-20Z05"),
)


def nanoseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_spelling_means_its_moment_alone_and_among_others(text: str) -> None:
    wanted = nanoseconds(SPELLINGS[text])
    found = read_time(text)
    assert found is not None
    assert found.within(UTC) == wanted
    for others in ([], ["x"], ["2026-11-20"], ["x", "9999-12-31"]):
        column, rest = iso_ordinals(pa.array([text, *others], pa.large_string()))
        assert (column[0].as_py(), rest) == (nanosecond_ordinal(wanted), None)


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_null_alone_and_among_others(text: str) -> None:
    assert read_time(text) is None
    for others in ([], ["2026-11-20"]):
        assert iso_ordinals(pa.array([text, *others], pa.large_string()))[0][0].as_py() is None


@st.composite
def texts(draw: st.DrawFn) -> tuple[int, str]:
    """A moment in nanoseconds since 1970, and an ISO text of it."""
    moment = draw(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda one: one.replace(microsecond=0)))
    digits = draw(st.text("0123456789", max_size=9))
    zone = draw(st.sampled_from(["", "Z", "+01:00", "-0330", "+14"]))
    text = f"{moment.isoformat()}{'.' if digits else ''}{digits}{zone}"
    told = datetime.fromisoformat(f"{moment.isoformat()}{zone}")
    universal = told.astimezone(UTC).replace(tzinfo=None) if told.tzinfo else told
    return nanoseconds(universal) + int(digits.ljust(9, "0")), text


@given(st.lists(texts(), min_size=1, max_size=8))
def test_texts_of_all_years_stand_in_the_order_of_their_nanoseconds(given: list[tuple[int, str]]) -> None:
    wanted = np.array([moment for moment, _ in given], object)
    times = pa.table({"time": [text for _, text in given]})
    assert time_order(times).tolist() == sorted(range(len(given)), key=lambda place: wanted[place])
    less, equal = compare_tables(times, times.take(pa.array(range(len(given))[::-1])))
    assert less.tolist() == (wanted < wanted[::-1]).tolist()
    assert equal.tolist() == (wanted == wanted[::-1]).tolist()


@given(texts(), texts())
def test_a_bound_parts_texts_as_their_nanoseconds_do(bound: tuple[int, str], row: tuple[int, str]) -> None:
    found, valid = ordinals(pa.array([row[1]], pa.large_string()), first=True)
    limit = parse_bound(bound[1], pa.string(), setting="input.since")
    assert valid.all()
    # Before 1700 and behind 2250 a bound is read up to the next microsecond.
    exact = bound[0] % 1000 == 0 or abs(row[0] - bound[0]) >= 1000
    assert (found[0] >= limit) == (row[0] >= bound[0]) or not exact


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        *((name, 0) for name in ("UTC", "utc", "Z", "z", "GMT", "UT", "Zulu", "+00:00", "-00:00", "GMT0", "Etc/UTC")),
        *((name, 330) for name in ("+05:30", "+0530", "GMT+05:30", "UTC+5:30", "gmt+0530", "UT+05:30")),
        *((name, -480) for name in ("-0800", "-08", "-8", "GMT-8", "UTC-08:00", "Etc/GMT+8")),
        *((name, 60) for name in ("UTC+1", "GMT+1", "Europe/Berlin", "europe/berlin", "EUROPE/BERLIN", " CET ")),
    ],
)
def test_zones_are_known_by_what_people_call_them(name: str, offset: int) -> None:
    zone = zone_named(name)
    assert zone is not None
    winter = datetime(2026, 1, 1)
    assert zone.utcoffset(winter) == timedelta(minutes=offset)
    known = pa.scalar(winter).cast(pa.timestamp("us", arrow_zone(name))).as_py()
    assert known.utcoffset() == timedelta(minutes=offset)


@pytest.mark.parametrize("name", ["PST", "Mars/Olympus", "", "../UTC", "Europe", "+25:00", "+05:61", "\0"])
def test_a_zone_that_nobody_knows_is_none(name: str) -> None:
    assert (zone_named(name), arrow_zone(name)) == (None, "UTC")


def test_a_moment_without_a_zone_is_meant_in_the_zone_that_is_given() -> None:
    plain, zoned = read_time("2026-11-20T05:00:00.000000001"), read_time("2026-11-20T05:00:00.000000001Z")
    assert plain is not None
    assert zoned is not None
    berlin, india = ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5, minutes=30))
    assert plain.within(berlin) == nanoseconds(FIVE - timedelta(hours=1)) + 1
    assert plain.within(india) == nanoseconds(FIVE - timedelta(hours=5, minutes=30)) + 1
    assert zoned.within(berlin) == plain.within(UTC) == nanoseconds(FIVE) + 1
