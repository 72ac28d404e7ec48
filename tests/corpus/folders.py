"""Values in the names of folders; tables of Delta Lake, Iceberg and Hudi, whole, in part, and of earlier versions."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.table import StaticTable
from pyiceberg.transforms import IdentityTransform

from tests.corpus.entry import (
    Entry,
    Facts,
    Night,
    Refusal,
    Write,
    by_arrow,
    of_table,
    parquet_files,
    values_by_row,
)
from tests.corpus.writing import put, write_parts

Names = Mapping[str, Any]  # sensor -> what it is called


# ---- folders


def in_folders(names: Mapping[str, str], beside: Callable[[Any], Any] | None = None) -> Write:
    """The rows of each sensor in a folder of its name, which stands as it is; `beside` makes the column in the file."""

    def write(folder: Path, night: Night) -> None:
        for sensor, name in names.items():
            table = night.table.filter(pc.equal(night.table.column("sensor"), sensor))
            if not table.num_rows:
                continue
            column = None if beside is None else beside(name)
            table = table.drop_columns(["sensor"])
            if column is not None:
                table = put(table, "sensor", pa.array([column] * table.num_rows))
            place = folder / f"sensor={name}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, place / "part.parquet", row_group_size=3)

    return write


def by_folder(folder: Path) -> Facts:
    """Each file by pyarrow; the sensor is what the folder's name says, letter by letter."""
    facts: list[Any] = []
    for path in parquet_files(folder):
        table = pq.ParquetFile(path).read()
        name = next(part.partition("=")[2] for part in path.parts if part.startswith("sensor="))
        facts += of_table(put(table, "sensor", pa.array([name] * table.num_rows)))
    return facts


def by_night(first: Write, second: Write) -> Write:
    return lambda folder, night: (first if night.number == 1 else second)(folder, night)


def times_in_folders(spell: Callable[[dt.datetime], str]) -> Write:
    """A folder for each time, with the rows of that time; some have one of several sensors."""

    def write(folder: Path, night: Night) -> None:
        for row, moment in enumerate(night.table.column("t").to_pylist()):
            place = folder / f"t={spell(moment)}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(night.table.slice(row, 1).drop_columns(["t"]), place / f"part-{row}.parquet")

    return write


FOLDERS = {
    "numbers": {"s0": "101", "s1": "102", "s2": "-5", "s3": "0"},
    "numbers with leading zeros": {"s0": "007", "s1": "008", "s2": "0", "s3": "00012"},
    "numbers that fall together": {"s0": "007", "s1": "7", "s2": "07", "s3": "+7"},
    "nought with and without a sign": {"s0": "0", "s1": "-0", "s2": "00", "s3": "1"},
    "numbers beyond 32 bits": {"s0": "3000000000", "s1": "1", "s2": "-9999999999999999999", "s3": "2"},
    "numbers and words": {"s0": "101", "s1": "A7", "s2": "102", "s3": "103"},
    "decimals": {"s0": "1.0", "s1": "1", "s2": "1.00", "s3": "1e0"},
    "words in percent": {"s0": "a%2Fb", "s1": "a%3Db", "s2": "M%C3%BCnchen", "s3": "x%20y"},
    "markup": {"s0": "v[1]", "s1": "v[bold]", "s2": "v[%2Fa]", "s3": "v"},
    "spaces": {"s0": " x", "s1": "x", "s2": "x ", "s3": "x y"},
}
OR_FALLS = Refusal(r"(007|7|-0|'0'|%F|1\.0)")


def as_it_is(name: str) -> str:
    return unquote(name)


# ---- Delta Lake


def delta(spell: Mapping[str, Any], column: str = "sensor", kind: Any = None) -> Write:
    """A Delta table with a folder for each value of a column, which has these values by sensor."""

    def write(folder: Path, night: Night) -> None:
        values = pa.array([spell[name] for name in night.table.column("sensor").to_pylist()], kind)
        write_deltalake(str(folder / "table"), put(night.table, column, values), partition_by=[column])

    return write


def by_delta(folder: Path) -> Facts:
    return of_table(DeltaTable(str(folder / "table")).to_pyarrow_table())


def kept_in_delta(folder: Path, names: Sequence[str]) -> dict[int, list[str]]:
    return values_by_row(DeltaTable(str(folder / "table")).to_pyarrow_table(), names)


