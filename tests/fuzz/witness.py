"""What pyarrow's plain reader finds in an input, for another process that is watched: bytes may end it too.

Each row group is read on its own, all columns that a run needs at once. Where that fails, its keys and times are read
alone: those rows are there, and nobody can score them. Where these fail too, the file is unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.entry import parquet_files, texts_of

KEYS, NEEDED = ["sensor", "t"], ["sensor", "t", "a", "b", "n"]


@dataclass
class Found:
    """All files together."""

    # By entity: (time, file, row, number of the row, a, b), nan for what nobody can read; in no order.
    rows: dict[str, list[tuple[Any, int, int, int | None, float, float]]] = field(default_factory=dict)
    keyless: int = 0  # rows without an entity or a time
    promised: int = 0  # rows by the footers that can be read
    unreadable: list[str] = field(default_factory=list)  # why, of each file that is


def look(folder: str) -> Found:
    """The files below a folder."""
    found = Found()
    for number, path in enumerate(parquet_files(Path(folder))):
        try:
            _look_into(path, number, found)
        except (OSError, ValueError, KeyError, pa.ArrowException, MemoryError, TypeError) as error:
            found.unreadable.append(f"{path.name}: {type(error).__name__} {str(error)[:200]}")
    return found


def _look_into(path: Path, number: int, found: Found) -> None:
    parquet = pq.ParquetFile(path, page_checksum_verification=True, coerce_int96_timestamp_unit="us")
    folder = {part.partition("=")[0]: part.partition("=")[2] for part in path.parts if "=" in part}
    row, rows = 0, []
    for group in range(parquet.metadata.num_row_groups):
        promised = parquet.metadata.row_group(group).num_rows
        names = [name for name in NEEDED if name not in folder]
        try:
            table = parquet.read_row_group(group, names)
            columns = _columns(table, folder)
        except (OSError, ValueError, pa.ArrowException, MemoryError):
            table = parquet.read_row_group(group, [name for name in KEYS if name not in folder])
            columns = _columns(table, folder)
        for place in range(min(table.num_rows, promised)):
            rows.append((row + place, *(column[place] for column in columns)))
        row += promised
    found.promised += row
    for place, sensor, moment, a, b, n in rows:
        if sensor is None or moment is None:
            found.keyless += 1
        else:
            found.rows.setdefault(sensor, []).append((moment, number, place, n, a, b))


def _columns(table: pa.Table, folder: dict[str, str]) -> list[list[Any]]:
    count = table.num_rows
    sensor = [str(folder["sensor"].encode())] * count if "sensor" in folder else texts_of(table.column("sensor"))
    if "a" not in table.column_names:
        nothing = [float("nan")] * count
        return [sensor, _moments(table.column("t")), nothing, nothing, [None] * count]
    a, b = (_float32(table.column(name)) for name in ("a", "b"))
    return [sensor, _moments(table.column("t")), a, b, table.column("n").to_pylist()]


def _moments(column: Any) -> list[Any]:
    array = column.combine_chunks()
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.binary())
    return list(array.to_pylist())


def _float32(column: Any) -> list[float]:
    with np.errstate(over="ignore"):
        numbers = [float("nan") if value is None else float(value) for value in column.to_pylist()]
        return np.array(numbers, np.float64).astype(np.float32).tolist()
