"""`since` and `until` against time columns of every type: which rows they part, and what is said where they cannot."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.times import ordinals, parse_bound
from cluster.run_errors import InputRefused

EPOCH = datetime(1970, 1, 1)
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))
UNITS = {"s": 1_000_000, "ms": 1000, "us": 1}
ZONES = {
    "UTC": ZoneInfo("UTC"),
    "Europe/Berlin": ZoneInfo("Europe/Berlin"),
    "europe/berlin": ZoneInfo("Europe/Berlin"),
    "GMT+05:30": ZoneInfo("Asia/Kolkata"),
    "-0800": ZoneInfo("Etc/GMT+8"),
    "Z": ZoneInfo("UTC"),
}


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def is_from(row: Any, bound: str) -> bool:
    found, valid = ordinals(pa.array([row.as_py()] if pa.types.is_large_string(row.type) else [row]), first=True)
    assert valid.all()
    return bool(found[0] >= parse_bound(bound, row.type, setting="input.since"))


@given(MOMENTS, MOMENTS, st.sampled_from(sorted(UNITS)))
def test_rows_of_any_unit_are_parted_where_the_moment_is(row: datetime, bound: datetime, unit: str) -> None:
    whole = microseconds(row) // UNITS[unit]
    value = pa.scalar(whole, pa.int64()).cast(pa.timestamp(unit))
    assert is_from(value, bound.isoformat()) == (whole * UNITS[unit] >= microseconds(bound))


@given(MOMENTS, MOMENTS)
def test_days_are_parted_at_the_next_one(row: datetime, bound: datetime) -> None:
    value = pa.scalar(row.date())
    assert is_from(value, bound.isoformat()) == (datetime.combine(row.date(), datetime.min.time()) >= bound)


@given(
    MOMENTS.filter(lambda one: one.year > 1970),
    MOMENTS.filter(lambda one: one.year > 1970),
    st.sampled_from(sorted(ZONES)),
)
def test_a_bound_without_a_zone_is_meant_in_the_columns_zone(row: datetime, bound: datetime, zone: str) -> None:
    value = pa.scalar(microseconds(row), pa.int64()).cast(pa.timestamp("us", zone))
    universal = bound - (bound.replace(tzinfo=ZONES[zone]).utcoffset() or timedelta())
    assert is_from(value, bound.isoformat()) == (row >= universal)
    assert is_from(value, f"{bound.isoformat()}+01:00") == (row >= bound - timedelta(hours=1))


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.int8()], ids=str)
def test_whole_numbers_are_parted_by_one(kind: Any) -> None:
    assert is_from(pa.scalar(17, kind), "17")
    assert not is_from(pa.scalar(16, kind), "17")
    with pytest.raises(InputRefused, match="holds whole numbers"):
        parse_bound("2026-11-20", kind, setting="input.since")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("05:00:00,123", ", a time of day without its day, but"),
        ("2026-11", ", a year or a month without a day, but"),
        ("1795150800", ", a number, but"),
        ("20.11.2026", ", a date in no ISO 8601 order, but"),
        ("2026/11/20 05:00", ", a date in no ISO 8601 order, but"),
        ("yesterday", " is 'yesterday', but the time column is timestamp"),
    ],
)
def test_what_is_no_moment_is_called_what_it_is(text: str, what: str) -> None:
    with pytest.raises(InputRefused, match="give an ISO 8601 date or time") as refused:
        parse_bound(text, pa.timestamp("us"), setting="input.since")
    assert what in str(refused.value)


def test_a_zone_that_nobody_knows_takes_an_offset() -> None:
    kind = pa.timestamp("us", "Mars/Olympus")
    with pytest.raises(InputRefused, match="zone 'Mars/Olympus' is not known"):
        parse_bound("2026-11-20", kind, setting="input.since")
    assert parse_bound("2026-11-20T00:00:00+00:00", kind, setting="input.since") == microseconds(datetime(2026, 11, 20))


def test_nanoseconds_of_a_bound_count() -> None:
    value = pa.scalar(1_795_150_800_000_000_001, pa.int64()).cast(pa.timestamp("ns"))
    assert is_from(value, "2026-11-20T05:00:00.000000001")
    assert not is_from(value, "2026-11-20T05:00:00.000000002")
