"""Which files a path names: hidden names, patterns, links, and what is no file at all."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.run_errors import InputRefused
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.listing.input_names import before_magic, fits
from tests.fakes.s3_server import BUCKET, S3
from tests.inputs.series import make_series, settings_for

# What writers leave below a folder of Parquet, and whether it is input.
NAMES = {
    "part-0.parquet": True,
    "day=1/part-0.parquet": True,
    "_day=1/part-0.parquet": True,  # a partition, whatever its column is called
    "_day=1/_part=2/x.parquet": True,
    "deep/er/part-0.parquet": True,
    "night.parquet/part-0.parquet": True,  # a folder of one writer's files
    "a=b/c": True,
    "_SUCCESS": False,
    "_metadata": False,
    "_x=1.parquet": False,
    ".part-0.parquet.crc": False,
    "_committed_123": False,
    "_temporary/0/part-0.parquet": False,
    "_temporary/0/day=1/part-0.parquet": False,
    "day=1/_temporary/part-0.parquet": False,
    ".spark-staging-1/day=1/part-0.parquet": False,
    ".day=1/part-0.parquet": False,
    "scores/_slotcar/shuffle/bucket.parquet": False,
    "scores/_quarantine/bad.parquet": False,
    "_day=1/.part.crc": False,
}
# A pattern below that folder -> what it means there, of the files above that are input.
PATTERNS = {
    "": lambda name: True,
    "*": lambda name: True,
    "**": lambda name: True,
    "**/*.parquet": lambda name: name.endswith(".parquet"),
    "*/*.parquet": lambda name: name.count("/") == 1 and name.endswith(".parquet"),
    "*=1": lambda name: name.partition("/")[0].endswith("=1"),
    "day=[0-9]/*": lambda name: name.startswith("day=1/"),
    "d*": lambda name: name.startswith("d"),
    "**/day=1": lambda name: "day=1/" in name and name.startswith("day"),
    "_day=*/*/x.parquet": lambda name: name == "_day=1/_part=2/x.parquet",
    "**/*/part-?.parquet": lambda name: name.endswith("/part-0.parquet"),
}
# What a pattern names by its own first letter counts, as a path does.
SPELLED = {
    "_temporary": ["_temporary/0/day=1/part-0.parquet", "_temporary/0/part-0.parquet"],
    "_temporary/*/*.parquet": ["_temporary/0/part-0.parquet"],
    "_m*": ["_metadata"],
    "*/_temporary/*.parquet": ["day=1/_temporary/part-0.parquet"],
    "**/_quarantine": ["scores/_quarantine/bad.parquet"],
    ".day=*/*": [".day=1/part-0.parquet"],
    "scores/_[qs]*/b*": ["scores/_quarantine/bad.parquet"],
}


def lay_out(folder: Path, names: Any = NAMES) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def named(folder: Path, pattern: str = "") -> list[str]:
    return [str(Path(path).relative_to(folder)) for path in list_files(settings_for(folder / pattern))]


def of_listing(pattern: str) -> list[str]:
    """The same from a list of all files, as a remote store gives it."""
    return sorted(name for name in NAMES if fits(name.split("/"), pattern.split("/") if pattern else []))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nothing_below_a_hidden_folder_is_input(tmp_path: Path, pattern: str) -> None:
    lay_out(tmp_path)
    wanted = sorted(name for name, counts in NAMES.items() if counts and PATTERNS[pattern](name))
    assert named(tmp_path, pattern) == wanted
    assert of_listing(pattern) == wanted


@pytest.mark.parametrize("pattern", SPELLED)
def test_what_is_spelled_is_meant(tmp_path: Path, pattern: str) -> None:
    lay_out(tmp_path)
    assert named(tmp_path, pattern) == SPELLED[pattern]
    if pattern != "_temporary":  # which is a path, no pattern
        assert of_listing(pattern) == SPELLED[pattern]


def test_a_store_is_listed_by_the_same_rule(s3: S3) -> None:
    client = s3.client()
    for name in NAMES:
        client.put(f"rule/{name}", b"")
    for pattern, means in PATTERNS.items():
        asked = settings_for(f"s3://{BUCKET}/rule/{pattern}".rstrip("/"), storage=s3.options())
        found = [path.removeprefix(f"s3://{BUCKET}/rule/") for path in list_files(asked)]
        assert found == sorted(name for name, counts in NAMES.items() if counts and means(name)), pattern


PART = st.sampled_from(["a", "b=1", "_c", "_d=1", ".e", "f.parquet", "_g.parquet", "[x"])
TREE = st.lists(st.lists(PART, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8)
PATTERN = st.lists(
    st.sampled_from(["*", "**", "?", "a", "_c", "_*", "[ab]*", "[!a]*", "*=1", "*.parquet", ".e"]), max_size=4
)


@given(TREE, PATTERN)
@settings(max_examples=60, deadline=None)
def test_a_folder_and_a_list_of_its_files_give_the_same(tree: list[str], pattern: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for name in tree:
            path = Path(folder, "in", name)
            if any(above.is_file() for above in path.parents) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            made.append(name)
        whole = "/".join([f"{folder}/in", *pattern])
        if os.path.lexists(whole):
            return
        base, parts = before_magic(whole) if any(sign in whole for sign in "*?[") else (f"{folder}/in", pattern)
        inside = Path(base).relative_to(f"{folder}/in").parts
        below = [Path(name).parts[len(inside) :] for name in made if Path(name).parts[: len(inside)] == inside]
        wanted = sorted("/".join([base, *names]) for names in below if names and fits(names, parts))
        try:
            found = list(list_files(settings_for(whole)))
        except InputRefused:
            found = []
        assert found == wanted


# ---- what is no file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/x.parquet")


def circle(path: Path) -> None:
    other = path.with_name(f"other-{path.name}")
    other.symlink_to(path)
    path.symlink_to(other)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name(".pipe"))
    path.symlink_to(path.with_name(".pipe"))


NO_FILES = {
    pipe: "is a named pipe, and a run reads files",
    bound_socket: "is a socket, and a run reads files",
    nowhere: "is a link to /nowhere/x.parquet, where nothing is",
    circle: "leads to no file",
    device: "is a device, and a run reads files",
    linked_pipe: "is a named pipe",
}


@pytest.mark.parametrize("place", ["", "q.parquet", "*.parquet", "**", "day=*"])
@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path, make: Any, place: str) -> None:
    folder = tmp_path / "day=1" if place == "day=*" else tmp_path
    folder.mkdir(exist_ok=True)
    pq.write_table(make_series([3]), folder / "a.parquet")
    make(folder / "q.parquet")
    with pytest.raises(InputRefused, match=rf"q\.parquet {NO_FILES[make]}"):
        list_files(settings_for(tmp_path / place))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/urandom"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(InputRefused, match=f"{path} is a device"):
        list_files(settings_for(path))


def test_what_is_hidden_may_be_what_it_likes(tmp_path: Path) -> None:
    pq.write_table(make_series([3]), tmp_path / "a.parquet")
    for name, make in enumerate((pipe, bound_socket, nowhere, circle)):
        make(tmp_path / f"_{name}")
        make(tmp_path / f".{name}")
    (tmp_path / "other-_3").unlink()
    (tmp_path / "other-.3").unlink()
    assert named(tmp_path) == named(tmp_path, "*") == ["a.parquet"]


@pytest.mark.parametrize("pattern", ["", "**", "**/*.parquet", "*/*/*.parquet", "**/**/*.parquet"])
def test_links_that_go_round_are_followed_once(tmp_path: Path, pattern: str) -> None:
    """Two loops, which a plain walk would follow along 2**40 ways."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.parquet").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "self").symlink_to(tmp_path / "a" / "b")
    found = list_files(settings_for(tmp_path / pattern))
    assert {os.path.realpath(path) for path in found} == {str(tmp_path / "a" / "b" / "x.parquet")}
    assert len(found) == 1


@pytest.mark.parametrize("pattern", ["", "**", "**/*.parquet"])
def test_a_tree_may_be_deeper_than_pythons_stack(tmp_path: Path, pattern: str) -> None:
    deep = str(tmp_path)
    for _ in range(1100):
        deep += "/a"
        os.mkdir(deep)
    Path(deep, "x.parquet").touch()
    assert len(list_files(settings_for(tmp_path / pattern))) == 1
    for _ in range(1100):  # which is more than who clears the folder can walk
        for name in os.listdir(deep):
            path = os.path.join(deep, name)
            os.rmdir(path) if os.path.isdir(path) else os.remove(path)
        deep = os.path.dirname(deep)


def test_a_file_or_folder_may_have_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(place)
    for name in (b"a.parquet", b"k=\xff.parquet"):
        Path(os.fsdecode(place + b"/" + name)).touch()
    for pattern in ("", "*", "**/*.parquet"):
        assert len(list_files(settings_for(tmp_path / pattern))) == 2
