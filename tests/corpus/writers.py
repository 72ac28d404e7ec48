"""Files as other programs write them: pandas by pyarrow and by fastparquet, Polars, DuckDB."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from tests.corpus.entry import START, Entry, Fact, Facts, Night, Refusal, Write, connection, parquet_files
from tests.corpus.writing import put

Frame = Callable[[Any], Any]


def by_pandas(change: Frame = lambda frame: frame, **options: Any) -> Write:
    """pandas, by pyarrow or by fastparquet."""

    def write(folder: Path, night: Night) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what these libraries say to each other
            change(night.table.to_pandas()).to_parquet(folder / "part-0.parquet", **{"index": False, **options})

    return write


def by_fastparquet(change: Frame = lambda frame: frame, **options: Any) -> Write:
    return by_pandas(change, engine="fastparquet", **options)


def of_fastparquet(folder: Path) -> Facts:
    """As fastparquet reads it again."""
    import fastparquet

    facts: list[Fact] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in parquet_files(folder):
            frame = fastparquet.ParquetFile(str(path)).to_pandas()
            for row in frame.itertuples():
                a, b = (None if pd.isna(value) else float(value) for value in (row.a, row.b))
                facts.append(
                    Fact(int(row.n), None if pd.isna(row.sensor) else str(row.sensor), a, b, not pd.isna(row.t))
                )
    return facts


def by_polars(change: Frame = lambda frame: frame, **options: Any) -> Write:
    def write(folder: Path, night: Night) -> None:
        change(pl.from_arrow(night.table)).write_parquet(folder / "part-0.parquet", **options)

    return write


def of_polars(folder: Path) -> Facts:
    """As Polars reads it again."""
    facts: list[Fact] = []
    for path in parquet_files(folder):
        frame = pl.read_parquet(path, hive_partitioning=False)
        sensor = frame.get_column("sensor").cast(pl.String)
        frame = frame.select(
            "n", sensor, pl.col("a").cast(pl.Float64), pl.col("b").cast(pl.Float64), pl.col("t").is_not_null()
        )
        facts += [Fact(*row) for row in frame.iter_rows()]
    return facts


def by_sql(select: str, options: str = "", into: str = "part-0.parquet") -> Write:
    """DuckDB's own files: a query over the night's rows."""

    def write(folder: Path, night: Night) -> None:
        cursor = connection().cursor()
        cursor.register("night", night.table)
        cursor.execute(f"COPY (SELECT {select} FROM night) TO '{folder / into}' (FORMAT parquet{options})").fetchall()

    return write


# ---- what pandas does to a frame


def with_index(frame: Any) -> Any:
    """The sensor as the frame's index."""
    return frame.set_index("sensor")


def nullable(frame: Any) -> Any:
    return frame.convert_dtypes()


def categorical(frame: Any) -> Any:
    return frame.assign(sensor=frame.sensor.astype("category"))


def as_objects(frame: Any) -> Any:
    """Columns of Python objects, as a frame from a database has them."""
    return frame.assign(a=frame.a.astype(object), sensor=frame.sensor.astype(object))


def zoned(frame: Any) -> Any:
    return frame.assign(t=frame.t.dt.tz_localize("Europe/Berlin"))


def odd_nanoseconds(frame: Any) -> Any:
    return frame.assign(t=frame.t.astype("datetime64[ns]") + pd.to_timedelta(range(len(frame)), unit="ns"))


def small_integers(frame: Any) -> Any:
    return frame.assign(a=(frame.a * 10).astype("int8"))


def in_periods(frame: Any) -> Any:
    """Periods of a minute, an extension type that only pandas knows."""
    return frame.assign(t=frame.t.dt.to_period("min"))


UUIDS = "CAST(md5(sensor) AS UUID) AS sensor, t, a, b, n"
ENUMS = "CAST(sensor AS ENUM ('s3', 's2', 's1', 's0')) AS sensor, t, a, b, n"
NANOSECONDS = "sensor, make_timestamp_ns(epoch_ns(t) + n) AS t, a, b, n"
ZONED = "sensor, CAST(t AS TIMESTAMPTZ) AS t, a, b, n"
DECIMALS = "sensor, t, CAST(a AS DECIMAL(9, 4)) AS a, CAST(b AS DECIMAL(38, 10)) AS b, n"
HUGE = "CAST(substr(sensor, 2) AS HUGEINT) + 1 AS sensor, t, a, b, n"
UNSIGNED = "CAST(substr(sensor, 2) AS UTINYINT) AS sensor, CAST(epoch(t) AS UINTEGER) AS t, a, CAST(b AS REAL) AS b, n"
DATES = "sensor, CAST(DATE '2026-11-20' + CAST((epoch_us(t) - {start}) // 600000000 AS INTEGER) AS DATE) AS t, a, b, n"
BLOBS = "CAST(sensor AS BLOB) AS sensor, CAST(t AS VARCHAR) AS t, a, b, n"
VARIANTS: dict[str, tuple[str, str]] = {
    "as it is": ("*", ""),
    "UUIDs": (UUIDS, ""),
    "enums": (ENUMS, ""),
    "odd nanoseconds": (NANOSECONDS, ""),
    "times of a zone": (ZONED, ""),
    "decimals": (DECIMALS, ""),
    "unsigned": (UNSIGNED, ""),
    "dates": (DATES.format(start=START), ""),
    "bytes, and times as text": (BLOBS, ""),
    "its second version, in zstd": ("*", ", PARQUET_VERSION V2, COMPRESSION zstd"),
    "row groups of few rows": ("*", ", ROW_GROUP_SIZE 5"),
}


