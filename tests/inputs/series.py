"""Parquet inputs of long series, as tests need them: seeded, of given lengths, cut and spoilt as asked.

`make_series` builds one tidy table; the other builders rearrange or spoil a table; `write_cut` writes it in files and
row groups cut anywhere. All take a seed or none at all: equal arguments give equal rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.settings import InputSettings

DAY_ZERO = np.datetime64("2026-01-01T00:00:00", "us")
MINUTE = np.timedelta64(60_000_000, "us")


def make_series(lengths: Sequence[int], *, features: int = 3, seed: int = 0, extra: bool = False) -> Any:
    """Series of `lengths` rows, one after the other, in order of time.

    Columns: entity (string, `e0000`, ...), time (timestamp[us], minutes, rising, with gaps), f0, f1, ... (float32) and,
    with `extra`, a `row` number to hand through and columns that nobody asks for, a nested one too.
    """
    rng = np.random.default_rng(seed)
    rows = int(np.sum(lengths))
    number = np.repeat(np.arange(len(lengths)), lengths)
    minutes = np.concatenate([np.cumsum(rng.integers(1, 4, length)) for length in lengths] or [np.zeros(0, np.int64)])
    columns: dict[str, Any] = {
        "entity": pa.array([f"e{i:04d}" for i in number], pa.string()),
        "time": pa.array(DAY_ZERO + minutes * MINUTE, pa.timestamp("us")),
    }
    for i in range(features):
        columns[f"f{i}"] = pa.array(rng.normal(size=rows).astype(np.float32))
    if extra:
        columns["row"] = pa.array(np.arange(rows))
        columns["unused"] = pa.array(["x"] * rows, pa.string())
        nested = pa.struct({"a": pa.int64(), "b": pa.list_(pa.int64())})
        columns["nested"] = pa.array([{"a": i, "b": [i]} for i in range(rows)], nested)
    return pa.table(columns)


def cut_anywhere(rows: int, *, parts: int, seed: int) -> list[int]:
    """Sizes of at most `parts` stretches that add up to `rows`, empty ones included."""
    borders = np.sort(np.random.default_rng(seed).integers(0, rows + 1, parts - 1))
    return [int(size) for size in np.diff(borders, prepend=0, append=rows)]


def write_cut(
    folder: Path, table: Any, file_rows: Sequence[int] | None = None, group_rows: Sequence[int] | None = None
) -> list[Path]:
    """Write a table as part-000.parquet, ...: files of `file_rows` rows (default: one), each with row groups that take
    `group_rows` in turn (default: one row group a file)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, start = [], 0
    for index, size in enumerate(file_rows if file_rows is not None else [table.num_rows]):
        paths.append(folder / f"part-{index:03d}.parquet")
        write_groups(paths[-1], table.slice(start, size), group_rows)
        start += size
    assert start == table.num_rows
    return paths


def write_groups(path: Path, table: Any, group_rows: Sequence[int] | None = None) -> None:
    """Write one file whose row groups have `group_rows` rows in turn, until the table ends."""
    with pq.ParquetWriter(path, table.schema) as writer:
        start, turn = 0, 0
        while start < table.num_rows:
            size = max(1, group_rows[turn % len(group_rows)]) if group_rows else table.num_rows
            writer.write_table(table.slice(start, size), row_group_size=size)
            start, turn = start + size, turn + 1


def with_nulls(table: Any, column: str, rows: Sequence[int]) -> Any:
    """The table with nulls in one column at the given rows."""
    return replace(table, column, _without(table.column(column), rows))


def with_ties(table: Any, rows: Sequence[int]) -> Any:
    """The table with each of the given rows at the time of the row before it, if that is the same entity's."""
    place = np.arange(table.num_rows)
    names = table.column("entity").to_pylist()
    for row in sorted(rows):
        place[row] = place[row - 1] if names[row] == names[row - 1] else row
    return replace(table, "time", table.column("time").take(pa.array(place)))


def with_key_type(table: Any, key_type: Any) -> Any:
    """The table with its entity column as another type: text, a dictionary, a whole number, bytes or a date."""
    column = table.column("entity").combine_chunks()
    if pa.types.is_dictionary(key_type):
        return replace(table, "entity", column.dictionary_encode().cast(key_type))
    if pa.types.is_integer(key_type) or pa.types.is_date(key_type):
        numbers = pa.array([None if text is None else int(text[1:]) for text in column.to_pylist()], pa.int32())
        return replace(table, "entity", numbers.cast(key_type))
    if pa.types.is_fixed_size_binary(key_type):
        padded = [None if text is None else text.encode().ljust(key_type.byte_width) for text in column.to_pylist()]
        return replace(table, "entity", pa.array(padded, key_type))
    return replace(table, "entity", column.cast(key_type))


def with_time_type(table: Any, time_type: Any) -> Any:
    """The table with its time column as another type; what is shorter than the type's unit is lost."""
    times = table.column("time").combine_chunks()
    if pa.types.is_integer(time_type):
        return replace(table, "time", times.cast(pa.int64()).cast(time_type))
    if pa.types.is_string(time_type) or pa.types.is_large_string(time_type):
        return replace(table, "time", times.cast(pa.string()).cast(time_type))
    return replace(table, "time", times.cast(time_type, safe=False))


def replace(table: Any, name: str, column: Any) -> Any:
    """The table with one column replaced."""
    return table.set_column(table.column_names.index(name), name, column)


def settings_for(*paths: Path | str, columns: int = 3, **changes: Any) -> InputSettings:
    """Settings that read what `make_series` makes, its first `columns` features into the model input `rows`."""
    names = tuple(f"f{i}" for i in range(columns))
    given: dict[str, Any] = {"entity": ("entity",), "time": ("time",), "features": (("rows", names),), **changes}
    return InputSettings(path=tuple(str(path) for path in paths), **given)


def _without(column: Any, rows: Sequence[int]) -> Any:
    wanted = np.zeros(len(column), np.bool_)
    wanted[list(rows)] = True
    return column.combine_chunks().take(pa.array(np.arange(len(column)), mask=wanted))
