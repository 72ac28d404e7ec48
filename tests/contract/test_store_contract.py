"""What every store promises, held against the real ones and the simulated ones."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.commit import STAGED
from cluster.core.locations import parse_location
from cluster.run_errors import NotLanded, StoreFault
from cluster.runtime.storage.hdfs_store import HdfsStore
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.object_store import ObjectStore
from cluster.runtime.storage.parquet_tables import UNREADABLE, TableGroups, read_table, write_table
from cluster.runtime.storage.store import Store
from cluster.runtime.storage.write_probe import why_unwritable
from tests.fakes.clouds import Cloud
from tests.fakes.hdfs import HOST, hadoop
from tests.fakes.s3_server import BUCKET, S3
from tests.sim.memory_store import MemoryStore


@pytest.fixture(params=["local", "memory", "s3", "hdfs", "gs", "abfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    match request.param:
        case "s3":
            s3: S3 = request.getfixturevalue("s3")
            yield ObjectStore(parse_location(f"s3://{BUCKET}/{tmp_path.name}/out"), s3.options())
        case "gs" | "abfs":
            cloud: Cloud = request.getfixturevalue(request.param)
            yield ObjectStore(parse_location(f"{cloud.url}/{tmp_path.name}/out"), cloud.options())
        case "hdfs":
            with hadoop(tmp_path):
                yield HdfsStore(parse_location(f"{HOST}/out"), {})
        case "local":
            yield LocalStore(str(tmp_path / "out"))
        case _:
            yield MemoryStore()


def test_a_written_file_is_read_back(store: Store) -> None:
    store.write("a/b/c.json", b"one")
    assert store.read("a/b/c.json") == store.find("a/b/c.json") == b"one"
    assert store.exists("a/b/c.json")
    assert store.exists("a/b")


def test_a_write_replaces_the_whole_file(store: Store) -> None:
    store.write("name", b"a long first content")
    store.write("name", b"short")
    assert store.read("name") == b"short"


def test_an_empty_file_is_a_file(store: Store) -> None:
    store.write("_SUCCESS", b"")
    assert store.exists("_SUCCESS")
    assert store.find("_SUCCESS") == b""


def test_an_absent_file_is_none_to_find_and_a_fault_to_read(store: Store) -> None:
    assert store.find("none") is None
    assert store.find("none/below") is None
    assert not store.exists("none")
    with pytest.raises(StoreFault):
        store.read("none")
    with pytest.raises(StoreFault):
        store.modified_s("none")


def test_a_listing_has_the_files_of_one_folder_in_order(store: Store) -> None:
    for name in ("b", "a", "below/c", "below/deeper/d"):
        store.write(name, b"")
    assert store.list("") == ["a", "b"]
    assert store.list("below") == ["c"]
    assert store.list("none") == []
    assert store.list("a") == []


def test_the_first_put_stays(store: Store) -> None:
    assert store.put_if_absent("commits/0.json", b"first") is True
    assert store.put_if_absent("commits/0.json", b"second") is False
    assert store.read("commits/0.json") == b"first"


def test_a_put_may_be_done_again_after_a_removal(store: Store) -> None:
    assert store.put_if_absent("name", b"first")
    store.remove("name")
    assert store.put_if_absent("name", b"second")
    assert store.read("name") == b"second"


def test_of_many_puts_at_once_exactly_one_wins(store: Store) -> None:
    gate = threading.Barrier(8)
    won: list[int] = []

    def put(number: int) -> None:
        gate.wait()
        if store.put_if_absent("lock/1.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [store.read("lock/1.json")]
    assert store.list("lock") == ["1.json"]


def test_an_output_is_there_when_it_is_closed_and_not_before(store: Store) -> None:
    with store.open_output("staged/part") as file:
        file.write(b"some ")
        assert store.list("staged") == []
        assert store.find("staged/part") is None
        file.write(memoryview(b"rows"))
    assert store.read("staged/part") == b"some rows"
    assert store.list("staged") == ["part"]


def test_an_output_replaces_the_whole_file(store: Store) -> None:
    store.write("name", b"a long first content")
    with store.open_output("name") as file:
        file.write(b"short")
        assert store.read("name") == b"a long first content"
    assert store.read("name") == b"short"


def test_an_output_without_a_byte_is_an_empty_file(store: Store) -> None:
    store.open_output("name").close()
    assert store.read("name") == b""


def test_an_output_whose_block_raises_was_never_there(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.open_output("staged/part") as file:  # noqa: PT012
        file.write(b"half")
        raise ZeroDivisionError
    assert store.list("staged") == []
    assert store.find("staged/part") is None


def test_an_output_that_is_dropped_was_never_there(store: Store) -> None:
    file = store.open_output("staged/part")
    file.write(b"half")
    del file
    gc.collect()
    assert store.list("staged") == []
    store.sweep("staged")
    assert store.find("staged/part") is None


def test_an_output_that_was_aborted_does_not_come_back(store: Store) -> None:
    file = store.open_output("name")
    file.write(b"half")
    file.abort()
    file.close()
    assert file.closed
    assert store.find("name") is None


def test_an_output_larger_than_any_buffer_is_whole(store: Store) -> None:
    with store.open_output("large") as file:
        for number in range(20):
            file.write(bytes([number]) * 1_000_000)
    content = store.read("large")
    assert len(content) == 20_000_000
    assert content[::1_000_000] == bytes(range(20))


def test_parquet_is_written_and_read_through_the_door(store: Store) -> None:
    table = pa.table({"row": range(1000)})
    with store.open_output("part") as file, pq.ParquetWriter(file, table.schema) as writer:
        for start in range(0, 1000, 100):
            writer.write_table(table.slice(start, 100))
    groups = TableGroups(store, "part")
    assert all(groups.read(index).equals(table.slice(100 * index, 100)) for index in (3, 0, 9))
    with pytest.raises(UNREADABLE):
        groups.read(10)
    groups.close()
    assert groups.read(3).equals(table.slice(300, 100))
    write_table(store, "other", table)
    assert read_table(store, "other").equals(table)


def test_an_input_seeks(store: Store) -> None:
    store.write("name", b"0123456789")
    with store.open_input("name") as file:
        assert file.size() == 10
        file.seek(6)
        assert file.read(2) == b"67"
        assert file.read_at(3, 1) == b"123"


def test_an_absent_input_is_a_fault(store: Store) -> None:
    with pytest.raises(StoreFault, match="none"):
        store.open_input("none")


def test_publishing_moves_a_file(store: Store) -> None:
    store.write("staged/part.0", b"rows")
    store.publish("staged/part.0", "part")
    assert store.list("staged") == []
    assert store.read("part") == b"rows"


def test_publishing_again_changes_nothing(store: Store) -> None:
    store.write("staged/part.0", b"rows")
    store.publish("staged/part.0", "out/part")
    store.publish("staged/part.0", "out/part")
    assert store.read("out/part") == b"rows"


def test_publishing_over_a_half_done_publish_ends_it(store: Store) -> None:
    store.write("staged/part.0", b"rows")
    store.write("part", b"rows")
    store.publish("staged/part.0", "part")
    assert store.list("staged") == []
    assert store.read("part") == b"rows"


def test_publishing_what_is_nowhere_is_a_fault(store: Store) -> None:
    with pytest.raises(NotLanded, match="neither"):
        store.publish("staged/part.0", "part")
    assert not store.exists("part")


def test_removing_what_is_not_there_is_fine(store: Store) -> None:
    store.remove("none")
    store.remove("none/below")


def test_folders_that_hold_nothing_go_and_others_stay(store: Store) -> None:
    store.make_folder("a/b")
    store.drop_folder("a/b")
    assert not store.exists("a")
    store.write("c/d", b"")
    store.drop_folder("c")
    assert store.exists("c/d")


def test_a_file_knows_when_it_was_written(store: Store) -> None:
    store.write("first", b"")
    store.write("second", b"")
    assert store.modified_s("first") <= store.modified_s("second")


@pytest.mark.parametrize("operation", ["write", "put_if_absent"])
def test_a_write_that_is_cut_off_leaves_no_name(operation: str, tmp_path: Path) -> None:
    """The file system refuses to hold more than 1000 bytes of a file, as a full disk would."""
    program = (
        "import resource, sys\n"
        "from cluster.run_errors import NotLanded\n"
        "from cluster.runtime.storage.local_store import LocalStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "store = LocalStore(sys.argv[1])\n"
        "store.write('small', bytes(1000))\n"
        "try:\n"
        f"    store.{operation}('large', bytes(1001))\n"
        "except NotLanded as fault:\n"
        "    print(fault)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "large could not be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_name_that_the_file_system_refuses_is_a_fault_with_a_sentence(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    for name in ("file/below", "x" * 300):
        with pytest.raises(NotLanded, match="the same command resumes the run"):
            store.write(name, b"")
        with pytest.raises(NotLanded):
            store.put_if_absent(name, b"")
    assert store.list("") == ["file"]


def test_a_sweep_removes_half_written_files_only(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.write("whole", b"")
    (tmp_path / ".half.0123.tmp").write_bytes(b"")
    assert store.list("") == ["whole"]
    store.sweep("")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_place_that_can_be_written_is_found_to_be_and_left_as_it_was(store: Store) -> None:
    store.write(f"{STAGED}/part", b"rows")
    assert why_unwritable(store, STAGED) is None
    assert store.list(STAGED) == ["part"]
