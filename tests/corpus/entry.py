"""One kind of input: how it is written, what another reader finds in it, and what must come of it.

A new kind is one `Entry` in the list of a module of this folder. It is given the rows of a night, in one of two orders,
and writes them below a folder. What it holds is asked of a reader that is not ours, by default DuckDB, file by file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = 1_795_132_800_000_000  # 2026-11-20, in microseconds
MINUTE = 60_000_000
ROWS = {1: {"s0": 7, "s1": 5, "s2": 6}, 2: {"s0": 3, "s1": 4, "s2": 2, "s3": 4}}
BAD = ("s2", 3)  # of the first night: b is null there, and nothing fills it


@dataclass(frozen=True)
class Night:
    """The rows of a night: text `sensor`, moments `t`, numbers `a` and `b`, and `n`, by which a row is known again.

    Within a sensor `n` rises with `t`. Tidy rows lie by sensor, one of them out of order; mixed ones by time.
    """

    number: int
    mixed: bool

    @functools.cached_property
    def table(self) -> Any:
        generator = np.random.default_rng(self.number)
        rows = [(sensor, row) for sensor, count in ROWS[self.number].items() for row in range(count)]
        minutes = [1440 * (self.number - 1) + 10 * row + int(sensor[1]) for sensor, row in rows]
        missing = [self.number == 1 and place == BAD for place in rows]
        table = pa.table(
            {
                "sensor": pa.array([sensor for sensor, _ in rows]),
                "t": pa.array([START + minute * MINUTE for minute in minutes], pa.timestamp("us")),
                "a": pa.array(generator.normal(size=len(rows)).astype(np.float32)),
                "b": pa.array(generator.normal(size=len(rows)).astype(np.float32), mask=np.array(missing)),
                "n": pa.array([100 * self.number + row for row in range(len(rows))], pa.int64()),
            }
        )
        return table.take(self._order(rows, minutes))

    def _order(self, rows: list[tuple[str, int]], minutes: list[int]) -> Any:
        if self.mixed:
            return np.argsort(minutes, kind="stable")
        order = np.arange(len(rows))
        first = rows.index(("s1", 1))
        order[[first, first + 1]] = order[[first + 1, first]]
        return order


@dataclass(frozen=True)
class Fact:
    """A row, as another reader has found it."""

    n: int
    sensor: str | None
    a: Any  # a number, or the word of a vocabulary; None for a null
    b: Any
    timed: bool = True  # it has a time


Facts = Sequence[Fact]
Write = Callable[[Path, Night], object]
Read = Callable[[Path], Facts]


@dataclass(frozen=True)
class Refusal:
    """The one sentence that an input must get, before anything is started or by a run that stops."""

    says: str  # a regular expression that is found in it
    codes: tuple[int, ...] = (2,)


@dataclass(frozen=True)
class Entry:
    """A kind of input."""

    name: str
    write: Write
    read: Read = field(default_factory=lambda: by_duckdb)
    config: dict[str, Any] = field(default_factory=dict)  # keys of the configuration, as "section.key"
    refused: Refusal | None = None  # it must be
    or_refused: Refusal | None = None  # it may be, where it is not scored
    orders: tuple[str, ...] = ("tidy", "mixed")
    seldom: tuple[str, ...] = ()  # of the orders, those that only `make soak` tries
    path: str = ""  # below the night's folder, where input.path is not that folder
    nights: int = 2
    codes: bool = False  # b are codes of words
    between: Callable[[Path], object] | None = None  # what is done to the first night's output before the second night
    damaged: bool = False  # of each entity any of its first rows may be scored, and all others are in quarantine
    at_least: int = 0  # so many rows are scored
    shown: tuple[str, ...] = ()  # texts that plan, verify and state show have to print as they are
    kept: Callable[[Path, Sequence[str]], dict[int, list[str]]] = field(default_factory=lambda: kept_in_files)


@functools.cache
def connection() -> Any:
    """DuckDB, in the zone that times are compared in."""
    found = duckdb.connect()
    found.execute("SET TimeZone = 'UTC'")
    return found


def by_duckdb(folder: Path) -> Facts:
    """What DuckDB finds in each file alone; folders give texts."""
    return [fact for path in parquet_files(folder) for fact in _of_file(path)]


def parquet_files(folder: Path) -> list[Path]:
    """Those that are no writer's own marks."""
    found = [path for path in folder.rglob("*.parquet") if path.is_file()]
    return sorted(path for path in found if not any(part[0] in "_." for part in path.relative_to(folder).parts))


def _of_file(path: Path) -> Facts:
    if pq.read_metadata(path).num_rows == 0:
        return []
    name = str(path).replace("'", "''")
    source = f"read_parquet('{name}', hive_partitioning = true, hive_types_autocast = false)"
    known = {row[0] for row in connection().execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    number = {name: f"CAST({name} AS DOUBLE)" if name in known else "NULL" for name in ("a", "b")}
    query = f"SELECT n, CAST(sensor AS VARCHAR), {number['a']}, {number['b']}, t IS NOT NULL FROM {source}"
    return [Fact(*row) for row in connection().execute(query).fetchall()]


def by_arrow(folder: Path) -> Facts:
    """What pyarrow's plain reader finds in each file alone, where DuckDB does not know a type."""
    facts: list[Fact] = []
    for path in parquet_files(folder):
        with path.open("rb") as file:  # whose name may be no UTF-8
            table = pq.ParquetFile(file).read()
        facts += of_table(table) if table.num_rows else []
    return facts


def of_table(table: Any) -> Facts:
    """A table that its own writer has read again; an entity counts by its text."""
    a, b = (table.column(name) if name in table.column_names else pa.nulls(len(table)) for name in ("a", "b"))
    rows = zip(
        table.column("n").to_pylist(),
        texts_of(table.column("sensor")),
        _numbers(a),
        _numbers(b),
        table.column("t").is_valid().to_pylist(),
        strict=True,
    )
    return [Fact(*row) for row in rows]


def texts_of(column: Any) -> list[str | None]:
    """What tells a key from all others of its column, whatever its type and whether it is text at all."""
    column = column.combine_chunks()
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    column = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    elif not pa.types.is_nested(column.type) and str(column.type) in ("string", "large_string", "string_view"):
        column = column.cast(pa.binary())
    return [None if value is None else str(value) for value in column.to_pylist()]


def kept_in_files(folder: Path, names: Sequence[str]) -> dict[int, list[str]]:
    """Some columns of files, each alone, by the number of the row."""
    found: dict[int, list[str]] = {}
    for path in parquet_files(folder):
        with path.open("rb") as file:
            table = pq.ParquetFile(file, coerce_int96_timestamp_unit="us").read()
        found |= values_by_row(table, names) if table.num_rows else {}
    return found


def values_by_row(table: Any, names: Sequence[str]) -> dict[int, list[str]]:
    """Some columns by the number of the row, moments in nanoseconds; what a table lacks is None."""
    columns = [_comparable(table.column(name) if name in table.column_names else None, table) for name in names]
    return {n: list(row) for n, *row in zip(table.column("n").to_pylist(), *columns, strict=True)}


def _comparable(column: Any, table: Any) -> list[str]:
    if column is None:
        return ["None"] * table.num_rows
    per = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
    if pa.types.is_timestamp(column.type):
        unit = per[column.type.unit]
        return [str(value if value is None else value * unit) for value in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_decimal(column.type) or pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return [str(value if value is None else float(value)) for value in column.to_pylist()]
    return list(map(str, texts_of(column)))


def _numbers(column: Any) -> list[Any]:
    return [value if value is None or isinstance(value, str) else float(value) for value in column.to_pylist()]
