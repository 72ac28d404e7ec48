"""Times of 96 bits: whatever microseconds say is read as what it is, and what they do not say is refused by its place.

Files are pyarrow's, but for days beyond all years, whose twelve bytes are written over by hand.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.plan.partitions import NO_PARTITIONS
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from cluster.runtime.input.key_scan import describe_file, scan_file
from cluster.runtime.input.row_groups import RowGroups

START = 1_700_000_000
FAR, OLD = 253_402_214_400, -62_135_510_400  # seconds: the end of the year 9999, the beginning of the year 1


def written(path: Path, seconds: list[int | None], rest_ns: int = 0, **columns: Any) -> str:
    """A file whose times are these, each with so many nanoseconds more."""
    unit, factor = ("ns", 10**9) if rest_ns else ("us", 10**6)
    moments = [None if one is None else one * factor + rest_ns for one in seconds]
    table = pa.table({"entity": ["a"] * len(seconds), "time": pa.array(moments, pa.int64()).cast(pa.timestamp(unit))})
    for name, column in {"f0": pa.nulls(len(seconds), pa.float32()), **columns}.items():
        table = table.append_column(name, column)
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none")
    return str(path)


def asked(path: str, **changes: Any) -> InputSettings:
    return InputSettings(
        (path,), **{"entity": ("entity",), "time": ("time",), "features": (("x", ("f0",)),), **changes}
    )


@given(seconds=st.lists(st.none() | st.integers(OLD, FAR), min_size=1, max_size=20))
def test_times_of_all_years_are_those_that_duckdb_reads(tmp_path_factory: Any, seconds: list[int | None]) -> None:
    path = written(tmp_path_factory.mktemp("int96") / "a.parquet", seconds)
    found = RowGroups((path,), ("time",), NO_PARTITIONS, cache_bytes=0).rows(0, 0, len(seconds)).column(0)
    assert found.type == pa.timestamp("us")
    told = duckdb.sql(f"select epoch_us(time) from '{path}'").fetchall()
    assert found.cast(pa.int64()).to_pylist() == [one for (one,) in told]
    assert found.cast(pa.int64()).to_pylist() == [None if one is None else one * 10**6 for one in seconds]


def test_the_sentinel_of_the_year_9999_is_the_last_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [START, START + 1, FAR])
    found = scan_file(path, asked(path))
    assert (found.sorted.all(), found.types.plain.field("time").type) == (True, pa.timestamp("us"))
    assert found.last.column("time").cast(pa.int64()).to_pylist() == [FAR * 10**6]


def test_whole_microseconds_are_scanned_also_where_nanoseconds_wrote_them(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [START, None, START + 1], 7000)
    assert scan_file(path, asked(path)).first.column("time").cast(pa.int64()).to_pylist()[0] == START * 10**6 + 7


NANOSECOND = pa.array([START * 10**9 + 1, START * 10**9], pa.int64()).cast(pa.timestamp("ns"))
KEPT = {
    "plain": NANOSECOND,
    "list": pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), NANOSECOND),
    "struct": pa.StructArray.from_arrays([NANOSECOND], ["inner"]),
    "map": pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), pa.array(["a", "b"]), NANOSECOND),
}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("role", ["keep", "entity"])
def test_nanoseconds_below_them_are_refused_in_every_column_that_is_asked_for(
    tmp_path: Path, kind: str, role: str
) -> None:
    path = written(tmp_path / "a.parquet", [START, START + 1], 0, kept=KEPT[kind])
    assert scan_file(path, asked(path)).ties == 0  # nobody asks for the column
    if role == "entity" and kind != "plain":
        return
    with pytest.raises(
        InputRefused, match=r"Column 'kept' is INT96 and holds 2023-11-14 22:13:20 and 1 nanoseconds in"
    ):
        scan_file(path, asked(path, **{role: ("kept",)}))


@pytest.mark.parametrize("look", [lambda path: scan_file(path, asked(path)), lambda path: described(path)])
def test_nanoseconds_of_the_time_are_refused_before_rows_are_clustered_too(tmp_path: Path, look: Any) -> None:
    path = written(tmp_path / "a.parquet", [START, START + 1], 1999)
    with pytest.raises(
        InputRefused, match="'time' is INT96 and holds 2023-11-14 22:13:20 and 1,999 nanoseconds in row 0"
    ):
        look(path)


def described(path: str) -> object:
    return describe_file(path, asked(path), NO_PARTITIONS)


@pytest.mark.parametrize("day", [2**32 - 1, 2**31, 200_000_000])
def test_a_day_beyond_all_years_is_refused(tmp_path: Path, day: int) -> None:
    path = tmp_path / "a.parquet"
    written(path, [START, START + 1])
    content, julian = bytearray(path.read_bytes()), START // 86_400 + 2_440_588
    place = content.index(struct.pack("<qi", (START % 86_400 + 1) * 10**9, julian))
    content[place + 8 : place + 12] = struct.pack("<I", day)
    path.write_bytes(content)
    with pytest.raises(InputRefused, match="'time' is INT96 and holds a day beyond all years in row 1"):
        scan_file(str(path), asked(str(path)))


def test_a_file_that_is_damaged_in_a_kept_column_is_left_to_those_who_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written(path, [START] * 100, 0, kept=pa.array([START * 10**6] * 100).cast(pa.timestamp("us")))
    footer = pq.read_metadata(path).row_group(0).column(3)
    content = bytearray(path.read_bytes())
    content[footer.data_page_offset : footer.data_page_offset + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert scan_file(str(path), asked(str(path), keep=("kept",))).row_count.tolist() == [100]
    assert np.array_equal(scan_file(str(path), asked(str(path))).row_count, [100])
