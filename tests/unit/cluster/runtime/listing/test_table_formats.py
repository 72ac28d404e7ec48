"""Delta Lake and Iceberg tables as input, written by their own libraries: which files a version is, what is refused."""

from __future__ import annotations

import json
from base64 import b85encode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyroaring import BitMap64

from cluster.core.plan.shard_plan import make_plan
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.listing.table_formats import plain_files
from cluster.runtime.plan.input_scan import make_inventory
from tests.fakes.s3_server import BUCKET, S3
from tests.inputs.series import make_series, settings_for

# Base 85 as Delta writes it, against Python's.
PYTHONS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
DELTAS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
MAGIC = 1681511377


def vector(*rows: int) -> dict[str, Any]:
    """A deletion vector of these rows, as a Delta log holds it."""
    content = MAGIC.to_bytes(4, "little") + BitMap64(rows).serialize()
    padded = content + bytes(-len(content) % 4)
    text = b85encode(padded).decode().translate(str.maketrans(PYTHONS, DELTAS))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(content), "cardinality": len(rows)}


def rows_of(settings: InputSettings) -> list[tuple[Any, ...]]:
    """The keys of the rows that a run would score."""
    plan = make_plan(make_inventory(settings, map), shard_rows=1000)
    tables = [pq.read_table(path, columns=["entity", "f0"], partitioning=None) for path in list_files(settings)]
    found = pa.concat_tables(tables)
    assert plan.head.rows_in == found.num_rows
    return sorted(zip(*(found.column(name).to_pylist() for name in ("entity", "f0")), strict=True))


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Version 0 has one entity, version 1 two; version 2 has lost the first, whose file is still there."""
    table, path = make_series([4, 3]), tmp_path / "delta"
    write_deltalake(path, table.slice(0, 4))
    write_deltalake(path, table.slice(4), mode="append")
    DeltaTable(path).delete("entity = 'e0000'")
    return path


def test_a_delta_table_is_the_files_of_its_newest_version(delta: Path) -> None:
    assert {entity for entity, _ in rows_of(settings_for(delta))} == {"e0001"}
    assert len(list(delta.glob("*.parquet"))) == 2


@pytest.mark.parametrize(("version", "entities"), [(0, {"e0000"}), (1, {"e0000", "e0001"}), (2, {"e0001"})])
def test_a_delta_table_is_read_at_a_pinned_version(delta: Path, version: int, entities: set[str]) -> None:
    assert {entity for entity, _ in rows_of(settings_for(delta, version=version))} == entities


def test_a_partitioned_delta_table_has_the_columns_of_its_folders(tmp_path: Path) -> None:
    table = make_series([4, 3]).append_column("part", pa.array(["a b", "c/d", "a b", "é", "x", "x", "1"]))
    write_deltalake(tmp_path / "delta", table, partition_by=["part"])
    settings = settings_for(tmp_path / "delta", entity=("entity", "part"))
    plan = make_plan(make_inventory(settings, map), shard_rows=1000)
    assert (plan.head.rows_in, plan.head.entities) == (7, 5)


def test_a_delta_version_that_is_not_there_is_refused(delta: Path) -> None:
    with pytest.raises(InputRefused, match="cannot be read at version 9"):
        list_files(settings_for(delta, version=9))


def test_deletion_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "delta"
    write_deltalake(path, make_series([40]), configuration={"delta.enableDeletionVectors": "true"})
    assert len(list_files(settings_for(path))) == 1
    log = path / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    add = next(action["add"] for action in actions if "add" in action)
    removed = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    later = [{"remove": removed}, {"add": {**add, "deletionVector": vector(3, 7)}}]
    (log.parent / f"{1:020d}.json").write_text("\n".join(map(json.dumps, later)))
    with pytest.raises(InputRefused, match="has deletion vectors"):
        list_files(settings_for(path))
    assert len(list_files(settings_for(path, version=0))) == 1


def test_column_mapping_is_refused(delta: Path) -> None:
    log = delta / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"]["delta.columnMapping.mode"] = "name"
    log.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(InputRefused, match="column mapping"):
        list_files(settings_for(delta, version=0))


def test_a_delta_table_below_a_folder_is_refused(delta: Path) -> None:
    with pytest.raises(InputRefused, match="name the table itself"):
        list_files(settings_for(delta.parent))
    with pytest.raises(InputRefused, match="name the table itself"):
        list_files(settings_for(delta.parent / "del*"))


def test_a_version_of_what_is_no_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(make_series([3]), tmp_path / "x.parquet")
    with pytest.raises(InputRefused, match="neither a Delta nor an Iceberg table"):
        list_files(settings_for(tmp_path / "x.parquet", version=0))


@pytest.fixture
def iceberg(tmp_path: Path) -> Table:
    """Two snapshots: of one entity, and of two."""
    catalog = InMemoryCatalog("test", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("lake")
    series = make_series([4, 3])
    table = catalog.create_table("lake.flights", schema=series.schema)
    table.append(series.slice(0, 4))
    table.append(series.slice(4))
    return table


def test_an_iceberg_table_is_the_files_of_its_newest_snapshot(iceberg: Table) -> None:
    folder = iceberg.location().removeprefix("file://")
    by_folder, by_file = settings_for(folder), settings_for(iceberg.metadata_location.removeprefix("file://"))
    assert {entity for entity, _ in rows_of(by_folder)} == {"e0000", "e0001"}
    assert list_files(by_folder) == list_files(by_file)


def test_an_iceberg_table_is_read_at_a_pinned_snapshot(iceberg: Table) -> None:
    folder, first = iceberg.location().removeprefix("file://"), iceberg.metadata.snapshots[0].snapshot_id
    assert {entity for entity, _ in rows_of(settings_for(folder, version=first))} == {"e0000"}
    with pytest.raises(InputRefused, match=f"has no snapshot 5; its newest are {first}"):
        list_files(settings_for(folder, version=5))


def test_a_renamed_column_is_refused(iceberg: Table) -> None:
    with iceberg.update_schema() as update:
        update.rename_column("f0", "f9")
    with pytest.raises(InputRefused, match="was renamed"):
        list_files(settings_for(iceberg.location().removeprefix("file://")))


def test_rows_that_a_file_deletes_are_refused(iceberg: Table) -> None:
    (first, _) = iceberg.scan().plan_files()
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path="file:///deletes.parquet",
        file_format=FileFormat.PARQUET,
        partition={},
        record_count=1,
        file_size_in_bytes=1,
    )
    with pytest.raises(InputRefused, match=r"deleted by a file beside .*data.*\.parquet"):
        list(plain_files("flights", [FileScanTask(first.file, {deletes})]))
    assert len(list(plain_files("flights", [FileScanTask(first.file, set())]))) == 1


def test_tables_on_s3(s3: S3, iceberg: Table) -> None:
    options = {"endpoint": f"http://{s3.direct}", "allow_http": "true", "region": "us-east-1"}
    write_deltalake(f"s3://{BUCKET}/delta", make_series([4, 3]), storage_options=options)
    settings = settings_for(f"s3://{BUCKET}/delta", storage=s3.options())
    assert make_inventory(settings, map).rows_in == 7
    assert isinstance(iceberg.io, PyArrowFileIO)
    properties = {"s3.endpoint": f"http://{s3.direct}", "s3.region": "us-east-1"}
    catalog = InMemoryCatalog("remote", warehouse=f"s3://{BUCKET}/ice", **properties)
    catalog.create_namespace("lake")
    remote = catalog.create_table("lake.flights", schema=iceberg.schema())
    remote.append(make_series([4, 3]))
    settings = settings_for(remote.location(), storage=s3.options())
    assert make_inventory(settings, map).rows_in == 7
