"""Which types go together, and which one holds all: held against Arrow's checked casts of the outermost values."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.plan.type_families import common_types, holds, same_text

WHOLE = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
DECIMALS = [pa.decimal128(9, 2), pa.decimal128(38, 0), pa.decimal256(40, 9)]
STAMPS = [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")]
ZONED = [pa.timestamp("us", "UTC"), pa.timestamp("ns", "+00:00")]
DATES = [pa.date32(), pa.date64()]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
SPANS = [pa.duration("s"), pa.duration("ns")]
BYTES = [pa.large_binary(), pa.binary(4), pa.binary(16)]
LISTS = [pa.list_(pa.int8()), pa.large_list(pa.int64()), pa.list_(pa.uint16(), 2), pa.list_view(pa.int32())]
STRUCTS = [pa.struct([("a", pa.int8()), ("b", pa.string())]), pa.struct([("a", pa.int64()), ("b", pa.large_string())])]
MAPS = [pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int64())]
FAMILIES = [
    [*WHOLE, *FLOATS],
    [*WHOLE, *DECIMALS],
    [*STAMPS, *DATES],
    ZONED,
    TIMES,
    SPANS,
    BYTES,
    LISTS,
    STRUCTS,
    MAPS,
]
ALONE: list[Any] = [pa.large_string(), pa.bool_()]


def outermost(kind: Any) -> Any:
    """The least and the greatest value of a type, as a column."""
    if pa.types.is_integer(kind):
        bounds = np.iinfo(kind.to_pandas_dtype())
        return pa.array([int(bounds.min), int(bounds.max)], kind)
    if pa.types.is_floating(kind):
        bounds = np.finfo(kind.to_pandas_dtype())
        return pa.array(np.array([bounds.min, bounds.tiny, bounds.max], kind.to_pandas_dtype()))
    if pa.types.is_decimal(kind):
        nines = "9" * (kind.precision - kind.scale) + "." + "9" * kind.scale
        return pa.array([f"-{nines}".rstrip("."), nines.rstrip(".")]).cast(kind)
    if pa.types.is_date64(kind):
        return pa.array([-86_400_000, 86_400_000 * 10**6], pa.int64()).cast(kind)
    if pa.types.is_time(kind):
        last = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit] * 86_400 - 1
        return pa.array([0, last], pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return outermost(width).cast(kind)
    return pa.array([b"x" * (kind.byte_width if pa.types.is_fixed_size_binary(kind) else 3)], kind)


def fits(kind: Any, wanted: Any) -> bool:
    try:
        outermost(kind).cast(wanted)
    except pa.ArrowInvalid:
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family[0]))
def test_all_types_of_a_family_go_together_and_what_surely_holds_a_type_holds_its_outermost_values(
    family: list[Any],
) -> None:
    for pair in permutations(family, 2):
        found = common_types(pair)
        assert found, pair
        for kind in pair:
            if not pa.types.is_nested(kind) and holds(found[0], kind):
                assert fits(kind, found[0]), (kind, found[0])
            pa.chunked_array([pa.nulls(2, kind)]).cast(found[0])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family[0]))
def test_the_order_of_files_does_not_decide_which_types_may_hold_all(family: list[Any]) -> None:
    for first, second in permutations(family, 2):
        assert set(map(str, common_types([first, second]))) == set(map(str, common_types([second, first]))) or (
            "tz=" in str(first)  # of several zones the first one's name is kept
        )


def test_types_of_different_families_go_together_with_nothing() -> None:
    firsts = [
        WHOLE[0],
        pa.timestamp("us"),
        ZONED[0],
        TIMES[0],
        SPANS[0],
        BYTES[0],
        LISTS[0],
        STRUCTS[0],
        MAPS[0],
        *ALONE,
    ]
    for pair in permutations(firsts, 2):
        assert common_types(pair) == [], pair


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([pa.int8(), pa.int32()], [pa.int32()]),
        ([pa.uint8(), pa.int8()], [pa.int16()]),
        ([pa.uint32(), pa.int8()], [pa.int64()]),
        ([pa.uint16(), pa.uint64()], [pa.uint64()]),
        ([pa.uint64(), pa.int8()], [pa.int64(), pa.uint64(), pa.decimal128(20, 0)]),
        ([pa.int16(), pa.float32()], [pa.float32()]),
        ([pa.int32(), pa.float16()], [pa.float64()]),
        ([pa.int64(), pa.float32()], [pa.float64()]),
        ([pa.int8(), pa.float16()], [pa.float16()]),
        ([pa.decimal128(10, 2), pa.decimal128(6, 4)], [pa.decimal128(12, 4)]),
        ([pa.decimal128(9, 2), pa.int64()], [pa.decimal128(21, 2)]),
        ([pa.decimal128(38, 0), pa.decimal128(38, 30)], [pa.decimal256(68, 30)]),
        ([pa.decimal256(76, 0), pa.decimal256(76, 40)], []),
        ([pa.date32(), pa.date64()], [pa.date32()]),
        ([pa.date32(), pa.timestamp("ms")], [pa.timestamp("ms")]),
        ([pa.timestamp("us"), pa.timestamp("ns")], [pa.timestamp("ns"), pa.timestamp("us")]),
        (ZONED, [pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")]),
        ([pa.null(), pa.int8(), pa.null()], [pa.int8()]),
    ],
    ids=str,
)
def test_the_best_type_is_the_narrowest_that_surely_holds_all(kinds: list[Any], wanted: list[Any]) -> None:
    assert common_types(kinds) == wanted


def test_a_struct_of_other_fields_is_another_thing() -> None:
    assert common_types([STRUCTS[0], pa.struct([("b", pa.string()), ("a", pa.int8())])]) == []
    assert common_types([STRUCTS[0], pa.struct([("a", pa.int8())])]) == []
    assert common_types([pa.list_(pa.int8()), pa.list_(pa.string())]) == []


def test_one_vocabulary_knows_what_is_spelt_alike() -> None:
    assert same_text([pa.int8(), pa.uint64()])
    assert same_text([pa.date32(), pa.date64()])
    assert not same_text([pa.timestamp("us"), pa.timestamp("ns")])
    assert not same_text([pa.decimal128(9, 1), pa.decimal128(9, 2)])
