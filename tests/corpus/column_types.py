"""Keys, times, features and kept columns of every type, each on all roads."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.corpus.entry import START, Entry, Night, by_arrow
from tests.corpus.writing import (
    GROUP_ROWS,
    as_numbers,
    cast,
    changed,
    columns,
    in_units,
    listed,
    moments,
    numbered,
    parts,
    put,
    raw_text,
    write_parts,
)


def extension(kind: Any, value: Any, storage: Any) -> Any:
    def convert(column: Any) -> Any:
        return pa.ExtensionArray.from_storage(kind, pa.array([value(name) for name in column.to_pylist()], storage))

    return convert


def exact(kind: Any) -> Any:
    return listed(lambda name: Decimal(int(name[1:])) + Decimal("1.50"), kind)


def dictionary(index: Any, values: Any = None) -> Any:
    return lambda column: (
        column.cast(values or column.type).dictionary_encode().cast(pa.dictionary(index, values or column.type))
    )


def padded(column: Any) -> Any:
    return pa.array([name.encode().ljust(5, b"\xff") for name in column.to_pylist()], pa.binary(5))


def latin(column: Any) -> Any:
    return raw_text([f"M\xfcnchen {name}".encode("latin-1") for name in column.to_pylist()])


KEYS: dict[str, Any] = {
    **{str(kind): cast(kind) for kind in (pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view())},
    **{str(kind): numbered(kind) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.int64())},
    "large_binary": cast(pa.large_binary()),
    "fixed bytes that are no text": padded,
    "text that is not UTF-8": latin,
    "dictionary of text": dictionary(pa.int8()),
    "dictionary of numbers": lambda column: as_numbers(column).dictionary_encode(),
    "dictionary of large text": dictionary(pa.uint16(), pa.large_string()),
    "uuid": extension(pa.uuid(), lambda name: UUID(int=int(name[1:]) << 70).bytes, pa.binary(16)),
    "json": extension(pa.json_(), lambda name: f'{{"name": "{name}"}}', pa.string()),
    "decimal32": exact(pa.decimal32(5, 2)),
    "decimal64": exact(pa.decimal64(12, 3)),
    "decimal128": exact(pa.decimal128(20, 2)),
    "decimal256": exact(pa.decimal256(50, 4)),
    "date32": lambda column: numbered(pa.int32())(column).cast(pa.date32()),
    "date64": lambda column: numbered(pa.int32())(column).cast(pa.date32()).cast(pa.date64()),
    "time32": lambda column: numbered(pa.int32())(column).cast(pa.time32("s")),
    "time64 in nanoseconds": lambda column: numbered(pa.int64())(column).cast(pa.time64("ns")),
    "timestamp in odd nanoseconds": lambda column: numbered(pa.int64())(column).cast(pa.timestamp("ns")),
    "timestamp of a zone": lambda column: numbered(pa.int64())(column).cast(pa.timestamp("s", "Europe/Berlin")),
    "timestamp beyond 9999": lambda column: pa.array(
        [(300_000_000_000 + int(name[1:])) for name in column.to_pylist()], pa.timestamp("s")
    ),
    "empty text and odd letters": listed({"s0": "", "s1": "null", "s2": "ü/%\"'", "s3": "a=b"}.get),
    "text with markup": listed({"s0": "x[/]", "s1": "pump[north]", "s2": "[red]y", "s3": ":smile:"}.get),
    "text with control characters": listed({"s0": "a\x1b[31m", "s1": "b\tc", "s2": "d\ne", "s3": "f\x00"}.get),
}
SHOWN = {"text with markup": ("x[/]", "pump[north]", "[red]y")}


def since_start(micros: Any) -> Any:
    return micros - START


FAR = 253_402_300_799  # 9999-12-31T23:59:59, in seconds


def far(unit: str, zone: str | None = None, first: int = FAR) -> Any:
    """Moments a minute apart that end about the given second."""
    per = {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    return in_units(pa.timestamp(unit, zone), lambda micros: (since_start(micros) // 10**6 - 86_400 * 2 + first) * per)


def written_as(form: str) -> Any:
    return listed(lambda moment: moment.strftime(form), pa.string())


TIMES: dict[str, Any] = {
    **{f"timestamp[{unit}]": moments(pa.timestamp(unit)) for unit in ("s", "ms", "ns")},
    "odd nanoseconds": in_units(pa.timestamp("ns"), lambda micros: micros * 1000 + 123),
    "odd nanoseconds of a zone": in_units(pa.timestamp("ns", "Asia/Kolkata"), lambda micros: micros * 1000 + 1),
    **{
        f"zone {zone}": moments(pa.timestamp("us", zone))
        for zone in ("UTC", "utc", "Z", "+05:30", "-0800", "GMT+05:30", "Etc/GMT-5", "Asia/Tokyo", "America/New_York")
    },
    "int32": in_units(pa.int32(), lambda micros: since_start(micros) // 10**6),
    "int64": in_units(pa.int64(), lambda micros: micros),
    "uint64 beyond 63 bits": lambda column: pa.array(
        column.cast(pa.int64()).to_numpy().astype(np.uint64) + np.uint64(2**63), pa.uint64()
    ),
    "negative whole numbers": in_units(pa.int64(), lambda micros: since_start(micros) // 10**6 - 10**9),
    "date32": in_units(pa.date32(), lambda micros: since_start(micros) // 600_000_000),
    "date32 beyond 9999": in_units(pa.date32(), lambda micros: since_start(micros) // 600_000_000 + 5_000_000),
    "date64": in_units(pa.date64(), lambda micros: since_start(micros) // 600_000_000 * 86_400_000),
    "about 9999-12-31": far("us"),
    "about 9999-12-31 east of Greenwich": far("us", "Asia/Tokyo"),
    "beyond the year 9999": far("ms", first=1_700_000_000_000),
    "about the year 1 west of Greenwich": far("us", "America/New_York", first=-62_135_596_800),
    "before the year 1": far("us", first=-62_135_596_800 - 10**9),
    "ISO text": written_as("%Y-%m-%dT%H:%M:%S"),
    "ISO text of a zone": written_as("%Y-%m-%d %H:%M:%S.%f+01:00"),
    "ISO text in a dictionary": lambda column: written_as("%Y-%m-%dT%H:%MZ")(column).dictionary_encode(),
    "ISO text in bytes of a view": lambda column: written_as("%Y-%m-%dT%H:%MZ")(column).cast(pa.string_view()),
}


def tied(kind: Any) -> Entry:
    """A second column of the time, which breaks ties; all first ones are equal."""
    return Entry(
        f"ties broken by {kind}",
        columns(t=lambda column: pa.array([START] * len(column), pa.timestamp("us")), tie=KINDS_OF_TIES[kind]),
        config={"input.time": ["t", "tie"]},
        nights=1,
    )


KINDS_OF_TIES: dict[str, Any] = {
    "int16": cast(pa.int16()),
    "text": listed(lambda number: f"{number:05}"),
    "a time of day": lambda column: column.cast(pa.int32()).cast(pa.time32("s")),
    "odd nanoseconds": lambda column: column.cast(pa.timestamp("ns")),
}

FEATURES: dict[str, Any] = {
    **{str(kind): listed(lambda value: int(value * 3), kind) for kind in (pa.int8(), pa.int16(), pa.int32())},
    "int64 beyond 2**53": listed(lambda value: 2**53 + 1 + int(value * 10), pa.int64()),
    "uint64": listed(lambda value: 2**63 + int(abs(value)), pa.uint64()),
    "bool": listed(lambda value: value > 0, pa.bool_()),
    "float16": lambda column: pa.array(column.to_numpy().astype(np.float16), pa.float16()),
    "double": lambda column: column.cast(pa.float64()),
    "decimal32": listed(lambda value: Decimal(f"{value:.3f}"), pa.decimal32(9, 3)),
    "decimal128": listed(lambda value: Decimal(f"{value:.7f}"), pa.decimal128(12, 7)),
    "decimal256": listed(lambda value: Decimal(f"{value:.7f}"), pa.decimal256(50, 7)),
    "dictionary of floats": lambda column: column.dictionary_encode(),
}

KEPT: dict[str, dict[str, Any]] = {
    "numbers": {
        "k1": listed(lambda n: n % 100, pa.int8()),
        "k2": cast(pa.uint64()),
        "k3": lambda n: n.cast(pa.float64()),
        "k4": listed(lambda n: n % 2 == 0, pa.bool_()),
        "k5": listed(lambda n: Decimal(n), pa.decimal32(9, 2)),
        "k6": listed(lambda n: Decimal(n), pa.decimal256(60, 2)),
        "k7": lambda n: pa.array(n.to_numpy().astype(np.float16), pa.float16()),
    },
    "texts": {
        "k1": listed(str),
        "k2": lambda n: listed(str)(n).cast(pa.string_view()),
        "k3": lambda n: listed(str)(n).cast(pa.binary_view()),
        "k4": lambda n: listed(str)(n).dictionary_encode(),
        "k5": lambda n: raw_text([f"M\xfcnchen {value}".encode("latin-1") for value in n.to_pylist()]),
        "k6": listed(lambda n: f"{n:04}".encode(), pa.binary(4)),
        "k7": lambda n: pa.nulls(len(n)),
    },
    "times": {
        "k1": lambda n: n.cast(pa.timestamp("ns")),
        "k2": lambda n: n.cast(pa.timestamp("ms", "GMT+05:30")),
        "k3": lambda n: n.cast(pa.duration("us")),
        "k4": lambda n: n.cast(pa.int32()).cast(pa.time32("ms")),
        "k5": lambda n: listed(lambda value: value + 5_000_000, pa.int32())(n).cast(pa.date32()),
        "k6": lambda n: listed(lambda value: value + 10**12, pa.int64())(n).cast(pa.timestamp("s")),
    },
    "nested": {
        "k1": listed(lambda n: [n, None], pa.list_(pa.int64())),
        "k2": listed(lambda n: [str(n)], pa.large_list(pa.string())),
        "k3": listed(lambda n: {"a": str(n), "b": [n]}, pa.struct({"a": pa.string(), "b": pa.list_(pa.int64())})),
        "k4": listed(lambda n: [(str(n), n)], pa.map_(pa.string(), pa.int64())),
        "k5": listed(lambda n: [n, n + 1], pa.list_(pa.float32(), 2)),
        "k6": listed(lambda n: [b"x", str(n).encode()], pa.list_(pa.binary())),
    },
    "nested with views": {
        "k1": listed(lambda n: [str(n)], pa.list_(pa.string())),
        "k2": listed(lambda n: {"a": str(n), "b": b"x"}, pa.struct({"a": pa.string(), "b": pa.binary()})),
        "k3": listed(lambda n: [(str(n), str(n))], pa.map_(pa.string(), pa.string())),
    },
    "extensions": {
        "k1": extension(pa.uuid(), lambda n: UUID(int=n).bytes, pa.binary(16)),
        "k2": extension(pa.json_(), str, pa.string()),
        "k3": lambda n: pa.FixedShapeTensorArray.from_numpy_ndarray(
            np.repeat(n.to_numpy().astype(np.float32), 4).reshape(-1, 2, 2)
        ),
        "k4": extension(pa.bool8(), lambda n: n % 2, pa.int8()),
    },
}


def of_two(folder: Path, night: Night) -> None:
    """A boolean names two entities."""
    table = night.table.filter(pc.is_in(night.table.column("sensor"), pa.array(["s0", "s2"])))
    write_parts(folder, parts(put(table, "sensor", pc.equal(table.column("sensor"), "s0"))))


def told_as_views(folder: Path, night: Night) -> None:
    """Nested columns that the file's own Arrow schema calls views, which pyarrow reads and cannot write."""
    for index, table in enumerate(parts(changed(night.table, KEPT["nested with views"]))):
        told = pa.schema([field.with_type(_viewed(field.type)) for field in table.schema])
        metadata = {b"ARROW:schema": b64encode(told.serialize().to_pybytes())}
        with pq.ParquetWriter(folder / f"part-{index}.parquet", table.schema, store_schema=False) as writer:
            writer.write_table(table, row_group_size=GROUP_ROWS)
            writer.add_key_value_metadata(metadata)


def _viewed(kind: Any) -> Any:
    if pa.types.is_map(kind):
        return pa.map_(_viewed(kind.key_type), _viewed(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_viewed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_viewed(field.type)) for field in kind])
    return {pa.string(): pa.string_view(), pa.binary(): pa.binary_view()}.get(kind, kind)


ENTRIES: list[Entry] = [
    *(
        Entry(
            f"key: {name}",
            columns(sensor=change),
            read=by_arrow,
            shown=SHOWN.get(name, ()),
        )
        for name, change in KEYS.items()
    ),
    Entry("key: bool", of_two),
    *(Entry(f"time: {name}", columns(t=change), nights=2) for name, change in TIMES.items()),
    *map(tied, KINDS_OF_TIES),
    *(Entry(f"feature: {name}", columns(a=change), seldom=("tidy",)) for name, change in FEATURES.items()),
    *(
        Entry(
            f"kept: {name}",
            told_as_views if name == "nested with views" else columns(**changes),
            config={"output.keep": list(changes)},
        )
        for name, changes in KEPT.items()
    ),
]
