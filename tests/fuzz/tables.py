"""Tables drawn by Hypothesis: valid files of any types, encodings and row groups, whose rows are all scored or bad."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

START = 1_795_132_800

KEYS: dict[str, Any] = {
    "string": lambda numbers: pa.array([f"sensor-{number}" for number in numbers]),
    "large string": lambda numbers: pa.array([f"ü/{number}" for number in numbers], pa.large_string()),
    "dictionary": lambda numbers: pa.array([f"s{number}" for number in numbers]).dictionary_encode(),
    "bytes": lambda numbers: pa.array([bytes([255, number]) for number in numbers], pa.binary()),
    "int8": lambda numbers: pa.array(numbers, pa.int8()),
    "int64": lambda numbers: pa.array([number * 2**40 for number in numbers], pa.int64()),
    "uint64": lambda numbers: pa.array([2**64 - 1 - number for number in numbers], pa.uint64()),
    "date": lambda numbers: pa.array(numbers, pa.int32()).cast(pa.date32()),
    "timestamp": lambda numbers: pa.array(numbers, pa.int64()).cast(pa.timestamp("ns")),
    "decimal": lambda numbers: pa.array([Decimal(number) for number in numbers], pa.decimal128(9, 2)),
}
TIMES: dict[str, Any] = {
    "microseconds": lambda seconds: pa.array([s * 10**6 for s in seconds], pa.int64()).cast(pa.timestamp("us")),
    "nanoseconds": lambda seconds: pa.array([s * 10**9 + 1 for s in seconds], pa.int64()).cast(
        pa.timestamp("ns", "UTC")
    ),
    "seconds of a zone": lambda seconds: pa.array(seconds, pa.int64()).cast(pa.timestamp("s", "Asia/Tokyo")),
    "whole numbers": lambda seconds: pa.array([s - START for s in seconds], pa.int32()),
    "dates": lambda seconds: pa.array([s - START for s in seconds], pa.int32()).cast(pa.date32()),
    "ISO text": lambda seconds: pa.array([f"{np.datetime64(s, 's')}Z" for s in seconds]),
}
NUMBERS: dict[str, Any] = {
    "float": lambda values: pa.array(values, pa.float32()),
    "double": lambda values: pa.array(values, pa.float64()),
    "half": lambda values: pa.array([None if v is None else np.float16(v) for v in values], pa.float16()),
    "int16": lambda values: pa.array([None if v is None else int(v) for v in values], pa.int16()),
    "uint8": lambda values: pa.array([None if v is None else int(abs(v)) for v in values], pa.uint8()),
    "bool": lambda values: pa.array([None if v is None else v > 0 for v in values], pa.bool_()),
    "decimal": lambda values: pa.array([None if v is None else Decimal(str(v)) for v in values], pa.decimal128(12, 3)),
    "dictionary": lambda values: pa.array(values, pa.float64()).dictionary_encode(),
}
VALUES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, -2.0, 0.5, -0.125, 3.0, 100.0]))


@dataclass(frozen=True)
class Part:
    """One file: its rows as (entity, second, a, b), and how they are written."""

    rows: list[tuple[int, int, float | None, float | None]]
    a: str
    b: str
    group_rows: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """An input."""

    key: str
    time: str
    parts: list[Part]

    def write(self, folder: Path) -> None:
        """Below a folder, a file for each part."""
        folder.mkdir()
        n = 0
        for index, part in enumerate(self.parts):
            sensors, seconds, a, b = (list(column) for column in zip(*part.rows, strict=True))
            table = pa.table(
                {
                    "sensor": KEYS[self.key](sensors),
                    "t": TIMES[self.time]([START + second for second in seconds]),
                    "a": NUMBERS[part.a](a),
                    "b": NUMBERS[part.b](b),
                    "n": pa.array(range(n, n + len(part.rows)), pa.int64()),
                }
            )
            n += len(part.rows)
            pq.write_table(table, folder / f"part-{index}.parquet", row_group_size=part.group_rows, **part.options)


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4", "brotli"]),
        "use_dictionary": st.booleans(),
        "write_statistics": st.booleans(),
        "write_page_checksum": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "version": st.sampled_from(["1.0", "2.4", "2.6"]),
        "store_schema": st.booleans(),
        "data_page_size": st.sampled_from([1, 64, 1 << 20]),
        "write_batch_size": st.sampled_from([1, 3, 1024]),
    }
)
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), VALUES, VALUES), min_size=1, max_size=24)
PARTS = st.builds(
    Part,
    rows=ROWS,
    a=st.sampled_from(sorted(NUMBERS)),
    b=st.sampled_from(sorted(NUMBERS)),
    group_rows=st.integers(1, 12),
    options=OPTIONS,
)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Any input of one to three files."""
    parts = draw(st.lists(PARTS, min_size=1, max_size=3))
    time = draw(st.sampled_from(sorted(TIMES)))
    # Parquet 1.0 has no nanoseconds, and a file alone without Arrow's schema no zone: then types would differ.
    same = {"version": "2.6", "store_schema": True}
    parts = [Part(part.rows, part.a, part.b, part.group_rows, {**part.options, **same}) for part in parts]
    return Drawn(draw(st.sampled_from(sorted(KEYS))), time, parts)
