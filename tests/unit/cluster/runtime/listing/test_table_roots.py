"""Plain paths that lead into a table: found from above, from below and along links, here and in a store.

The tables that Slotcar reads are written by their own libraries; of the others the files are laid out by hand, as the
libraries of Hudi, Paimon and Lance leave them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog

from cluster.run_errors import InputRefused
from cluster.runtime.listing.file_listing import list_files
from tests.fakes.faulty_servers import Fault
from tests.fakes.s3_server import ACCESS, BUCKET, S3, SECRET
from tests.inputs.series import make_series, settings_for

ROWS = make_series([4, 3]).append_column("day", pa.array(["2026-11-19", "2026-11-20"] * 3 + ["2026-11-20"]))


def delta(folder: Path) -> None:
    """A day was written again: its folder holds a file that is no part of the table any more."""
    write_deltalake(folder, ROWS, partition_by=["day"])
    again = ROWS.filter(pc.equal(ROWS.column("day"), "2026-11-20"))
    write_deltalake(folder, again, mode="overwrite", predicate="day = '2026-11-20'")


def iceberg(folder: Path) -> None:
    catalog = InMemoryCatalog("test", warehouse=f"file://{folder.parent}")
    catalog.create_namespace("lake")
    table = catalog.create_table("lake.rows", ROWS.schema, location=f"file://{folder}")
    table.append(ROWS)
    table.overwrite(ROWS)
    for file in (folder / "data").glob("*.parquet"):
        day = folder / "data" / "day=2026-11-20"
        day.mkdir(exist_ok=True)
        file.rename(day / file.name)


def marked(*marks: str) -> Callable[[Path], None]:
    def lay_out(folder: Path) -> None:
        for day in ("2026-11-19", "2026-11-20"):
            (folder / f"day={day}").mkdir(parents=True)
            pq.write_table(ROWS.drop_columns("day"), folder / f"day={day}" / "part-0.parquet")
        for mark in marks:
            (folder / mark).parent.mkdir(parents=True, exist_ok=True)
            (folder / mark).write_bytes(b"x")

    return lay_out


READ = {"Delta": delta, "Iceberg": iceberg}
OTHERS = {
    "Hudi": marked(".hoodie/hoodie.properties", ".hoodie/20261120.commit", "day=2026-11-20/.hoodie_partition_metadata"),
    "Paimon": marked("schema/schema-0", "snapshot/LATEST", "snapshot/snapshot-1", "manifest/manifest-1"),
    "Lance": marked("_versions/1.manifest", "_transactions/0-1.txn"),
}
TABLES: dict[str, Callable[[Path], None]] = {**READ, **OTHERS}
DAY = "**/day=2026-11-20"
# Ways into a table at `lake/table`, below the folder of a test.
INSIDE = {
    "a folder": [DAY],
    "a file": [f"{DAY}/*.parquet"],
    "the folder above all days": ["lake/table/*"],
    "a glob of days": ["lake/table/**/day=*"],
    "a glob of files": ["lake/table/**/*.parquet"],
    "a glob from above": ["lake/*/**/*.parquet"],
    "a folder above the table": ["lake"],
    "the folder of all": [""],
    "a list": ["plain", DAY],
    "a link to a day": ["links/day"],
    "a link to a file": ["links/files"],
    "a glob of links": ["links/*"],
}


def lay_out(folder: Path, make: Callable[[Path], None]) -> None:
    """A table, a plain folder, and links into the table."""
    (folder / "lake").mkdir()
    make(folder / "lake" / "table")
    (folder / "plain").mkdir()
    pq.write_table(ROWS, folder / "plain" / "part-0.parquet")
    (folder / "links" / "files").mkdir(parents=True)
    (day,) = (folder / "lake").glob(DAY)
    (folder / "links" / "day").symlink_to(day)
    (folder / "links" / "files" / "one.parquet").symlink_to(next(day.glob("*.parquet")))


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("way", INSIDE)
def test_a_path_into_a_table_is_refused_with_the_table(tmp_path: Path, kind: str, way: str) -> None:
    lay_out(tmp_path, TABLES[kind])
    paths = [str(next(tmp_path.glob(path))) if path.startswith(DAY) else tmp_path / path for path in INSIDE[way]]
    with pytest.raises(InputRefused) as refused:
        list_files(settings_for(*paths))
    said = str(refused.value)
    if (kind, way) == ("Hudi", "a link to a day"):  # which has a mark of its own
        assert "links/day is a Hudi table" in said
        return
    assert f"reads files of the {kind} table {tmp_path}/lake/table" in said
    assert ("name the table itself" in said) == (kind in READ)
    assert ("to plain Parquet" in said) == (kind in OTHERS)
    list_files(settings_for(tmp_path / "plain"))


def test_the_table_itself_is_read_beside_plain_files(tmp_path: Path) -> None:
    lay_out(tmp_path, delta)
    found = list_files(settings_for(tmp_path / "lake" / "table", tmp_path / "plain"))
    assert (len(found), len(found.tables)) == (3, 1)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("path", ["lake/table", "lake/linked"])
def test_a_table_of_another_kind_is_named_and_refused(tmp_path: Path, kind: str, path: str) -> None:
    lay_out(tmp_path, TABLES[kind])
    (tmp_path / "lake" / "linked").symlink_to(tmp_path / "lake" / "table")
    with pytest.raises(InputRefused, match=f"{path} is a {kind} table, which Slotcar does not read: write its rows"):
        list_files(settings_for(tmp_path / path))


def test_a_day_of_a_hudi_table_is_known_without_the_table(tmp_path: Path) -> None:
    OTHERS["Hudi"](tmp_path / "table")
    (tmp_path / "table" / "day=2026-11-20").rename(tmp_path / "day=2026-11-20")
    with pytest.raises(InputRefused, match=f"{tmp_path}/day=2026-11-20 is a Hudi table"):
        list_files(settings_for(tmp_path / "day=2026-11-20"))


def test_a_delta_table_that_iceberg_reads_as_well_is_a_delta_table(tmp_path: Path) -> None:
    delta(tmp_path / "table")
    (tmp_path / "table" / "metadata").mkdir()
    (tmp_path / "table" / "metadata" / "00000-x.metadata.json").write_text("{}")
    assert len(list_files(settings_for(tmp_path / "table"))) == 2


def test_a_table_within_the_folder_of_another_is_read(tmp_path: Path) -> None:
    delta(tmp_path / "outer")
    delta(tmp_path / "outer" / "_inner")
    assert len(list_files(settings_for(tmp_path / "outer" / "_inner"))) == 2


# What lies beside plain files and marks no table.
NO_MARKS = [
    "metadata/part-0.parquet",
    "metadata/notes.json",
    "metadata/flights.metadata.json",
    "metadata.json",
    "v1.metadata.json.txt",
    "data/x.metadata.txt",
    "_delta_logs/0.json",
    "x_delta_log/0.json",
    ".hoodie.txt",
    "schema/schema-0/x",
    "schema/schema.json",
    "_versions/notes.txt",
    "snapshot/LATEST",
]


@pytest.mark.parametrize("mark", NO_MARKS)
def test_plain_files_beside_what_looks_alike_are_read(tmp_path: Path, mark: str) -> None:
    folder = tmp_path / "lake"
    for name in ("day=1/part-0.parquet", "part-0.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ROWS, folder / name)
    (folder / mark).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(ROWS, folder / mark)
    for path in ("", "day=1", "day=1/part-0.parquet", "*/part-0.parquet", "**/part-*.parquet"):
        assert list_files(settings_for(folder / path))


@pytest.mark.parametrize("name", ["_delta_log", ".hoodie", "_versions", "metadata", "schema"])
def test_a_file_of_a_marks_name_marks_nothing(tmp_path: Path, name: str) -> None:
    pq.write_table(ROWS, tmp_path / "part-0.parquet")
    (tmp_path / name).write_bytes(b"")
    assert list_files(settings_for(tmp_path / "part-0.parquet"))


def test_a_table_beside_what_a_pattern_names_is_no_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, delta)
    assert len(list_files(settings_for(tmp_path / "pl*"))) == 1
    assert len(list_files(settings_for(tmp_path / "**" / "plain" / "*.parquet"))) == 1


# ---- in a store


def filled(s3: S3, folder: Path, prefix: str) -> pafs.S3FileSystem:
    """The files of a folder below a prefix of the bucket."""
    client = s3.client()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink():
            client.put(f"{prefix}/{file.relative_to(folder)}", file.read_bytes())
    return pafs.S3FileSystem(
        access_key=ACCESS, secret_key=SECRET, endpoint_override=s3.direct, scheme="http", region="us-east-1"
    )


@pytest.mark.parametrize("kind", ["Delta", "Iceberg", "Hudi"])
def test_a_path_into_a_table_of_a_store_is_refused(tmp_path: Path, s3: S3, kind: str) -> None:
    lay_out(tmp_path, TABLES[kind])
    prefix = f"inside-{kind}"
    filled(s3, tmp_path, prefix)
    root = f"s3://{BUCKET}/{prefix}"
    (day,) = (tmp_path / "lake").glob(DAY)
    inner = day.relative_to(tmp_path)
    file = next(day.glob("*.parquet")).name
    ways = ["", "lake", str(inner), f"{inner}/{file}", "lake/table/**/*.parquet", f"{inner}/*", "lake/t*"]
    for way in ways:
        s3.calm()
        with pytest.raises(InputRefused, match=f"reads files of the {kind} table {root}/lake/table"):
            list_files(settings_for(f"{root}/{way}".rstrip("/"), storage=s3.options()))
    assert len(list_files(settings_for(f"{root}/plain", f"{root}/pl*", storage=s3.options()))) == 1


def looks(s3: S3, *paths: str) -> list[str]:
    """The requests that listing an input makes."""
    s3.calm()
    list_files(settings_for(*(f"s3://{BUCKET}/{path}" for path in paths), storage=s3.options()))
    return list(s3.seen)


def test_a_look_upwards_costs_a_few_requests_whatever_the_number_of_files(s3: S3) -> None:
    client = s3.client()
    for day in range(3):
        client.put(f"few/year=2026/day={day}/part-0.parquet", b"x")
    looks(s3, "few/year=2026")  # the first in a process asks for the store itself too
    few = looks(s3, "few/year=2026")
    for day in range(3, 40):
        client.put(f"few/year=2026/day={day}/part-0.parquet", b"x")
        client.put(f"few/year=2026/day={day}/part-1.parquet", b"x")
    many = looks(s3, "few/year=2026")
    assert len(many) == len(few) <= 2 + 3 * 8 + 1  # what it is, eight for each folder at and above it, and the listing
    assert len(looks(s3, "few/year=2026", "few/year=2026")) == 2 * len(few)


def test_where_one_may_not_look_nothing_is_said_to_be(s3: S3) -> None:
    """As where a key may read no more of a bucket than a team's own part."""
    s3.client().put("team/input/part-0.parquet", b"x")
    s3.calm()
    for mark in ("/team/_delta_log", f"/{BUCKET}/_delta_log", "/team/metadata"):
        s3.fail(Fault.FORBIDDEN, "HEAD", mark, times=100)
        s3.fail(Fault.FORBIDDEN, "GET", mark.rpartition("/")[2], times=100)
    asked = settings_for(f"s3://{BUCKET}/team/input", storage=s3.options())
    assert len(list_files(asked)) == 1
    assert s3.struck


def test_a_store_that_does_not_answer_is_no_store_without_tables(s3: S3) -> None:
    s3.client().put("team/input/part-0.parquet", b"x")
    s3.calm()
    s3.fail(Fault.INTERNAL, "HEAD", "/team/_delta_log", times=1000)
    asked: Any = settings_for(f"s3://{BUCKET}/team/input", storage=s3.options(request_timeout=2.0))
    with pytest.raises(InputRefused, match="cannot be listed"):
        list_files(asked)
    s3.calm()