PARTITIONS: dict[str, tuple[list[Any], Any]] = {
    "text with leading zeros": (["05", "06", "5"], pa.string()),
    "text that is a number": (["5", "6", "7"], pa.string()),
    "text with plus, colon and percent": (["a+b", "a:b%20c", "ü /"], pa.string()),
    "text with nulls": ([None, "x", "y"], pa.string()),
    "empty text": (["", "x", "y"], pa.string()),
    "text that says null": (["null", "None", "nan"], pa.string()),
    "booleans": ([True, False, True], pa.bool_()),
    "doubles": ([1.0, 2.5, 1e30], pa.float64()),
    "int64": ([3_000_000_000, 1, -7], pa.int64()),
    "decimals": ([Decimal("1.50"), Decimal("2.00"), Decimal("3.25")], pa.decimal128(5, 2)),
    "dates": ([dt.date(2026, 11, 19), dt.date(2026, 11, 20), dt.date(1, 1, 1)], pa.date32()),
    "timestamps": ([dt.datetime(2026, 11, 19), dt.datetime(2026, 11, 20, 5, 6, 7, 8), None], pa.timestamp("us")),
    "timestamps of UTC": (
        [dt.datetime(2026, 11, 19), dt.datetime(2026, 11, 20, 5), dt.datetime(2026, 1, 1)],
        pa.timestamp("us", "UTC"),
    ),
}


def of_each(values: Sequence[Any]) -> dict[str, Any]:
    """The sensors' values: the last one has the first value again."""
    return dict(zip(("s0", "s1", "s2", "s3"), [*values, values[0]], strict=True))


def rewritten(folder: Path, night: Night) -> None:
    """A day that was written again, so that a file of it is no part of the table any more."""
    day = pa.array([str(moment.date()) for moment in night.table.column("t").to_pylist()])
    table, place = night.table.append_column("day", day), str(folder / "table")
    write_deltalake(place, put(table, "a", pc.add(table.column("a"), 1)), partition_by=["day"])
    write_deltalake(place, table, mode="overwrite", predicate=f"day = '{day[0].as_py()}'")


def cloned(folder: Path, night: Night) -> None:
    """A table whose log names its files by absolute paths, as a shallow clone does."""
    write_deltalake(str(folder / "_origin"), night.table)
    (folder / "table").mkdir()
    shutil.copytree(folder / "_origin" / "_delta_log", folder / "table" / "_delta_log")
    log = folder / "table" / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["path"] = (folder / "_origin" / line["add"]["path"]).as_uri()
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def by_origin(folder: Path) -> Facts:
    return of_table(DeltaTable(str(folder / "_origin")).to_pyarrow_table())


# ---- Iceberg and Hudi


def iceberg(spell: Mapping[str, Any], *, partitioned: bool = False, times: int = 1) -> Write:
    """An Iceberg table, its sensors spelt so and its rows, where asked, partitioned by them; written so many times."""

    def write(folder: Path, night: Night) -> None:
        names = pa.array([spell.get(name, name) for name in night.table.column("sensor").to_pylist()], pa.string())
        rows = put(night.table, "sensor", names)
        table = _catalog(folder).create_table("n.table", rows.schema)
        if partitioned:
            with table.update_spec() as spec:
                spec.add_field("sensor", IdentityTransform(), "sensor")
        table.append(rows)
        for _ in range(times - 1):
            table.overwrite(rows)
        (folder / "table").symlink_to(table.location().removeprefix("file://"))

    return write


def _catalog(folder: Path) -> InMemoryCatalog:
    catalog = InMemoryCatalog("c", warehouse=f"file://{folder}/_lake")
    catalog.create_namespace("n")
    return catalog


def by_iceberg(folder: Path) -> Facts:
    metadata = max((folder / "table" / "metadata").glob("*.metadata.json"))
    return of_table(StaticTable.from_metadata(str(metadata)).scan().to_arrow())


def hudi(folder: Path, night: Night) -> None:
    """As Hudi lays a table out: two versions of one file, and the folder that says which one counts."""
    (folder / "table" / ".hoodie").mkdir(parents=True)
    (folder / "table" / ".hoodie" / "hoodie.properties").write_text("hoodie.table.name=readings\n", encoding="utf-8")
    (folder / "table" / "day=1").mkdir()
    write_parts(folder / "table" / "day=1", [night.table, night.table])


NAMES_IN_ICEBERG = {
    "spaces": {"s0": "pump 1", "s1": "pump 2"},
    "plus and equals": {"s0": "a+b", "s1": "c=d", "s2": "e/f"},
    "leading zeros": {"s0": "007", "s1": "07", "s2": "7"},
    "numbers": {"s0": "101", "s1": "102", "s2": "103", "s3": "104"},
    "text that says null": {"s0": "null", "s1": "None"},
    "empty text": {"s0": ""},
    "nulls": {"s0": None},
}

DELTA: dict[str, Any] = {"path": "table", "read": by_delta, "kept": kept_in_delta, "seldom": ("mixed",)}
ICEBERG: dict[str, Any] = {"path": "table", "read": by_iceberg, "seldom": ("mixed",)}
TABLE = Refusal(r"(?i)(delta|iceberg|hudi).*table")

