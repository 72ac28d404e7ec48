"""HDFS's store where its contract is not enough: what is left of writes that break off, and what their errors tell."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.core.locations import parse_location
from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault
from cluster.runtime.storage.hdfs_store import HdfsStore
from cluster.runtime.storage.open_store import StoreSpec, open_store
from tests.fakes.hdfs import HOST, Hadoop, Planned, hadoop

LOST = OSError("HDFS Rename failed: the connection broke")
DENIED = PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hadoop]:
    with hadoop(tmp_path) as server:
        yield server


@pytest.fixture
def store(server: Hadoop) -> HdfsStore:
    return HdfsStore(parse_location(f"{HOST}/out"), {})


def again(server: Hadoop) -> HdfsStore:
    """The next driver, in calm."""
    server.calls_left, server.planned = None, []
    return HdfsStore(parse_location(f"{HOST}/out"), {})


def test_an_output_on_hdfs_is_an_hdfs_store(server: Hadoop) -> None:
    store = open_store(StoreSpec(f"{HOST}/out"))
    assert isinstance(store, HdfsStore)
    assert (store.root, store.path("a/b")) == (f"{HOST}/out", f"{HOST}/out/a/b")
    store.write("a/b", b"content")
    assert (server.folder / "out" / "a" / "b").read_bytes() == b"content"


@pytest.mark.parametrize("calls", range(6))
def test_a_file_that_is_replaced_is_whole_wherever_its_writer_dies(
    calls: int, server: Hadoop, store: HdfsStore
) -> None:
    store.write("folder/name", b"old")
    server.calls_left = calls
    if calls < 5:
        with pytest.raises((NotLanded, MayHaveLanded)):
            store.write("folder/name", b"new")
    else:
        store.write("folder/name", b"new")
    found = again(server)
    assert found.list("folder") == ["name"]
    assert found.exists("folder/name")
    assert found.exists("folder")
    content = found.read("folder/name")
    assert content == (b"old" if calls < 4 else b"new")
    assert found.put_if_absent("folder/name", b"another") is False
    with found.open_input("folder/name") as file:
        assert file.read() == content
    assert found.modified_s("folder/name") > 0
    found.write("folder/name", b"last")
    found.sweep("folder")
    assert found.read("folder/name") == b"last"
    assert [path.name for path in (server.folder / "out" / "folder").iterdir()] == ["name"]


def test_a_successor_that_was_left_does_not_come_back_for_a_file_that_was_removed(
    server: Hadoop, store: HdfsStore
) -> None:
    store.write("name", b"old")
    server.calls_left = 2  # written, and made the successor
    with pytest.raises(MayHaveLanded):
        store.write("name", b"new")
    found = again(server)
    found.remove("name")
    assert not found.exists("name")
    assert found.put_if_absent("name", b"first") is True
    assert found.read("name") == b"first"


def test_a_successor_is_published_like_the_file_itself(server: Hadoop, store: HdfsStore) -> None:
    store.write("staged/part", b"old")
    server.calls_left = 4  # the first one is removed
    with pytest.raises(MayHaveLanded):
        store.write("staged/part", b"new")
    found = again(server)
    found.publish("staged/part", "part")
    assert (found.read("part"), found.list("staged")) == (b"new", [])


def test_a_put_that_another_one_overtakes_is_refused(server: Hadoop, store: HdfsStore) -> None:
    other = HdfsStore(parse_location(f"{HOST}/out"), {})
    server.planned.append(Planned("rename", meanwhile=lambda: other.put_if_absent("lock/1.json", b"theirs")))
    assert store.put_if_absent("lock/1.json", b"ours") is False
    assert store.read("lock/1.json") == b"theirs"
    assert [path.name for path in (server.folder / "out" / "lock").iterdir()] == ["1.json"]


@pytest.mark.parametrize("landed", [True, False])
def test_a_put_whose_answer_was_lost_may_have_landed(landed: bool, server: Hadoop, store: HdfsStore) -> None:
    server.planned.append(Planned("rename", LOST, landed=landed))
    with pytest.raises(MayHaveLanded):
        store.put_if_absent("lock/1.json", b"ours")
    assert store.find("lock/1.json") == (b"ours" if landed else None)
    assert store.put_if_absent("lock/1.json", b"later") is not landed


WRITES: dict[str, Callable[[HdfsStore], object]] = {
    "write": lambda store: store.write("name", b"content"),
    "put_if_absent": lambda store: store.put_if_absent("name", b"content"),
    "publish": lambda store: store.publish("staged", "name"),
}


@pytest.mark.parametrize("call", WRITES)
def test_a_rename_that_is_not_allowed_has_changed_nothing(call: str, server: Hadoop, store: HdfsStore) -> None:
    store.write("staged", b"content")
    server.planned.append(Planned("rename", DENIED))
    with pytest.raises(NotLanded, match=r"name could not be .*Permission denied.*the same command resumes the run"):
        WRITES[call](store)
    assert store.list("") == ["staged"]
    WRITES[call](store)
    assert store.read("name") == b"content"


@pytest.mark.parametrize("call", ["write", "put_if_absent"])
def test_a_file_that_cannot_be_made_has_changed_nothing(call: str, server: Hadoop, store: HdfsStore) -> None:
    server.planned.append(Planned("create", OSError("HDFS open failed: no data node is left")))
    with pytest.raises(NotLanded, match="no data node is left"):
        WRITES[call](store)
    assert not store.exists("name")


def test_a_publish_whose_answer_was_lost_is_done_again(server: Hadoop, store: HdfsStore) -> None:
    store.write("staged/part", b"rows")
    server.planned.append(Planned("rename", LOST, landed=True))
    with pytest.raises(MayHaveLanded):
        store.publish("staged/part", "part")
    store.publish("staged/part", "part")
    assert (store.read("part"), store.list("staged")) == (b"rows", [])


LOOKS: dict[str, Callable[[HdfsStore], object]] = {
    "exists": lambda store: store.exists("name"),
    "find": lambda store: store.find("name"),
    "read": lambda store: store.read("name"),
    "list": lambda store: store.list(""),
    "modified_s": lambda store: store.modified_s("name"),
    "open_input": lambda store: store.open_input("name"),
}


@pytest.mark.parametrize("call", LOOKS)
def test_where_nobody_answers_nothing_is_said_to_be_absent(call: str, server: Hadoop, store: HdfsStore) -> None:
    store.write("name", b"content")
    server.calls_left = 0
    with pytest.raises(StoreFault):
        LOOKS[call](store)


def test_a_sweep_removes_what_was_cut_off_and_nothing_else(server: Hadoop, store: HdfsStore) -> None:
    store.write("folder/name", b"whole")
    for kind in ("write", "put"):
        server.calls_left = 1  # the file is made, and never gets its name
        with pytest.raises((NotLanded, MayHaveLanded)):
            store.write("folder/a", b"") if kind == "write" else store.put_if_absent("folder/b", b"")
        server.calls_left = None
    folder = server.folder / "out" / "folder"
    assert len(list(folder.iterdir())) == 3
    assert store.list("folder") == ["name"]
    store.sweep("folder")
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_without_a_client_for_hdfs_the_sentence_says_so() -> None:
    with pytest.raises(StoreFault, match=r"hdfs://nobody:1/out could not be opened"):
        open_store(StoreSpec("hdfs://nobody:1/out"))
