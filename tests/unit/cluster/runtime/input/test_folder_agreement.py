"""A column in the file and in the name of its folder: which spellings mean the same, and which contradict."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.plan.file_list import FileList
from cluster.core.plan.partitions import Partitions
from cluster.core.times import as_plain
from cluster.runtime.input.folder_agreement import differing_row, shown
from tests.inputs.series import settings_for

MOMENT = datetime(2026, 11, 20, 5, 6, 7, 8)
MIDNIGHT = datetime(2026, 11, 20)
BERLIN = pa.timestamp("us", "Europe/Berlin")
ID = UUID("12345678-1234-5678-1234-567812345678")

# The column's type, its value in the file, and how writers call the folder of it (None: Hive's name for null).
SAME: list[tuple[pa.DataType, Any, list[str | None]]] = [
    (pa.string(), "007", ["007"]),
    (pa.string(), "7", ["7", "007", "07"]),  # as a reader gives it that takes the folder for a number
    (pa.large_string(), "é", ["é"]),
    (pa.string_view(), "a b", ["a b"]),
    (pa.dictionary(pa.int8(), pa.string()), "x", ["x"]),
    (pa.string(), "", ["", None]),
    (pa.string(), None, [None, "", "null", "NULL", "None", "nan", "NaN", "NaT", "<NA>"]),
    (pa.string(), "null", ["null"]),
    (pa.null(), None, [None, "null"]),
    (pa.int64(), 7, ["7", "007", "+7", "7.0", "7e0"]),
    (pa.int8(), -7, ["-7", "-07"]),
    (pa.uint64(), 2**64 - 1, [str(2**64 - 1)]),
    (pa.int32(), None, [None, "null"]),
    (pa.float64(), 1.0, ["1.0", "1", "1e0", "01"]),
    (pa.float64(), 1e20, ["1e+20", "1e20", "100000000000000000000"]),
    (pa.float64(), -0.0, ["-0.0", "-0", "0"]),
    (pa.float32(), 0.1, ["0.1", "0.10000000149011612"]),
    (pa.float16(), 0.5, ["0.5"]),
    (pa.float64(), float("nan"), ["nan", "NaN", None]),
    (pa.float64(), float("inf"), ["inf", "Infinity"]),
    (pa.bool_(), True, ["true", "True", "TRUE", "1"]),
    (pa.bool_(), False, ["false", "False", "0"]),
    (pa.decimal128(5, 2), Decimal("1.50"), ["1.50", "1.5", "1.500", "01.50"]),
    (pa.decimal32(3, 1), Decimal("1.5"), ["1.5", "1.50"]),
    (pa.decimal64(3, 0), Decimal("15"), ["15", "15.0"]),
    (pa.decimal256(40, 1), Decimal("1.5"), ["1.5"]),
    (pa.date32(), date(2026, 11, 20), ["2026-11-20", "20261120", "2026-11-20 00:00:00", "2026-11-20T00:00:00"]),
    (pa.date64(), date(2026, 11, 20), ["2026-11-20"]),
    (pa.time64("us"), time(5), ["05:00:00", "05:00:00.000000", "05:00"]),
    (pa.time32("s"), time(5), ["05:00:00"]),
    (pa.time64("us"), time(5, 0, 0, 1), ["05:00:00.000001"]),
    (pa.timestamp("us"), MOMENT, ["2026-11-20 05:06:07.000008", "2026-11-20T05:06:07.000008"]),
    (pa.timestamp("ns"), MOMENT, ["2026-11-20 05:06:07.000008000"]),
    (pa.timestamp("us"), MIDNIGHT, ["2026-11-20", "2026-11-20 00:00:00", "2026-11-20 00:00:00.000000", "20261120"]),
    (pa.timestamp("s"), MIDNIGHT, ["2026-11-20 00:00:00.000000", "2026-11-20T00:00:00Z"]),
    (
        pa.timestamp("us", "UTC"),
        MIDNIGHT.replace(tzinfo=UTC),
        [
            "2026-11-20 00:00:00.000000Z",
            "2026-11-20 00:00:00+00",
            "2026-11-20 00:00:00.000000+00:00",
            "2026-11-20T00:00:00Z",
            "2026-11-20 00:00:00",
            "2026-11-20 01:00:00+01:00",
        ],
    ),
    (
        BERLIN,
        MIDNIGHT.replace(tzinfo=UTC),
        ["2026-11-20 01:00:00.000000+01:00", "2026-11-20 01:00:00", "2026-11-20 00:00:00", "2026-11-20 00:00:00Z"],
    ),
    (pa.timestamp("us"), datetime(1900, 1, 1, 0, 0, 0, 1), ["1900-01-01 00:00:00.000001"]),
    (pa.binary(), b"a", ["a"]),
    (pa.large_binary(), b"\xff", ["%FF", "\\xFF"]),  # pyarrow's, and DuckDB's
    (pa.binary(2), b"ab", ["ab"]),
    (pa.uuid(), ID, [str(ID)]),
]

OTHER: list[tuple[pa.DataType, Any, list[str | None]]] = [
    (pa.string(), "7", ["8", "x", "7.0", None, "null"]),
    (pa.string(), "007", ["7", "07"]),
    (pa.string(), None, ["7", "x"]),
    (pa.null(), None, ["7"]),
    (pa.int64(), 7, ["8", "7.5", "1_0", "x", None, "null", str(2**80)]),
    (pa.int64(), 10, ["1_0"]),
    (pa.float64(), 10.0, ["1_0", "10.1", "x", None]),
    (pa.float64(), float("nan"), ["1.0"]),
    (pa.bool_(), True, ["false", "0", "yes", None]),
    (pa.decimal128(3, 1), Decimal("1.5"), ["1.55", "1.6", "x", "nan", None]),
    (pa.decimal128(3, 1), Decimal("15.0"), ["1.5"]),
    (pa.date32(), date(2026, 11, 20), ["2026-11-21", "2026-11-20 00:00:01", "x", None]),
    (pa.timestamp("us"), MOMENT, ["2026-11-20 05:06:07", "2026-11-20", "x", None]),
    (pa.timestamp("s"), MIDNIGHT, ["2026-11-20 00:00:00.000001"]),
    (BERLIN, MIDNIGHT.replace(tzinfo=UTC), ["2026-11-20 02:00:00"]),
    (pa.time64("us"), time(5), ["06:00:00", "x"]),
    (pa.binary(), b"a", ["b", None]),
    (pa.uuid(), ID, ["x"]),
]


def array(kind: pa.DataType, value: Any) -> Any:
    if pa.types.is_float16(kind):
        return pa.array([np.float16(value)] * 3, kind)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([value.bytes] * 3, kind.storage_type))
    return pa.array([value] * 3).cast(kind) if pa.types.is_dictionary(kind) else pa.array([value] * 3, kind)


def cases(table: list[tuple[pa.DataType, Any, list[str | None]]]) -> list[Any]:
    return [
        pytest.param(kind, value, text, id=f"{kind}-{value}-{text}") for kind, value, texts in table for text in texts
    ]


@pytest.mark.parametrize(("kind", "value", "text"), cases(SAME))
def test_what_means_the_same_agrees(kind: pa.DataType, value: Any, text: str | None) -> None:
    assert differing_row(as_plain(array(kind, value)), text) is None


@pytest.mark.parametrize(("kind", "value", "text"), cases(OTHER))
def test_what_means_something_else_is_found(kind: pa.DataType, value: Any, text: str | None) -> None:
    column = as_plain(array(kind, value))
    assert differing_row(column, text) == 0
    assert shown(column, 0)


@pytest.mark.parametrize("rows", [["x", "x", "y"], ["x", None], ["x", "x", ""]], ids=str)
def test_the_first_row_that_differs_is_named(rows: list[str | None]) -> None:
    assert differing_row(pa.array(rows), "x") == len(rows) - 1


def test_no_rows_contradict_nothing() -> None:
    assert differing_row(pa.array([], pa.string()), "x") is None


COLUMNS: dict[str, Any] = {
    "text": pa.array(["007", "7", "a b", "a%b", "a+b", "é", "", "x/y", "a=b", None, "null"]),
    "double": pa.array([1.0, 2.5, 1e20, -0.0, None, 0.1, 1e-7]),
    "float": pa.array([1.0, 2.5, 0.1], pa.float32()),
    "boolean": pa.array([True, False, None]),
    "date": pa.array([date(2026, 11, 20), None]),
    "moment": pa.array([MIDNIGHT, MOMENT, None]),
    "nanoseconds": pa.array([MIDNIGHT, MOMENT], pa.timestamp("ns")),
    "zoned": pa.array([MIDNIGHT, MOMENT], BERLIN),
    "utc": pa.array([MIDNIGHT, MOMENT], pa.timestamp("us", "UTC")),
    "decimal": pa.array([Decimal("1.50"), Decimal("-0.01")]),
    "time": pa.array([time(5), time(5, 0, 0, 1)]),
    "whole": pa.array([3_000_000_000, -1, 0, None]),
    "bytes": pa.array([b"a", b"\xff\x01"]),
}


def write_pyarrow(table: pa.Table, folder: Path) -> None:
    scheme = ds.partitioning(pa.schema([table.schema.field("v")]), flavor="hive")
    ds.write_dataset(table, folder, format="parquet", partitioning=scheme)


def write_duckdb(table: pa.Table, folder: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("given", table)
        connection.execute(f"COPY (FROM given) TO '{folder}' (FORMAT parquet, PARTITION_BY (v))")


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("write", [write_pyarrow, write_duckdb])
def test_the_folders_of_a_writer_agree_with_the_values_that_it_had(tmp_path: Path, write: Any, name: str) -> None:
    values = COLUMNS[name]
    write(pa.table({"v": values, "row": np.arange(len(values))}), tmp_path / "in")
    for file in (tmp_path / "in").rglob("*.parquet"):
        rows = ds.dataset(str(file)).to_table(columns=["row"]).column("row").combine_chunks()
        partitions = Partitions.of(FileList.of([str(file)]), settings_for(tmp_path))
        ((_, text),) = (found for found in partitions.spelled(str(file)) if found[0] == "v")
        assert differing_row(as_plain(values.take(rows)), text) is None, unquote(str(file))


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), st.sampled_from([kind for kind, *_ in SAME]))
def test_any_text_is_read_or_contradicts(text: str, kind: pa.DataType) -> None:
    values = as_plain(pa.nulls(2, kind))
    assert differing_row(values, text) in (None, 0)
    assert pc.is_null(values).to_pylist() == [True, True]
