"""What a node is asked for, and the sentence where it has not got it. `test_late_nodes` asks real ones."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.core.carry import CarrySchema
from cluster.core.commit import STAGED, SUCCESS
from cluster.core.lock import LOCK
from cluster.core.settings import StateSettings
from cluster.runtime.carry.carry_table import make_mark, read_mark
from cluster.runtime.commit.commit import OWNER
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.replica.node_check import (
    FILES_MAX,
    NodeNeeds,
    SharedLocation,
    installed_versions,
    look_at_node,
    sample_files,
    why_unfit,
    why_unfit_here,
)
from cluster.runtime.storage.filesystems import FileStat, stat_file
from cluster.runtime.storage.open_store import StoreSpec, open_store

MINE = {"tensorflow": "2.21.0", "keras": "3.15.1"}


@dataclass
class Site:
    """A machine's folders, as the driver of a run in its second night sees them."""

    folder: Path

    def lay(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def spec(self, name: str) -> StoreSpec:
        return StoreSpec(str(self.folder / name))

    def needs(self) -> NodeNeeds:
        self.lay(f"out/{LOCK}/1.json", b"{}")
        self.lay(f"tonight/{OWNER}", b"{}")
        self.lay(f"yesterday/{SUCCESS}", make_mark("a model", [("a.parquet", 3, "ab12")]))
        file = stat_file(str(self.lay("in/date=1/a.parquet", b"PAR1")), {})
        read = self.spec("yesterday")
        schema: Any = CarrySchema
        carry = CarryRequest(schema, StateSettings(), read, self.spec("tonight"))
        carry = replace(carry, read_checksum=read_mark(open_store(read))["checksum"])
        return NodeNeeds(installed_versions(), SharedLocation(self.spec("out")), carry, (file,))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_node_that_sees_what_the_driver_sees_is_fit(site: Site) -> None:
    needs = site.needs()
    assert why_unfit(look_at_node("n1", needs), needs) is None


def test_nothing_is_left_of_a_look(site: Site) -> None:
    needs = site.needs()
    before = {path for path in site.folder.rglob("*") if path.is_file()}
    look_at_node("n1", needs)
    assert {path for path in site.folder.rglob("*") if path.is_file()} == before


def test_a_run_without_carry_over_needs_no_table(site: Site) -> None:
    needs = replace(site.needs(), carry=None)
    for name in ("yesterday", "tonight"):
        (site.folder / name).rename(site.folder / f"{name}-elsewhere")
    assert why_unfit(look_at_node("n1", needs), needs) is None


Spoil = Callable[[Path], object]
SPOILED: list[tuple[Spoil, str]] = [
    (lambda f: (f / "out").rename(f / "x"), r"output\.path \S+/out \(the driver's lock is not there\)"),
    (lambda f: (f / "tonight").rename(f / "x"), r"state\.write \S+/tonight \(the driver's claim is not there\)"),
    (lambda f: (f / "yesterday").rename(f / "x"), r"state\.read \S+/yesterday \(there is no _SUCCESS\)"),
    (
        lambda f: (f / "yesterday" / SUCCESS).write_bytes(make_mark("a model", [("a.parquet", 3, "cd34")])),
        r"state\.read \S+/yesterday \(the table there is another one\)",
    ),
    (lambda f: (f / "in").rename(f / "x"), r"input\.path \S+/in/date=1/a\.parquet \(there is no file \S+\)"),
    (lambda f: (f / "in/date=1/a.parquet").unlink(), r"input\.path \S+a\.parquet \(there is no file \S+\)"),
    (
        lambda f: (f / "in/date=1/a.parquet").write_bytes(b"PAR1 and more"),
        r"input\.path \S+a\.parquet \(it has 13 bytes there, and 4 for the driver\)",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILED)
def test_what_a_node_does_not_see_is_told_with_its_setting_and_what_to_do(site: Site, spoil: Spoil, said: str) -> None:
    needs = site.needs()
    spoil(site.folder)
    sentence = why_unfit(look_at_node("n1", needs), needs) or ""
    assert re.match(f"Node n1 does not see {said}: mount it at the same path on every node, or ", sentence)


@pytest.mark.parametrize(("name", "setting"), [("out", "output.path"), ("tonight", "state.write")])
def test_a_place_that_a_node_sees_and_cannot_write_to_is_told_with_its_setting(
    site: Site, name: str, setting: str
) -> None:
    """Where a mount is read-only; here a file stands for the folder, since tests may run as root."""
    needs = site.needs()
    (site.folder / name / STAGED).touch()
    said = (
        rf"cannot write to {setting} \S+/{name} "
        rf"\(\S+/{name}/{STAGED}/probe\.\w+ could not be written \(File exists\)\): "
        "mount it for writing on every node, or give each of them credentials that may write and remove there"
    )
    assert re.fullmatch(rf"Node n1 {said}\.", why_unfit(look_at_node("n1", needs), needs) or "")
    assert re.fullmatch(rf"Node {os.uname().nodename} {said}\.", why_unfit_here(needs) or "")


def test_a_node_tries_where_the_run_says(site: Site) -> None:
    """As for a training, which has no staged files."""
    needs = replace(site.needs(), carry=None)
    (site.folder / "out" / STAGED).touch()
    elsewhere = replace(needs, shared=replace(needs.shared, tried="_slotcar/shuffle/training"))
    assert why_unfit(look_at_node("n1", elsewhere), elsewhere) is None


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({"keras": "3.15.1", "tensorflow": None}, "Node n1 lacks tensorflow, expected 2.21.0: every node needs"),
        ({**MINE, "keras": "3.16.0"}, "Node n1 has keras 3.16.0, the driver 3.15.1: scores could differ"),
    ],
)
def test_a_node_with_other_packages_is_told_by_name(site: Site, theirs: Any, said: str) -> None:
    needs = replace(site.needs(), versions=MINE)
    view = replace(look_at_node("n1", needs), versions=theirs)
    assert (why_unfit(view, needs) or "").startswith(said)


def test_one_file_of_each_folder_is_looked_at_and_of_many_folders_some_from_all_over() -> None:
    found = [FileStat(f"/in/day={day:03d}/{part}.parquet", day, 0) for day in range(100) for part in range(3)]
    assert [os.path.basename(file.path) for file in sample_files(found[:9])] == ["0.parquet"] * 3
    days = [file.size_bytes for file in sample_files(found)]
    assert len(days) == FILES_MAX
    assert days[0] == 0
    assert {later - earlier for earlier, later in pairwise(days)} == {6, 7}
    assert sample_files([]) == ()
