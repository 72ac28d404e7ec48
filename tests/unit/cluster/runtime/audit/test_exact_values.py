"""Keys and times in other types, as an audit has them: what is exactly the same value, and which moment is later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cluster.runtime.audit.exact_values import alike, compare_moments, in_types
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.row_accounting import number_entities
from cluster.run_errors import InputBroken

WHOLE = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}  # as Parquet has them


def moments(values: list[int | None], unit: str, zone: str | None = None) -> Any:
    return pa.table({"t": pa.array(values, pa.int64()).cast(pa.timestamp(unit, zone))})  # type: ignore[call-overload]  # why: the unit is drawn


@pytest.mark.parametrize("kind", WHOLE, ids=str)
@pytest.mark.parametrize("wanted", WHOLE, ids=str)
def test_a_whole_number_comes_into_another_type_just_where_that_has_it(kind: Any, wanted: Any) -> None:
    bounds, into = np.iinfo(kind.to_pandas_dtype()), np.iinfo(wanted.to_pandas_dtype())
    for number in (int(bounds.min), 0, 7, int(bounds.max)):
        table = pa.table({"k": pa.array([number, None], kind)})
        schema = pa.schema([("k", wanted)])
        if into.min <= number <= into.max:
            assert in_types(table, schema, "in.parquet").column("k").to_pylist() == [number, None]
        else:
            with pytest.raises(InputBroken, match=rf"in.parquet: a value of column 'k' is no {wanted}"):
                in_types(table, schema, "in.parquet")


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), *[st.sampled_from(sorted(TICKS))] * 2)
def test_a_moment_comes_into_another_unit_just_where_that_has_it(values: list[int], unit: str, other: str) -> None:
    table, schema = moments([*values, None], unit), moments([], other).schema
    exact = [divmod(value * TICKS[other], TICKS[unit]) for value in values]
    if all(rest == 0 and -(2**63) <= whole < 2**63 for whole, rest in exact):
        found = in_types(table, schema, "x").column("t")
        assert found.type == schema.field("t").type
        assert found.cast(pa.int64()).to_pylist() == [*(whole for whole, _ in exact), None]
    else:
        with pytest.raises(InputBroken, match=r"is no timestamp\["):
            in_types(table, schema, "x")


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_moments_of_different_units_are_compared_as_moments(pairs: list[tuple[int, int]]) -> None:
    left, right = (
        moments([one for one, _ in pairs], "us", "UTC"),
        moments([other for _, other in pairs], "ns", "+00:00"),
    )
    less, equal = compare_moments(left, right)
    assert less.tolist() == [one * 1000 < other for one, other in pairs]
    assert equal.tolist() == [one * 1000 == other for one, other in pairs]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([1, 2, 300], pa.int64()), pa.array([2, 1], pa.uint8())),
        (pa.array([1, 2, -1], pa.int64()), pa.array([2, 1], pa.uint64())),
        (pa.array([1, 2, 3], pa.int32()), pa.array(["2", "1"])),
        (pa.array(["1", "2", "x"]), pa.array([2, 1], pa.int16())),
        (pa.array([b"1", b"2", b"xyz"]), pa.array([b"2", b"1"], pa.binary(1))),
        (pa.array([1, 2, 3], pa.date32()), pa.array([172800, 86400], pa.timestamp("s"))),
        (pa.array([1, 2, 3], pa.int32()), pa.array(["2.00", "1.00"]).cast(pa.decimal128(9, 2))),
    ],
    ids=lambda values: str(values.type),
)
def test_keys_of_two_runs_meet(left: Any, right: Any) -> None:
    assert number_entities(*alike(pa.table({"k": left}), pa.table({"k": right}))).tolist() == [1, 0]
