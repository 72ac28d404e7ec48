"""The rows of a training: all of them, and those before the split, in the order in which every epoch takes them.

Decides that interleaved input is clustered first, by the pre-pass that scoring uses, into the folder beside the model.
Its entities come in order of their keys then, as they do in the same rows sorted by entity and time: so a training on
either moves the weights by the same bits. What is held out is cut off of the same buckets, whose rows are in order of
time. The buckets stay until the training is done, session after session; the pieces they were made of go at once. Since
neighbours by key lie in all buckets, these have small row groups here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import Inventory
from cluster.core.plan.shard_plan import Plan, Shard, choose_shard_rows, make_plan
from cluster.core.plan.shuffle_plan import by_keys
from cluster.core.settings import InputSettings
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.plan.input_scan import Item, Value, check_inventory, make_inventory
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.shuffle.shuffle import drop_pieces, open_shuffle, read_buckets, scan_layout, shuffle_input
from cluster.runtime.shuffle.shuffle_files import Shuffle, remove_files
from cluster.runtime.storage.open_store import StoreSpec, open_store

SHUFFLED = f"{SHUFFLE}/training"  # has a mark of the driver's, by which the nodes know the folder
GROUP_ROWS = 16_384
ROWS_PER_FILE = 1_000_000  # bounds a shard, as in a run with the default settings
_EXTENT_COLUMNS = ["entity", "file", "row_start", "row_count", "sorted", "fault"]


@dataclass(frozen=True)
class PassPlan:
    """The rows of one pass: a plan without its keys."""

    files: InputFiles
    shards: tuple[Shard, ...]
    extents: tuple[pa.Table, ...]  # (shard,)
    shard_rows: int

    @staticmethod
    def of(plan: Plan, files: InputFiles) -> PassPlan:
        """All rows of a plan."""
        head = plan.head
        extents = tuple(plan.extents(shard.index).select(_EXTENT_COLUMNS) for shard in head.shards)
        return PassPlan(files, head.shards, extents, head.shard_rows)


@dataclass(frozen=True)
class TrainingPlans:
    """The plans of a training, and how their files are read."""

    whole: Plan
    before: Plan | None  # of the rows before the split; None where there is none
    files: InputFiles

    @property
    def passes(self) -> tuple[PassPlan, PassPlan | None]:
        """The rows to train on; and all rows, where some of them are held out."""
        whole = PassPlan.of(self.whole, self.files)
        return (whole, None) if self.before is None else (PassPlan.of(self.before, self.files), whole)


class Workers(Protocol):
    """Who reads the input: a cluster's tasks or, in tests, this process."""

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterable[Value]:
        """Like the builtin, in order."""

    def check(self, place: StoreSpec) -> None:
        """Raises ClusterRefused where one of them does not see the mark in a training's folder."""


class TrainingRows:
    """The input of one training, and the folder that is its own."""

    def __init__(self, settings: InputSettings, files: FileList, place: StoreSpec, workers: Workers) -> None:
        self._settings, self._files, self._place, self._workers = settings, files, place, workers

    def take(self, split: str | None) -> TrainingPlans:
        """Plans all rows, and those before `split`; clusters them first where they must be.

        Raises InputRefused, InputBroken, RunFailed, StoreFault; the same call again goes on.
        """
        look = scan_layout(self._settings, self._files, self._workers.map, ROWS_PER_FILE)
        if look.inventory is None:
            return self._take_clustered(split, f"{look.why}; clustered first")
        remove_shuffled(self._place)  # what a training on other input has left
        settings = replace(self._settings, until=split)
        before = None if split is None else make_inventory(settings, self._workers.map, self._files)
        return self._taken(look.inventory, before)

    def _take_clustered(self, split: str | None, reason: str) -> TrainingPlans:
        shuffle = open_shuffle(self._settings, self._files, self._place, self._workers.map)
        shuffle = replace(shuffle, group_rows=GROUP_ROWS)
        open_store(self._place).write(f"{SHUFFLED}/mark", b"")
        self._workers.check(self._place)
        whole = replace(by_keys(shuffle_input(shuffle, self._workers.map, _nothing)), reason=reason)
        check_inventory(whole, self._settings)
        drop_pieces(shuffle)
        before = None if split is None else self._before(shuffle, split)
        return self._taken(whole, before)

    def _before(self, shuffle: Shuffle, split: str) -> Inventory:
        return by_keys(read_buckets(shuffle, self._workers.map, until=split))

    def _taken(self, whole: Inventory, before: Inventory | None) -> TrainingPlans:
        plan = _plan(whole)
        store, settings = open_store(self._place), self._settings
        files = InputFiles.of(plan.head, store, settings.storage, checksums=settings.page_checksums)
        return TrainingPlans(plan, None if before is None else _plan(before), files)


def remove_shuffled(place: StoreSpec) -> None:
    """Removes what clustering has left in the folder of a training that is done. Raises StoreFault."""
    store = open_store(place)
    remove_files(store)
    for name in store.list(SHUFFLED):  # the mark, and what a node has left that died while it tried to write
        store.remove(f"{SHUFFLED}/{name}")
    store.sweep(SHUFFLED)
    store.drop_folder(SHUFFLED)


def _plan(inventory: Inventory) -> Plan:
    return make_plan(inventory, shard_rows=choose_shard_rows(inventory.rows_in, rows_per_file=ROWS_PER_FILE))


def _nothing() -> None:
    """A training has no lock that it could lose."""
