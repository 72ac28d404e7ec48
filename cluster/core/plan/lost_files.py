"""Files of the input that cannot be read, but whose folders name the entity that they hold.

Decides what a run does without them: each of their entities is in quarantine from its first row on, since nobody knows
which of its rows such a file holds, nor when they were; and who is *gone*, of whom no other file has a row that is
asked for. Whether a file is lost is decided where it is read. Leaves rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.core.plan.inventory import KEY_PREFIX, Inventory, describe_entity, number_keys
from cluster.core.times import Ordinals
from cluster.run_errors import InputBroken


@dataclass(frozen=True)
class LostFile:
    """A file that cannot be read."""

    path: str
    entity: tuple[str, ...]  # what its folders' names say of the entity's columns
    fault: str  # the sentence that ends the run where it must end


@dataclass(frozen=True)
class LostFiles:
    """All of an input, with the entities that they are known to hold."""

    files: tuple[LostFile, ...]  # sorted by path
    keys: Any  # pa.Table (lost file, entity columns), in the types of the readable files
    entity: Ordinals  # (lost file,) number in the inventory, -1 where the entity is gone

    @cached_property
    def _broken(self) -> tuple[Ordinals, Any]:
        """The entities (broken,) that have rows at hand, rising, and why each is in quarantine (pa.Array)."""
        known = np.flatnonzero(self.entity >= 0)
        entities, first, count = np.unique(self.entity[known], return_index=True, return_counts=True)
        places = zip(known[first].tolist(), count.tolist(), strict=True)
        return entities, pa.array([why_lost(self.files[file].path, more - 1) for file, more in places], pa.string())

    def reasons(self, entities: Ordinals) -> Any:
        """Why entities (entity,) are in quarantine from their first row on, a pa.Array; null for all others."""
        broken, reasons = self._broken
        if not len(broken):
            return pa.nulls(len(entities), pa.string())
        place = np.minimum(np.searchsorted(broken, entities), len(broken) - 1)
        return reasons.take(pa.array(place, mask=broken[place] != entities))

    @property
    def gone(self) -> Ordinals:
        """One lost file (gone entity,) of each entity that is gone."""
        without = np.flatnonzero(self.entity < 0)
        numbers, _ = number_keys(self.keys.take(pa.array(without)))
        return without[np.unique(numbers, return_index=True)[1]]

    @property
    def table(self) -> Any:
        """A pa.Table (lost file, key__ columns + file)."""
        keys = self.keys.rename_columns([KEY_PREFIX + name for name in self.keys.column_names])
        return keys.append_column("file", pa.array([file.path for file in self.files], pa.string()))


def why_lost(path: str, more: int = 0) -> str:
    """Why an entity is in quarantine: a file of it, and how many more of them, cannot be read."""
    others = f", and so {'is' if more == 1 else 'are'} {more:,} more of its files" if more else ""
    return f"{path}, which holds rows of the entity, is truncated or no Parquet file{others}"


def with_lost(inventory: Inventory, lost: Sequence[LostFile]) -> Inventory:
    """What the readable files hold, with the lost ones beside it.

    Raises InputBroken where the name of a folder is none that the readable files could call an entity by.
    """
    if not lost:
        return inventory
    files = tuple(sorted(lost, key=lambda file: file.path))
    keys = pa.concat_tables([_key_of(file, inventory.keys.schema) for file in files])
    numbers, _ = number_keys(pa.concat_tables([inventory.keys, keys]).combine_chunks())
    known = inventory.keys.num_rows
    entity = np.where(numbers[known:] < known, numbers[known:], -1)
    return replace(inventory, lost=LostFiles(files, keys.combine_chunks(), entity))


def _key_of(file: LostFile, schema: Any) -> Any:
    try:
        columns = [pa.array([text]).cast(field.type) for text, field in zip(file.entity, schema, strict=True)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputBroken(file.fault) from None
    return pa.table(columns, schema=schema)


def refuse_lost(inventory: Inventory) -> None:
    """For those who need every file. Raises InputBroken."""
    if inventory.lost is not None:
        raise InputBroken(inventory.lost.files[0].fault)


def refuse_gone(inventory: Inventory) -> None:
    """For a run that writes carry-over: it could not say since when an entity without a row is broken.

    Handed on as it stood, or left out, the entity would go on some night as if nothing had been lost. Raises
    InputBroken.
    """
    lost = inventory.lost
    if lost is None or not len(lost.gone):
        return
    file, others = int(lost.gone[0]), len(lost.gone) - 1
    also = f", nor of {others:,} others whose files cannot be read" if others else ""
    raise InputBroken(
        f"{lost.files[file].path} is truncated or no Parquet file, and no other file has rows of entity "
        f"{describe_entity(lost.keys, file)}{also}: its carry-over could not say since when it is broken; write "
        "the file again or take it out of the input, then start the run again."
    )
