"""The audit's own keys, moments and numbers, held against Python's: whatever type a file has given them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runtime.audit.audit_rows import TimeOrder
from cluster.runtime.audit.own_values import (
    Moments,
    as_float32,
    compared,
    differing,
    iso_moments,
    joined,
    moments_of,
    numbers_in,
    numbers_of,
    spelt,
    spelt_keys,
)

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")
ZONES = ("", "Z", "+05:30", "-08", "+0100")


def texts(*values: str | bytes | None) -> Any:
    return pa.array([value.encode() if isinstance(value, str) else value for value in values], pa.large_binary())


def moments(*columns: Any) -> Moments:
    names = [f"t{index}" for index in range(len(columns))]
    return moments_of(pa.table(list(columns), names=names), names)


@given(st.lists(st.tuples(st.datetimes(), st.sampled_from(FORMS), st.sampled_from(ZONES)), max_size=20))
def test_iso_texts_are_the_moments_of_python(drawn: list[tuple[dt.datetime, str, str]]) -> None:
    written = []
    for moment, form, zone in drawn:
        text = moment.strftime(form.replace("%Y", f"{moment.year:04}"))
        written.append(text if form == "%Y-%m-%d" else text + zone)
    second, rest, good = iso_moments(texts(*written))
    assert good.all()
    for index, text in enumerate(written):
        wanted = dt.datetime.fromisoformat(text)
        wanted = wanted if wanted.tzinfo else wanted.replace(tzinfo=dt.UTC)
        exact = (wanted.replace(tzinfo=dt.UTC) - EPOCH) - (wanted.utcoffset() or dt.timedelta())
        assert (second[index], rest[index]) == (exact.days * 86_400 + exact.seconds, exact.microseconds * 1000)


def test_what_is_no_iso_text_is_no_moment() -> None:
    others = ("2026-02-30", "2023-02-29", "2026-13-01", "x", "", "2026-11-20T24:30", "2026-W60-1", "2026366", None)
    others = (*others, "2026-11-20T05:00:00[Europe/Berlin]", "2026-11-20T05:00:00[UTC]")  # a place without its offset
    assert not iso_moments(texts(*others))[2].any()
    spelt = ("20261120", "20261120T050000Z", "2026-W47-5", "2026324", "2026-11-20t05:00:00,25z", "2026-11-20T24:00 UTC")
    spelt = (*spelt, "2026-11-20T05:00:00+01:00[Europe/Berlin]")
    seconds, parts, fit = iso_moments(texts(*spelt))
    day = 1_795_132_800  # of 2026-11-20
    assert fit.all()
    assert (seconds - day).tolist() == [0, 18_000, 0, 0, 18_000, 86_400, 14_400]
    assert parts.tolist() == [0, 0, 0, 0, 250_000_000, 0, 0]
    second, rest, good = iso_moments(texts("2024-02-29T00:00:00.123456789", "1900-03-01"))
    assert good.all()
    assert (second.tolist(), rest.tolist()) == ([1709164800, -2203891200], [123456789, 0])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 10**9 + 1], pa.timestamp("ns")),
        pa.array([0, 253402300799], pa.timestamp("s", "Asia/Tokyo")),
        pa.array([-62135596801, 1], pa.timestamp("ms")),
        pa.array([-(2**62), 2**62], pa.timestamp("us")),
        pa.array([-719529, 5_000_000], pa.date32()),
        pa.array([-5, 2**40], pa.int64()),
        pa.array([5, 2**64 - 1], pa.uint64()),
        pa.array([3, 200], pa.uint8()),
        pa.array([-3, 100], pa.int8()),
    ],
    ids=lambda column: str(column.type),
)
def test_moments_are_in_order_whatever_their_unit(column: Any) -> None:
    both = moments(column)
    less, equal = compared(both.take(np.array([0, 0, 1])), both.take(np.array([0, 1, 0])))
    assert less.tolist() == [False, True, False]
    assert equal.tolist() == [True, False, False]
    assert both.valid.all()


def test_moments_of_different_units_are_the_same() -> None:
    seconds = [0, 1_700_000_000, -5]
    kinds = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "+00:00")]
    one, *others = [moments(pa.array(seconds, pa.timestamp("s")).cast(kind)) for kind in kinds]
    assert [differing(one, other).any() for other in others] == [False] * len(others)
    assert [one.show(row) for row in range(3)] == ["1970-01-01 00:00:00", "2023-11-14 22:13:20", "1969-12-31 23:59:55"]
    assert differing(one, moments(pa.array(seconds, pa.int64()))).all()


def test_a_text_of_time_is_the_same_to_the_letter_only() -> None:
    one, other = moments(pa.array(["2026-11-20"])), moments(pa.array(["2026-11-20T00:00:00Z"]))
    assert compared(one, other)[1].tolist() == [True]
    assert differing(one, other).tolist() == [True]


def test_a_null_is_no_moment() -> None:
    one = moments(pa.array([1, None]), pa.array(["a", "b"]))
    assert one.valid.tolist() == [True, False]
    assert differing(one, one).tolist() == [False, True]
    assert one.show(1) == "no time"


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.text("ab", max_size=2)), max_size=9), max_size=4
    )
)
def test_rows_out_of_order_are_found_over_batches(batches: list[list[tuple[int, int, str]]]) -> None:
    order, last = TimeOrder(), dict[int, tuple[int, str]]()
    for batch in batches:
        wanted = []
        for row, (entity, *time) in enumerate(batch):
            moment = (time[0], time[1])
            if entity in last and moment < last[entity]:
                wanted.append(row)
            last[entity] = moment
        times = moments(pa.array([b[1] for b in batch], pa.int64()), pa.array([b[2] for b in batch], pa.string()))
        assert order.falls(np.array([b[0] for b in batch], np.int64), times).tolist() == wanted


@given(st.lists(st.tuples(st.integers(0, 3), st.text("ab", max_size=2)), max_size=12))
def test_rows_are_in_the_order_of_python(rows: list[tuple[int, str]]) -> None:
    both = moments(pa.array([row[0] for row in rows], pa.int32()), pa.array([row[1] for row in rows], pa.string()))
    assert both.order().tolist() == sorted(range(len(rows)), key=lambda row: rows[row])
    assert joined([both, both]).order().tolist() == sorted(range(2 * len(rows)), key=lambda row: (rows + rows)[row])


# One key in the types that it may have in different files and nights.
SAME: dict[str, Sequence[Any]] = {
    "7": [pa.array([7], kind) for kind in (pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.decimal128(9, 2))],
    "text": [pa.array(["text"]).cast(kind) for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary())],
    "1.5": [
        pa.array([Decimal("1.5")], kind) for kind in (pa.decimal256(50, 7), pa.decimal32(3, 2), pa.decimal64(9, 1))
    ],
    "true": [pa.array([True]), pa.array([True]).dictionary_encode()],
}


@pytest.mark.parametrize("text", SAME)
def test_a_key_is_spelt_alike_in_every_type(text: str) -> None:
    columns = [*SAME[text], *(column.dictionary_encode() for column in SAME[text][:1])]
    assert {spelt(column)[0].as_py() for column in columns} == {text.encode()}


def test_a_uuid_and_json_are_what_they_store() -> None:
    stored = pa.array([b"0" * 16], pa.binary(16))
    assert spelt(pa.ExtensionArray.from_storage(pa.uuid(), stored))[0].as_py() == b"0" * 16
    assert spelt(pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"x"'])))[0].as_py() == b'"x"'


def test_bytes_that_are_no_text_are_compared_as_they_are() -> None:
    latin = pa.Array.from_buffers(pa.string(), 1, pa.array([b"M\xfcnchen"]).buffers())
    assert spelt(latin)[0].as_py() == b"M\xfcnchen"


def test_moments_as_keys_do_not_depend_on_their_unit() -> None:
    one, other = pa.array([1], pa.timestamp("s")), pa.array([10**9], pa.timestamp("ns", "UTC"))
    assert spelt(one).equals(spelt(other))
    assert not spelt(one).equals(spelt(pa.array([10**9 + 1], pa.timestamp("ns"))))
    assert spelt(pa.array([None], pa.timestamp("s"))).null_count == 1


def test_keys_of_several_columns_do_not_run_together() -> None:
    table = pa.table({"a": ["x", "x:1", "", None], "b": ["1:y", "y", "x", "y"]})
    keys = spelt_keys(table, ["a", "b"])
    assert len(set(keys.to_pylist())) == 4
    assert keys.null_count == 1
    assert numbers_of(keys.slice(0, 3), spelt_keys(table.take([2, 0, 3]), ["a", "b"])).tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([True, None]), [1.0, None]),
        (pa.array([2**24 + 1, None], pa.int64()), [2.0**24, None]),
        (pa.array([2**64 - 1], pa.uint64()), [2.0**64]),
        (pa.array([Decimal("1.23456"), None], pa.decimal32(9, 5)), [np.float32(1.23456), None]),
        (pa.array([70000.25, float("nan"), None], pa.float64()), [70000.25, None, None]),
        (pa.array([np.float16(1.5)], pa.float16()), [1.5]),
        (pa.array([1e39], pa.float64()), [float("inf")]),
        (pa.nulls(2), [None, None]),
        (pa.array([0.1, None], pa.float32()).dictionary_encode(), [np.float32(0.1), None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_numbers_come_from_their_own_type(column: Any, wanted: list[float | None]) -> None:
    values, missing = numbers_in(column)
    found = [None if gone else float(value) for value, gone in zip(as_float32(values), missing, strict=True)]
    assert found == [None if value is None else float(value) for value in wanted]
