"""Delta Lake and Iceberg tables as input, written by their own libraries: which files a version is, what is refused."""

from __future__ import annotations

import gzip
import json
import pickle
from base64 import b85encode
from collections.abc import Callable
from datetime import date
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.transforms import IdentityTransform
from pyroaring import BitMap64

from cluster.core.plan.partitions import Partitions
from cluster.core.plan.shard_plan import make_plan
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.listing.table_formats import plain_files
from cluster.runtime.listing.table_roots import TableRoots
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.plan.plan_files import HEAD_FILE, read_plan, write_plan
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.training.training_rows import TrainingRows
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


def renamed(table: Path, name: Callable[[str], str]) -> None:
    """Writes the names of the files in a table's log otherwise."""
    for log in (table / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            if "add" in action:
                action["add"]["path"] = name(action["add"]["path"])
        log.write_text("\n".join(map(json.dumps, actions)))


# How a log may name a file of the table, given the table and the file's own name as it stands there.
WITHIN = {
    "absolute": lambda table, name: f"{table}/{name}",
    "a URI": lambda table, name: f"file://{table}/{name}",
    "as Hadoop has it": lambda table, name: f"file:{table}/{name}",
    "through a link": lambda table, name: f"{table.parent}/link/{name}",
    "with dots": lambda table, name: f"x/../{name}",
    "encoded": lambda table, name: name.replace("part", "%70%61rt"),
}
OUTSIDE = {
    "absolute": lambda table, name: f"{table.parent}/other/{name}",
    "a URI": lambda table, name: f"file://{table.parent}/other/{name}",
    "dots": lambda table, name: f"../other/{name}",
    "dots, encoded": lambda table, name: f"..%2fother/{name}",
    "a neighbour that begins alike": lambda table, name: f"{table}-other/{name}",
    "another store": lambda table, name: f"s3://bucket/{name}",
    "another scheme": lambda table, name: f"https://host/{name}",
}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A partitioned table, and a link to it."""
    table = make_series([4, 3]).append_column("part", pa.array(["05", "50%", "05", "a b", "x", "x", "1"]))
    write_deltalake(tmp_path / "delta", table, partition_by=["part"])
    (tmp_path / "link").symlink_to(tmp_path / "delta")
    return tmp_path / "delta"


def parts_of(settings: InputSettings) -> dict[str, str]:
    """The table's value of each file, by the rows that the file has."""
    files = list_files(settings)
    partitions = Partitions.of(files, settings)
    rows = {path: pq.read_table(path, columns=["f0"], partitioning=None).column(0).to_pylist() for path in files}
    return {str(rows[path]): partitions.values(path)["part"].as_py() for path in files}


@pytest.mark.parametrize("way", WITHIN)
@pytest.mark.parametrize("root", ["delta", "link"])
def test_a_delta_log_may_name_its_files_in_any_way(parts: Path, way: str, root: str) -> None:
    settings = settings_for(parts.parent / root, entity=("entity", "part"))
    plain = parts_of(settings)
    assert set(plain.values()) == {"05", "50%", "a b", "x", "1"}
    renamed(parts, lambda name: WITHIN[way](parts, name))
    assert parts_of(settings) == plain


@pytest.mark.parametrize("way", OUTSIDE)
def test_a_delta_log_that_names_files_elsewhere_is_refused(parts: Path, way: str) -> None:
    copytree(parts, parts.parent / "other")
    renamed(parts, lambda name: OUTSIDE[way](parts, name))
    with pytest.raises(InputRefused, match="outside of its own folder, as a shallow clone does"):
        list_files(settings_for(parts))
    assert len(list_files(settings_for(parts.parent / "other"))) == 5


def test_a_file_that_a_clean_up_has_removed_is_named(delta: Path) -> None:
    next(delta.glob("*.parquet")).unlink()
    with pytest.raises(InputRefused, match=r"names .*\.parquet, which is not there: VACUUM or another clean-up"):
        list_files(settings_for(delta, version=1))


@pytest.mark.parametrize("column", ["a b", "a%20b", "a=b", "a/b", "é", "file", "@file", "path", "entity_id"])
def test_a_partition_column_may_have_any_name(tmp_path: Path, column: str) -> None:
    table = make_series([4]).append_column(column, pa.array(["05", "5", "05", "a b"]))
    write_deltalake(tmp_path / "delta", table, partition_by=[column])
    plan = make_plan(make_inventory(settings_for(tmp_path / "delta", entity=(column,)), map), shard_rows=1000)
    assert sorted(plan.inventory.keys.column(column).to_pylist()) == ["05", "5", "a b"]


def test_several_tables_and_plain_files_each_say_what_they_are(tmp_path: Path) -> None:
    """The same folder's name is text in one table, a date in another, and a number beside them."""
    rows = make_series([2]).drop_columns("entity")
    for name, value in (("one", "05"), ("two", "5")):
        table = rows.append_column("entity", pa.array([name] * 2)).append_column("part", pa.array([value] * 2))
        write_deltalake(tmp_path / name, table, partition_by=["part"])
    (tmp_path / "plain" / "part=6").mkdir(parents=True)
    table = rows.append_column("entity", pa.array(["plain"] * 2))
    pq.write_table(table, tmp_path / "plain" / "part=6" / "x.parquet")
    settings = settings_for(tmp_path / "one", tmp_path / "plain", tmp_path / "two", keep=("part",))
    files = list_files(settings)
    partitions = Partitions.of(files, settings)
    found = {Path(path).parent.parent.name: partitions.values(path)["part"].as_py() for path in files}
    assert found == {"one": "05", "plain": 6, "two": "5"}


def test_a_plan_keeps_what_a_table_says(tmp_path: Path) -> None:
    table = make_series([6]).append_column("part", pa.array([date(2026, 11, 19), None] * 3))
    write_deltalake(tmp_path / "delta", table, partition_by=["part"])
    store, settings = LocalStore(str(tmp_path / "out")), settings_for(tmp_path / "delta", entity=("part",))
    plan = make_plan(make_inventory(settings, map), shard_rows=1000)
    write_plan(store, plan)
    assert read_plan(store) == plan.head == pickle.loads(pickle.dumps(plan.head))
    assert [values.table for values in read_plan(store).beside.tables] == [
        values.table for values in plan.head.beside.tables
    ]
    head = json.loads(store.read(HEAD_FILE))
    del head["partitions"]  # as it was written before
    store.write(HEAD_FILE, json.dumps(head).encode())
    before = read_plan(store)
    assert before.partitions is None
    assert before.beside.types == {"part": pa.string()}


def test_a_training_reads_what_a_table_says(tmp_path: Path) -> None:
    table = make_series([6]).append_column("part", pa.array(["05", "5", "005"] * 2))
    write_deltalake(tmp_path / "delta", table, partition_by=["part"])
    for layout in ("auto", "shuffle"):
        settings = settings_for(tmp_path / "delta", entity=("part",), layout=layout)
        place = StoreSpec(str(tmp_path / layout))
        plans = TrainingRows(settings, list_files(settings), place, Here()).take(None)
        groups = plans.files.open(("part", "f0"), cache_bytes=0)
        files = len(plans.files.files)
        rows = pa.concat_tables(groups.rows(index, 0, table.num_rows // files) for index in range(files))
        wanted = table.select(["part", "f0"])
        assert sorted(map(str, rows.to_pylist())) == sorted(map(str, wanted.to_pylist()))


class Here:
    """Implements `Workers` in this process."""

    def map(self, function: Any, items: Any) -> Any:
        return map(function, items)

    def check(self, place: StoreSpec) -> None:
        """This process sees its own folders."""


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


@pytest.mark.parametrize("rows", [0, 4])
def test_an_iceberg_table_without_files_is_refused(tmp_path: Path, rows: int) -> None:
    catalog = InMemoryCatalog("test", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("lake")
    table = catalog.create_table("lake.flights", schema=make_series([4]).schema)
    if rows:
        table.append(make_series([rows]))
        table.delete("entity = 'e0000'")
    with pytest.raises(InputRefused, match="has no files in it"):
        list_files(settings_for(table.location().removeprefix("file://")))


def test_an_iceberg_table_that_was_moved_says_where_it_was(iceberg: Table, tmp_path: Path) -> None:
    old = Path(iceberg.location().removeprefix("file://"))
    old.rename(tmp_path / "moved")
    with pytest.raises(InputRefused, match=f"it says that it lies in file://{old}; if it was moved"):
        list_files(settings_for(tmp_path / "moved"))


@pytest.mark.parametrize("name", ["v12.metadata.json", "00012-x.metadata.json", "v12.gz.metadata.json"])
def test_the_metadata_with_the_highest_number_counts(iceberg: Table, name: str) -> None:
    folder = Path(iceberg.location().removeprefix("file://")) / "metadata"
    first, *_, newest = sorted(folder.glob("*.metadata.json"))
    content = newest.read_bytes()
    for file in folder.glob("*.metadata.json"):
        file.write_bytes(first.read_bytes())  # of the table without files
    (folder / name).write_bytes(gzip.compress(content) if ".gz." in name else content)
    assert len(list_files(settings_for(folder.parent))) == 2
    assert len(list_files(settings_for(folder / name))) == 2


def test_a_column_that_the_files_have_is_read_from_them(tmp_path: Path) -> None:
    """Manifests hold less of a double than its file; folders are form-encoded and say nothing."""
    catalog = InMemoryCatalog("test", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("lake")
    rows = make_series([3]).append_column("size", pa.array([0.1, 1e20, 2.5]))
    table = catalog.create_table("lake.flights", schema=rows.schema)
    with table.update_spec() as spec:
        spec.add_field("size", IdentityTransform(), "size")
    table.append(rows)
    settings = settings_for(table.location().removeprefix("file://"), keep=("size",))
    files = list_files(settings)
    groups = RowGroups(files.paths, ("f0", "size"), Partitions.of(files, settings), cache_bytes=0)
    found = pa.concat_tables(groups.rows(index, 0, 1) for index in range(3))
    wanted = table.scan().to_arrow().select(["f0", "size"])
    assert sorted(map(str, found.to_pylist())) == sorted(map(str, wanted.to_pylist()))


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


def test_a_table_is_known_by_its_list_where_a_store_shows_nothing_else(s3: S3, monkeypatch: Any) -> None:
    options = {"endpoint": f"http://{s3.direct}", "allow_http": "true", "region": "us-east-1"}
    write_deltalake(f"s3://{BUCKET}/listed", make_series([4, 3]), storage_options=options)
    write_deltalake(f"s3://{BUCKET}/listed", make_series([2]), storage_options=options, mode="overwrite")
    monkeypatch.setattr(TableRoots, "_look", lambda self, name: None)
    settings = settings_for(f"s3://{BUCKET}/listed", storage=s3.options())
    assert make_inventory(settings, map).rows_in == 2


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