def by_many(folder: Path, night: Night) -> None:
    """Each of these programs has written some of the rows, as a table that has changed hands."""
    table = put(night.table, "n", night.table.column("n"))
    cuts = [table.slice(low, 5) for low in range(0, table.num_rows, 5)]
    for index, rows in enumerate(cuts):
        path = folder / f"part-{index}.parquet"
        if index % 3 == 0:
            rows.to_pandas().to_parquet(path, index=False)
        elif index % 3 == 1:
            pl.from_arrow(rows).write_parquet(path)
        else:
            cursor = connection().cursor()
            cursor.register("rows_of_many", rows)
            cursor.execute(f"COPY rows_of_many TO '{path}' (FORMAT parquet)").fetchall()


def in_partitions(folder: Path, night: Night) -> None:
    pl.from_arrow(night.table).write_parquet(folder / "parts", partition_by="sensor", mkdir=True)


WRITTEN: list[Entry] = [
    Entry("pandas", by_pandas()),
    Entry("pandas: an index", by_pandas(with_index, index=True)),
    Entry("pandas: its own index too", by_pandas(index=True)),
    Entry("pandas: nullable types", by_pandas(nullable)),
    Entry("pandas: categories", by_pandas(categorical)),
    Entry("pandas: Python's objects", by_pandas(as_objects)),
    Entry("pandas: times of a zone", by_pandas(zoned)),
    Entry("pandas: odd nanoseconds", by_pandas(odd_nanoseconds)),
    Entry("pandas: small integers", by_pandas(small_integers)),
    Entry("pandas: periods", by_pandas(in_periods), or_refused=Refusal("'t'")),
    Entry("fastparquet", by_fastparquet(), read=of_fastparquet),
    Entry("fastparquet: categories", by_fastparquet(categorical), read=of_fastparquet),
    Entry("fastparquet: INT96", by_fastparquet(times="int96"), read=of_fastparquet),
    Entry("fastparquet: row groups", by_fastparquet(row_group_offsets=[0, 4, 9]), read=of_fastparquet),
    Entry("fastparquet: small integers", by_fastparquet(small_integers), read=of_fastparquet),
    Entry(
        "fastparquet: text as bytes", by_fastparquet(object_encoding="utf8", compression="GZIP"), read=of_fastparquet
    ),
    Entry("Polars", by_polars(), read=of_polars),
    Entry(
        "Polars: categories",
        by_polars(lambda frame: frame.with_columns(pl.col("sensor").cast(pl.Categorical))),
        read=of_polars,
    ),
    Entry(
        "Polars: enums",
        by_polars(lambda frame: frame.with_columns(pl.col("sensor").cast(pl.Enum(["s3", "s2", "s1", "s0"])))),
        read=of_polars,
    ),
    Entry(
        "Polars: decimals",
        by_polars(lambda frame: frame.with_columns(pl.col("a").cast(pl.Decimal(12, 4)))),
        read=of_polars,
    ),
    Entry(
        "Polars: times of a zone, in nanoseconds",
        by_polars(
            lambda frame: frame.with_columns(pl.col("t").cast(pl.Datetime("ns")).dt.replace_time_zone("Asia/Tokyo"))
        ),
        read=of_polars,
    ),
    Entry(
        "Polars: lists and structs, kept",
        by_polars(
            lambda frame: frame.with_columns(
                pl.concat_list(pl.col("sensor"), pl.lit("x")).alias("k1"), pl.struct("sensor", "n").alias("k2")
            )
        ),
        read=of_polars,
        config={"output.keep": ["k1", "k2"]},
    ),
    Entry("Polars: row groups, and no statistics", by_polars(row_group_size=4, statistics=False), read=of_polars),
    Entry("Polars: by folders", in_partitions, orders=("tidy",)),
    *(Entry(f"DuckDB: {name}", by_sql(*query)) for name, query in VARIANTS.items()),
    Entry("DuckDB: huge integers", by_sql(HUGE), or_refused=Refusal("'sensor'")),
    Entry("DuckDB: by folders", by_sql("*", ", PARTITION_BY (sensor)", "parts"), orders=("tidy",)),
    Entry("pandas, Polars and DuckDB in turn", by_many),
]

# Who has written a file matters more than the order of its rows.
ENTRIES = [replace(entry, seldom=tuple(set(entry.orders) - {"tidy"})) for entry in WRITTEN]