ENTRIES: list[Entry] = [
    *(
        Entry(
            f"folders: {name}",
            in_folders(names),
            read=by_folder,
            or_refused=OR_FALLS,
            orders=("tidy",),
            shown=tuple(unquote(names[sensor]) for sensor in ("s0", "s1", "s2")) if name == "markup" else (),
        )
        for name, names in FOLDERS.items()
    ),
    Entry(
        "folders: bytes that are no text",
        in_folders({"s0": "%FF", "s1": "%FE", "s2": "x", "s3": "y"}),
        read=by_folder,
        or_refused=Refusal(r"%F|UTF-8|\\x"),
        orders=("tidy",),
    ),
    Entry(
        "folders: numbers one night, words the next",
        by_night(
            in_folders({"s0": "101", "s1": "102", "s2": "103"}),
            in_folders({"s0": "101", "s1": "102", "s2": "103", "s3": "A7"}),
        ),
        read=by_folder,
        orders=("tidy",),
    ),
    Entry(
        "folders: words one night, numbers the next",
        by_night(
            in_folders({"s0": "101", "s1": "A7", "s2": "103"}),
            in_folders({"s0": "101", "s2": "103", "s3": "104"}),
        ),
        read=by_folder,
        orders=("tidy",),
    ),
    *(
        Entry(
            f"folders: {name}, and the column in the file too",
            in_folders(FOLDERS[name], beside=as_it_is),
            read=by_arrow,
            orders=("tidy",),
        )
        for name in ("numbers", "numbers with leading zeros", "numbers and words", "words in percent")
    ),
    Entry(
        "folders: numbers, and the column in the file as a number",
        in_folders(FOLDERS["numbers"], beside=int),
        read=by_arrow,
        orders=("tidy",),
    ),
    *(
        Entry(f"times in folders: {name}", times_in_folders(lambda moment, form=form: quote(moment.strftime(form))))
        for name, form in {
            "ISO": "%Y-%m-%dT%H:%M:%S",
            "with a space": "%Y-%m-%d %H:%M",
            "whole numbers": "%d%H%M",
        }.items()
    ),
    Entry(
        "times in folders: one of them is null",
        times_in_folders(
            lambda moment: "__HIVE_DEFAULT_PARTITION__" if moment.minute == 20 else quote(moment.isoformat())
        ),
    ),
    *(
        Entry(
            f"Delta: {name}",
            delta(of_each(values), "part", kind),
            config={"output.keep": ["part"]},
            **DELTA,
        )
        for name, (values, kind) in PARTITIONS.items()
    ),
    Entry("Delta: keys with leading zeros", delta({"s0": "05", "s1": "5", "s2": "005", "s3": "x"}), **DELTA),
    Entry("Delta: keys that are int64", delta({"s0": 5, "s1": 2**40, "s2": -1, "s3": 0}, kind=pa.int64()), **DELTA),
    Entry(
        "Delta: keys that are dates",
        delta({f"s{day}": dt.date(2026, 11, 1 + day) for day in range(4)}, kind=pa.date32()),
        **DELTA,
    ),
    Entry("Delta: a day that was written again", rewritten, **DELTA),
    Entry("Delta: a day's folder in a table", rewritten, path="table/day=2026-11-20", refused=TABLE, orders=("tidy",)),
    Entry("Delta: a glob into a table", rewritten, path="table/day=*/*.parquet", refused=TABLE, orders=("tidy",)),
    Entry("Delta: a glob of all files below", rewritten, path="table/**/*.parquet", refused=TABLE, orders=("tidy",)),
    Entry("Delta: a folder above a table", rewritten, refused=TABLE, orders=("tidy",)),
    Entry("Delta: absolute paths in the log", cloned, path="table", read=by_origin, or_refused=Refusal("Delta")),
    *(
        Entry(f"Iceberg: {name}", iceberg(names, partitioned=True), **ICEBERG)
        for name, names in NAMES_IN_ICEBERG.items()
    ),
    Entry("Iceberg: no partitions", iceberg({}), **ICEBERG),
    Entry("Iceberg: written again", iceberg({}, times=2), **ICEBERG),
    Entry(
        "Iceberg: the data folder of a table", iceberg({}, times=2), path="table/data", refused=TABLE, orders=("tidy",)
    ),
    Entry(
        "Iceberg: a glob into a table",
        iceberg({}, times=2),
        path="table/data/*.parquet",
        refused=TABLE,
        orders=("tidy",),
    ),
    Entry("Hudi: a table", hudi, path="table", refused=Refusal("Hudi"), orders=("tidy",)),
    Entry("Hudi: a folder in a table", hudi, path="table/day=1", refused=Refusal("Hudi"), orders=("tidy",)),
    Entry("Hudi: a folder above a table", hudi, refused=Refusal("Hudi"), orders=("tidy",)),
]
