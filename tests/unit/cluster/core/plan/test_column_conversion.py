"""Columns in another type: nothing changes, and a whole number becomes the float32 that it becomes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.plan.column_conversion import as_type, converted, holds_all


def column(values: list[Any], kind: Any) -> Any:
    return pa.chunked_array([pa.array(values, kind)])


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.integers(52, 62).map(lambda bit: (1 << bit) + (1 << (bit - 24)) + 1)
        )
    )
)
def test_a_signed_number_is_rounded_once(values: list[int]) -> None:
    found = as_type(column(values, pa.int64()), pa.float64()).to_numpy().astype(np.float32)
    assert np.array_equal(found, np.array(values, np.int64).astype(np.float32))


@given(
    st.lists(
        st.one_of(st.integers(0, 2**64 - 1), st.integers(52, 63).map(lambda bit: (1 << bit) + (3 << (bit - 24)) - 1))
    )
)
def test_an_unsigned_number_is_rounded_once(values: list[int]) -> None:
    found = as_type(column(values, pa.uint64()), pa.float64()).to_numpy().astype(np.float32)
    assert np.array_equal(found, np.array(values, np.uint64).astype(np.float32))


def test_a_number_that_would_be_rounded_twice_is_among_them() -> None:
    """Else the two tests above would show nothing."""
    number = (1 << 60) + (1 << 36) + 1
    assert np.float32(np.float64(number)) != np.array([number], np.int64).astype(np.float32)[0]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53))))
def test_whole_numbers_that_a_float64_holds_stay_exact_and_nulls_stay_nulls(values: list[int | None]) -> None:
    assert as_type(column(values, pa.int64()), pa.float64()).to_pylist() == values


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        (pa.bool_(), [True, None, False], [1.0, None, 0.0]),
        (pa.float16(), [np.float16(0.5), None], [0.5, None]),
        (pa.null(), [None, None], [None, None]),
        (pa.uint8(), [255, None], [255.0, None]),
    ],
    ids=str,
)
def test_numbers_of_every_kind_become_floats(kind: Any, values: list[Any], wanted: list[Any]) -> None:
    assert as_type(column(values, kind), pa.float64()).to_pylist() == wanted


def test_dictionaries_views_and_extensions_are_opened_and_made() -> None:
    words = pa.array(["b", "a", "b"]).dictionary_encode()
    assert as_type(pa.chunked_array([words]), pa.string()).to_pylist() == ["b", "a", "b"]
    assert as_type(column(["x", None], pa.string_view()), pa.large_string()).to_pylist() == ["x", None]
    stored = column([b"0123456789abcdef", None], pa.binary(16))
    made = as_type(stored, pa.uuid())
    assert made.type == pa.uuid()
    assert as_type(made, pa.binary(16)).equals(stored)


def test_what_a_table_does_not_have_is_null() -> None:
    wanted = pa.schema([("a", pa.float64()), ("b", pa.large_string()), ("c", pa.uuid())])
    found = converted(pa.table({"b": ["x"], "d": [1]}), wanted)
    assert found.schema.equals(wanted)
    assert found.to_pylist() == [{"a": None, "b": "x", "c": None}]


def test_a_table_that_has_the_types_is_left_as_it_is() -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"x": "y"})
    assert converted(table, pa.schema([("a", pa.int64())])) is table


@pytest.mark.parametrize(
    ("values", "kind", "wanted", "fits"),
    [
        ([2**53, None], pa.int64(), pa.float64(), True),
        ([2**53 + 1], pa.int64(), pa.float64(), False),
        ([1000], pa.timestamp("ns"), pa.timestamp("us"), True),
        ([1001], pa.timestamp("ns"), pa.timestamp("us"), False),
        ([2**62], pa.timestamp("us"), pa.timestamp("ns"), False),
        ([-1], pa.int8(), pa.uint8(), False),
        ([[1]], pa.list_(pa.int8()), pa.string(), False),
    ],
    ids=str,
)
def test_only_exact_values_fit(values: list[Any], kind: Any, wanted: Any, fits: bool) -> None:
    raw = pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
    assert holds_all(pa.chunked_array([raw]), wanted) is fits
