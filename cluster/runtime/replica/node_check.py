"""What a run needs of a node, and what a node says of itself.

What it decides: a node is fit that has the driver's versions of all that a score depends on, and sees what the driver
sees: its lock in the output (for a training, its mark in the folder where the input is clustered), its claim of the
carry-over, the table that is read, some of the input's files at their size. A folder that is there and empty, as a
mount that is missing leaves it, is not taken for the input. Where the run writes, the node must be able to: one whose
mount is read-only, or whose credentials only read, sees all that, and would fail at its first fragment.

`look_at_node` runs on the node, and costs no import of TensorFlow; `why_unfit` makes a sentence of what it found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from cluster.core.commit import STAGED, SUCCESS
from cluster.core.locations import Options
from cluster.core.lock import LOCK
from cluster.run_errors import first_line
from cluster.runtime.commit.commit import OWNER
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.storage.filesystems import FileStat, stat_file
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.write_probe import why_unwritable
from lstm_core.errors import SlotcarError

PACKAGES = ("slotcar", "tensorflow", "keras", "pyarrow", "numpy")
FILES_MAX = 16  # of the input, that every node looks at
SEE, WRITE = "does not see", "cannot write to"
REMEDIES = {
    SEE: "mount it at the same path on every node, or use a remote store that all of them reach",
    WRITE: "mount it for writing on every node, or give each of them credentials that may write and remove there",
}


@dataclass(frozen=True)
class SharedLocation:
    """A place that every node must see and write to, and what the driver keeps there by the time the nodes look."""

    place: StoreSpec
    setting: str = "output.path"
    folder: str = LOCK
    kept: str = "lock"
    tried: str = STAGED  # the folder in which a node tries to write: one that is swept of what it leaves there


@dataclass(frozen=True)
class NodeNeeds:
    """What a run needs of every node that does some of its work."""

    versions: Mapping[str, str | None]  # the driver's
    shared: SharedLocation
    carry: CarryRequest | None = None
    files: tuple[FileStat, ...] = ()  # some of the input's, as the driver sees them
    storage: Options = field(default_factory=dict)  # how they are reached


@dataclass(frozen=True)
class Unable:
    """Something that a node cannot do as the driver does."""

    deed: str  # SEE or WRITE
    setting: str
    place: str
    why: str

    @property
    def sentence(self) -> str:
        """What is said of the node after its name."""
        return f"{self.deed} {self.setting} {self.place} ({self.why}): {REMEDIES[self.deed]}."


@dataclass(frozen=True)
class NodeReport:
    """What one node said."""

    name: str
    versions: Mapping[str, str | None]  # None where a package is missing
    unable: Unable | None = None  # the first such thing


@dataclass(frozen=True)
class _Look:
    """One thing to be done; `why` says what keeps this process from it, by a sentence or by a fault."""

    deed: str
    setting: str
    place: str
    why: Callable[[], str | None]


def sample_files(files: Sequence[FileStat]) -> tuple[FileStat, ...]:
    """The input's first file of each folder, or some of these, evenly spread: what is mounted by itself is a folder."""
    first: dict[str, FileStat] = {}
    for file in files:
        first.setdefault(os.path.dirname(file.path), file)
    found = list(first.values())
    count = min(len(found), FILES_MAX)
    return tuple(found[index * len(found) // count] for index in range(count))


def installed_versions() -> dict[str, str | None]:
    """The versions of this process."""
    return {name: _version(name) for name in PACKAGES}


def look_at_node(name: str, needs: NodeNeeds) -> NodeReport:
    """What this process, on the node of this name, has, sees and can write to."""
    return NodeReport(name, installed_versions(), next(_unable(needs), None))


def why_unfit(view: NodeReport, needs: NodeNeeds) -> str | None:
    """The sentence where a node cannot take part, or would give other scores."""
    for name, expected in needs.versions.items():
        found = view.versions.get(name)
        if found is None:
            return f"Node {view.name} lacks {name}, expected {expected}: every node needs the driver's packages."
        if found != expected:
            return (
                f"Node {view.name} has {name} {found}, the driver {expected}: scores could differ in their last bits; "
                "give every node the same image."
            )
    return None if view.unable is None else f"Node {view.name} {view.unable.sentence}"


def why_unfit_here(needs: NodeNeeds) -> str | None:
    """As `why_unfit`, of this process's own node."""
    return why_unfit(look_at_node(os.uname().nodename, needs), needs)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unable(needs: NodeNeeds) -> Iterator[Unable]:
    for look_at_one in _looks(needs):
        try:
            found = look_at_one.why()
        except (SlotcarError, OSError) as fault:
            found = first_line(fault)
        if found is not None:
            yield Unable(look_at_one.deed, look_at_one.setting, look_at_one.place, found)


def _looks(needs: NodeNeeds) -> Iterator[_Look]:
    shared, carry = needs.shared, needs.carry
    yield _Look(SEE, shared.setting, shared.place.url, partial(_kept, shared))
    yield _Look(WRITE, shared.setting, shared.place.url, partial(_unwritable, shared.place, shared.tried))
    if carry is not None and carry.write is not None:
        yield _Look(SEE, "state.write", carry.write.url, partial(_claim, carry.write))
        yield _Look(WRITE, "state.write", carry.write.url, partial(_unwritable, carry.write, STAGED))
    if carry is not None and carry.read is not None:
        yield _Look(SEE, "state.read", carry.read.url, partial(_table, carry.read, carry.read_checksum))
    for file in needs.files:
        yield _Look(SEE, "input.path", file.path, partial(_file, file, needs.storage))


def _kept(shared: SharedLocation) -> str | None:
    # The driver has written it by now: whoever sees the folder sees that.
    return None if open_store(shared.place).list(shared.folder) else f"the driver's {shared.kept} is not there"


def _unwritable(place: StoreSpec, folder: str) -> str | None:
    return why_unwritable(open_store(place), folder)


def _claim(write: StoreSpec) -> str | None:
    return None if open_store(write).exists(OWNER) else "the driver's claim is not there"


def _table(read: StoreSpec, checksum: str | None) -> str | None:
    mark = open_store(read).find(SUCCESS)
    if mark is None:
        return f"there is no {SUCCESS}"
    return None if (checksum or "").encode() in mark else "the table there is another one"


def _file(file: FileStat, storage: Options) -> str | None:
    size = stat_file(file.path, storage).size_bytes
    return None if size == file.size_bytes else f"it has {size:,} bytes there, and {file.size_bytes:,} for the driver"
