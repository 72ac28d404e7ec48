"""How entries write: a night's rows with some columns changed, in files and row groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.entry import Night, Write

Change = Callable[[Any], Any]  # a column -> the column instead
FILES = 2  # a night's rows are cut into so many
GROUP_ROWS = 4


def put(table: Any, name: str, column: Any) -> Any:
    """The table with a column replaced, or added behind the others."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def changed(table: Any, changes: Mapping[str, Change]) -> Any:
    """The table with columns changed; a column that it lacks is made from `n`."""
    for name, change in changes.items():
        source = table.column(name if name in table.column_names else "n").combine_chunks()
        table = put(table, name, change(source))
    return table


def parts(table: Any) -> list[Any]:
    """The rows of each file."""
    border = table.num_rows // FILES + 1
    return [table.slice(0, border), table.slice(border)]


def write_parts(folder: Path, tables: list[Any], **options: Any) -> None:
    """A file for each table."""
    for index, table in enumerate(tables):
        with (folder / f"part-{index}.parquet").open("wb") as file:  # whose name may be no UTF-8
            pq.write_table(table, file, **{"row_group_size": GROUP_ROWS, **options})


def stretched(table: Any, times: int) -> Any:
    """Each row as many, a second apart."""
    place, more = np.repeat(np.arange(table.num_rows), times), np.tile(np.arange(times), table.num_rows)
    table = table.take(place)
    table = put(
        table, "t", pa.array(table.column("t").cast(pa.int64()).to_numpy() + more * 10**6).cast(pa.timestamp("us"))
    )
    return put(table, "n", pa.array(table.column("n").to_numpy() * 1000 + more))


def columns(**changes: Change) -> Write:
    """All files with the same changes."""
    return lambda folder, night: write_parts(folder, parts(changed(night.table, changes)))


def written(options: Mapping[str, Any], **changes: Change) -> Write:
    """The same, by a writer with options."""
    return lambda folder, night: write_parts(folder, parts(changed(night.table, changes)), **options)


def differing(first: Mapping[str, Change], second: Mapping[str, Change]) -> Write:
    """Two files, each with changes of its own."""

    def write(folder: Path, night: Night) -> None:
        one, two = parts(night.table)
        write_parts(folder, [changed(one, first), changed(two, second)])

    return write


def by_night(first: Mapping[str, Change], second: Mapping[str, Change]) -> Write:
    """Two nights, each with changes of its own."""

    def write(folder: Path, night: Night) -> None:
        write_parts(folder, parts(changed(night.table, first if night.number == 1 else second)))

    return write


def cast(kind: Any) -> Change:
    """To another type."""
    return lambda column: column.cast(kind)


def listed(change: Callable[[Any], Any], kind: Any = None) -> Change:
    """Value by value, in Python; nulls stay."""

    def convert(column: Any) -> Any:
        values = [None if value is None else change(value) for value in column.to_pylist()]
        return pa.array(values, kind) if kind is not None else pa.array(values)

    return convert


def as_numbers(column: Any) -> Any:
    """`s3` as 3."""
    return pa.array([int(name[1:]) for name in column.to_pylist()], pa.int64())


def numbered(kind: Any) -> Change:
    """Sensors as numbers of a type."""
    return lambda column: as_numbers(column).cast(kind)


def raw_text(texts: list[bytes | None]) -> Any:
    """A text column of bytes that need not be UTF-8."""
    stored = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(texts), stored.buffers(), stored.null_count)


def moments(kind: Any) -> Change:
    """Times in another unit or zone; what the unit cannot hold is cut off."""
    return lambda column: column.cast(kind, safe=False)


def in_units(kind: Any, change: Callable[[Any], Any]) -> Change:
    """Times as whole numbers that `change` makes of microseconds since the first night, as a type."""

    def convert(column: Any) -> Any:
        micros = column.cast(pa.int64()).to_numpy()
        return (
            pa.array(change(micros).astype(np.int64))
            .cast(pa.int32() if kind.bit_width == 32 else pa.int64())
            .view(kind)
        )

    return convert
