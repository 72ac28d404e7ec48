"""The checksum of rows: the same before and after Parquet and however tables are cut, another for any other rows."""

from __future__ import annotations

import datetime as dt
import decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runtime.commit.row_checksum import RowChecksum

MOMENT, DAY, HOUR = dt.datetime(2026, 1, 1, 5, 15), dt.date(2026, 1, 1), dt.time(5, 15)
STAMPS = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Europe/Berlin")]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
DECIMALS = [pa.decimal32(5, 2), pa.decimal64(12, 2), pa.decimal128(12, 2), pa.decimal256(50, 2)]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
NUMBERS = [pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.duration("s")]
CASES: list[tuple[Any, list[Any]]] = [
    *((kind, [MOMENT, None, MOMENT + dt.timedelta(1)]) for kind in STAMPS),
    *((kind, [HOUR, None, dt.time(6)]) for kind in TIMES),
    *((kind, [DAY, None, DAY + dt.timedelta(1)]) for kind in (pa.date32(), pa.date64())),
    *((kind, [decimal.Decimal("1.25"), None, decimal.Decimal("-7")]) for kind in DECIMALS),
    *((kind, ["ü", None, "", "abc"]) for kind in TEXTS),
    *((kind, [1, None, 7, 0]) for kind in NUMBERS),
    (pa.binary(2), [b"ab", None, b"cd"]),
    (pa.bool_(), [True, None, False]),
    (pa.null(), [None, None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", None, "b", "a"]),
    (pa.dictionary(pa.uint64(), pa.large_string()), ["a", None, "b"]),
    (pa.dictionary(pa.int32(), pa.int64()), [1, None, 2]),
    (pa.list_(pa.timestamp("s")), [[MOMENT, None], None, []]),
    (pa.list_(pa.float32(), 2), [[1.5, 2], None]),
    (pa.struct({"a": pa.int8(), "b": pa.string()}), [{"a": 1, "b": "x"}, None]),
    (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None]),
    (pa.uuid(), [b"0123456789abcdef", None]),
]


def column(kind: Any, values: list[Any]) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def checksum(*tables: Any) -> str:
    digest = RowChecksum()
    for table in tables:
        digest.add(table)
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("kind", "values"), CASES, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_a_column_of_any_type_has_its_checksum_after_parquet_too(kind: Any, values: list[Any], tmp_path: Path) -> None:
    table = pa.table({"number": pa.array(range(len(values))), "column": column(kind, values)})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pq.ParquetFile(tmp_path / "rows.parquet") as file:
        read = file.read()
        pieces = [pa.Table.from_batches([batch]) for batch in file.iter_batches(batch_size=2)]
    assert checksum(read) == checksum(table)
    assert checksum(*pieces) == checksum(table)
    assert checksum(*(table.slice(row, 1) for row in range(table.num_rows))) == checksum(table)
    assert checksum(table.slice(1)) != checksum(table)


def test_equal_bytes_in_other_rows_are_another_checksum() -> None:
    tables = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["abc", None], [None, "abc"], ["c", "ab"]]
    found = {checksum(pa.table({"a": pa.array(values, pa.string())})) for values in tables}
    assert len(found) == len(tables)


def test_names_types_and_the_order_of_columns_count() -> None:
    rows = pa.array([1, 2], pa.int32())
    tables = [
        pa.table({"a": rows}),
        pa.table({"b": rows}),
        pa.table({"a": rows.cast(pa.float32())}),
        pa.table({"a": rows, "b": rows}),
        pa.table({"b": rows, "a": rows}),
    ]
    assert len({checksum(table) for table in tables}) == len(tables)


def test_a_swap_of_two_rows_is_another_checksum() -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    assert checksum(table.take([0, 2, 1])) != checksum(table)


words = st.lists(st.sampled_from(["a", "ab", "b", "", None]), min_size=1, max_size=12)


@given(words, st.lists(st.integers(0, 12), max_size=3))
def test_text_has_one_checksum_however_it_is_cut_and_held(values: list[str | None], cuts: list[int]) -> None:
    table = pa.table({"a": pa.array(values, pa.string())})
    bounds = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    pieces = [table.slice(start, stop - start) for start, stop in pairwise(bounds)]
    # A dictionary may have a value twice, and one that no row has.
    names = pa.array(["b", "a", "ab", "", "a", "never"])
    index = [None if value is None else names.to_pylist().index(value) for value in values]
    index = [4 if place == 1 and row % 2 else place for row, place in enumerate(index)]
    held = pa.table({"a": pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), names)})
    assert checksum(*pieces) == checksum(table)
    assert checksum(held) == checksum(table)
    assert checksum(*(held.slice(start, stop - start) for start, stop in pairwise(bounds))) == checksum(table)


@given(words, words)
def test_other_texts_have_another_checksum(values: list[str | None], others: list[str | None]) -> None:
    one, other = (checksum(pa.table({"a": pa.array(texts, pa.string())})) for texts in (values, others))
    assert (one == other) == (values == others)
