"""Values as text: as Python and Arrow write them wherever they can, and never a failure where they cannot."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.value_texts import json_values, spelling, spellings, text_of, texts_of

INT64 = st.integers(-(2**63), 2**63 - 1)
UNITS = ("s", "ms", "us", "ns")
ZONES = (None, "UTC", "Europe/Berlin", "America/New_York", "+05:30", "Etc/GMT+5", "GMT+05:30", "Z", "-0800", "Nowhere")
KNOWN = ZONES[:6]
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
YEAR_ONE, YEAR_9999 = -62_135_510_400, 253_402_200_000  # a day within


def times(values: list[int], kind: Any) -> Any:
    return pa.array(values, pa.int64()).cast(kind)


@given(st.integers(YEAR_ONE, YEAR_9999), st.sampled_from(UNITS[:3]), st.sampled_from(KNOWN))
def test_ordinary_times_are_written_as_python_and_arrow_write_them(second: int, unit: str, zone: str | None) -> None:
    column = times([second * PER_SECOND[unit] + 7 % PER_SECOND[unit]], pa.timestamp(unit, zone))
    assert text_of(column[0]) == str(column[0].as_py())
    assert spelling(column[0]) == repr(column[0].as_py())
    assert texts_of(column).to_pylist() == pc.cast(column, pa.string()).to_pylist()


@given(INT64, st.sampled_from(UNITS), st.sampled_from(ZONES))
def test_any_time_has_a_text_that_says_its_moment(value: int, unit: str, zone: str | None) -> None:
    column = times([value], pa.timestamp(unit, zone))
    texts = [text_of(column[0]), texts_of(column)[0].as_py()]
    assert all(":" in text for text in (*texts, *json_values(column)))
    assert spelling(column[0])
    if zone in (None, "UTC", "Z"):
        assert in_nanoseconds(texts[0]) == value * (10**9 // PER_SECOND[unit])


def in_nanoseconds(text: str) -> int:
    """Of a text in UTC, by the rule of leap years alone."""
    day, clock = text.removesuffix("+00:00").rsplit(" ", 1)
    year, month, of_month = (int(part) for part in day.rsplit("-", 2))
    cycles, like = divmod(year - 1, 400)
    days = (date(like + 1, month, of_month) - date(1970, 1, 1)).days + cycles * 146_097
    hours, minutes, seconds = clock.split(":")
    whole, _, fraction = seconds.partition(".")
    return (
        ((days * 24 + int(hours)) * 60 + int(minutes)) * 60 * 10**9 + int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    )


def test_two_moments_never_have_one_text() -> None:
    edges = [-(2**63), -(2**63) + 1, -1, 0, 1, 999, 1000, 2**62, 2**63 - 2, 2**63 - 1]
    for kind in (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("ns", "Z")):
        column = times(edges, kind)
        for texts in ([text_of(value) for value in column], texts_of(column).to_pylist(), spellings(column)):
            assert len(set(texts)) == len(edges), kind


SENTENCES = [
    (pa.scalar(5_000_000, pa.int32()).cast(pa.date32()), "15659-07-15"),
    (pa.scalar(-800_000, pa.int32()).cast(pa.date32()), "-0221-09-04"),
    (pa.scalar(20_000 * 86_400_000).cast(pa.date64()), "2024-10-04"),
    (pa.scalar(1).cast(pa.time64("ns")), "00:00:00.000000001"),
    (pa.scalar(10**9).cast(pa.time64("us")), "00:16:40"),
    (pa.scalar(253_402_300_799, pa.int64()).cast(pa.timestamp("s", "Asia/Tokyo")), "10000-01-01 08:59:59+09:00"),
    (pa.scalar(1_700_000_000_000_000_001).cast(pa.timestamp("ns")), "2023-11-14 22:13:20.000000001"),
    (pa.scalar(None, pa.timestamp("ns")), "None"),
    (pa.scalar(b"\xff\x00"), "b'\\xff\\x00'"),
    (pa.scalar(UUID(int=7).bytes, pa.uuid()), "00000000-0000-0000-0000-000000000007"),
    (pa.scalar(Decimal("1.50"), pa.decimal32(5, 2)), "1.50"),
    (pa.array(["x"]).dictionary_encode()[0], "x"),
    (pa.array([b"\xff"]).view(pa.string())[0], "b'\\xff'"),
    (pa.scalar([1, None]), "[1, None]"),
]


@pytest.mark.parametrize(("value", "wanted"), SENTENCES, ids=[wanted for _, wanted in SENTENCES])
def test_what_stands_in_a_sentence(value: Any, wanted: str) -> None:
    assert text_of(value) == wanted


def pairs_of(known: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(known.items())


NESTED = pa.struct(
    {
        "list": pa.list_(pa.timestamp("us", "UTC")),
        "map": pa.map_(pa.string(), pa.int8()),
        "bytes": pa.binary(),
        "day": pa.date32(),
        "exact": pa.decimal128(5, 2),
        "float": pa.float64(),
    }
)


@given(
    st.lists(
        st.none()
        | st.fixed_dictionaries(
            {
                "list": st.none() | st.lists(st.none() | st.datetimes(timezones=st.just(UTC)), max_size=2),
                "map": st.none()
                | st.dictionaries(st.text(max_size=2), st.none() | st.integers(-9, 9), max_size=2).map(pairs_of),
                "bytes": st.none() | st.binary(max_size=2),
                "day": st.none() | st.dates(),
                "exact": st.none() | st.integers(-999, 999).map(lambda one: Decimal(one) / 100),
                "float": st.none() | st.floats(),
            }
        ),
        max_size=3,
    )
)
def test_a_nested_value_is_spelt_as_python_spells_it(values: list[Any]) -> None:
    array = pa.array(values, NESTED)
    wanted = [repr(value) for value in array.to_pylist()]
    assert [spelling(value) for value in array] == wanted
    assert spellings(array) == wanted


def test_nanoseconds_are_spelt_alike_with_pandas_and_without() -> None:
    """A whole microsecond as Python's time, which is what a replica has always had; what is none by its text."""
    whole, odd = 1_700_000_000_000_001_000, 1_700_000_000_000_001_001
    for kind, wanted in (
        (pa.timestamp("ns"), repr(datetime(2023, 11, 14, 22, 13, 20, 1))),
        (pa.duration("ns"), repr(timedelta(microseconds=whole // 1000))),
    ):
        lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), times([whole, odd], kind))
        assert spellings(lists)[0] == f"[{wanted}]"
        assert "datetime" not in spellings(lists)[1]


def test_bytes_that_are_no_text_are_shown() -> None:
    assert texts_of(pa.array([b"abc", b"\xff", None])).to_pylist() == ["abc", "b'\\xff'", None]
