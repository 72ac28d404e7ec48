"""Scans the files of the input, some at a time: what they hold, and which of them cannot be read.

Decides which files are scanned together. Leaves the question where scans run to its caller, and what is found to
`cluster.core.plan.inventory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

from cluster.core.plan.column_types import by_types
from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import Inventory, JoinedExtents, LostFile, inventory_of, join_alike
from cluster.core.plan.lost_files import refuse_lost, with_lost
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.input.column_checks import needed_columns
from cluster.runtime.input.column_values import types_of
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.input.source_faults import value_faults
from cluster.runtime.input.unreadable_files import lost_file
from cluster.runtime.listing.file_listing import list_files

# A task answers with one table for its files: so many lists of files at least, as long as that is possible, and so many
# files in a list at most, since their extents are in memory together.
BATCHES_MIN = 256
BATCH_FILES_MAX = 256

Item = TypeVar("Item")
Value = TypeVar("Value")
ItemTaken = TypeVar("ItemTaken", contravariant=True)
ValueMade = TypeVar("ValueMade", covariant=True)


class Mapper(Protocol):
    """Whoever does something for each of some items: called like the builtin `map`, it gives the values in order."""

    def __call__(self, function: Callable[[Item], Value], items: Sequence[Item], /) -> Iterable[Value]:
        """The function's value of each item."""


@dataclass(frozen=True)
class LightWork(Generic[ItemTaken, ValueMade]):
    """A function that takes little time and memory for most items, so that a few need no worker."""

    function: Callable[[ItemTaken], ValueMade]

    def __call__(self, item: ItemTaken) -> ValueMade:
        return self.function(item)


@dataclass(frozen=True)
class Scanned:
    """What was found in some neighbouring files."""

    extents: tuple[JoinedExtents, ...]  # of those that can be read, neighbours as one where their keys allow it
    lost: tuple[LostFile, ...]


def make_inventory(
    settings: InputSettings, mapper: Mapper, files: FileList | None = None, *, until_interleaved: bool = False
) -> Inventory:
    """Scan the input's files (listed here unless given) through `mapper`, which is called like `map`.

    With `until_interleaved` the scan ends at the first interleaved file: of such an input only the layout is known.
    Raises InputRefused for an input without rows and for columns that do not fit, InputBroken for a broken file whose
    entity nobody knows, and where no file can be read.
    """
    files = list_files(settings) if files is None else files
    partitions = Partitions.of(files, settings)
    scan = partial(scan_files, settings=settings, partitions=partitions, until_interleaved=until_interleaved)
    scans: list[JoinedExtents] = []
    lost: list[LostFile] = []
    for found in mapper(LightWork(scan), file_batches(files)):
        lost += found.lost
        scans += found.extents
        if until_interleaved and any(extents.interleaved for extents in found.extents):
            return _inventory(scans, settings)
    if not scans:
        raise InputBroken(lost[0].fault)
    inventory = replace(with_lost(_inventory(scans, settings), lost), partitions=partitions)
    _check_partitions(inventory, settings, partitions)
    check_inventory(inventory, settings)
    return inventory


def _inventory(scans: Sequence[JoinedExtents], settings: InputSettings) -> Inventory:
    """What files hold, in the types in which they are read."""
    in_order = sorted(scans, key=lambda extents: extents.files[0].path)
    return inventory_of(in_order, types_of(by_types(kind for extents in in_order for kind in extents.types), settings))


def file_batches(files: Sequence[str]) -> list[Sequence[str]]:
    """Neighbours in order of path, to be scanned together."""
    size = min(BATCH_FILES_MAX, max(1, len(files) // BATCHES_MIN))
    return [files[start : start + size] for start in range(0, len(files), size)]


def scan_files(
    paths: Sequence[str], settings: InputSettings, partitions: Partitions, until_interleaved: bool
) -> Scanned:
    """The extents of some files as one; with `until_interleaved` of those up to the first interleaved one."""
    scans, lost = [], []
    for path in paths:
        try:
            with value_faults(path):
                scans.append(scan_file(path, settings, partitions=partitions, until_interleaved=until_interleaved))
        except InputBroken as broken:
            found = lost_file(path, broken, settings, partitions)
            if found is None:
                raise
            lost.append(found)
            continue
        if until_interleaved and scans[-1].interleaved:
            break
    return Scanned(tuple(join_alike(scans)), tuple(lost))


def _check_partitions(inventory: Inventory, settings: InputSettings, partitions: Partitions) -> None:
    """A column of folders' names must not owe its type to a lost file, which may be mended or taken out."""
    if inventory.lost is None:
        return
    readable = Partitions.of(FileList(tuple(file.path for file in inventory.files), partitions.tables), settings).types
    if any(
        readable.get(name, kind) != kind for name, kind in partitions.types.items() if name in needed_columns(settings)
    ):
        refuse_lost(inventory)


def check_inventory(inventory: Inventory, settings: InputSettings) -> None:
    """Raises InputRefused for an input without rows, and for ties where they are not wanted."""
    if inventory.rows_in == 0:
        refuse_lost(inventory)
        count = len(inventory.sources or inventory.files)
        raise InputRefused(f"input.path: {', '.join(map(repr, settings.path))} has no rows in {count:,} files.")
    if settings.ties == "fail" and inventory.ties:
        raise InputRefused(
            f"{inventory.ties:,} rows have the same {', '.join(settings.time)} as the row of their entity before "
            'them: add a column to input.time that breaks ties, or set faults.ties = "keep".'
        )
