"""Files of the input that cannot be read, but whose folders name the entity that they hold.

Decides what a run does without them: each of their entities is in quarantine from its first row on, since nobody knows
which of its rows such a file holds, nor when they were; and who is *gone*, of whom no other file has a row that is
asked for. Whether a file is lost is decided where it is read. Leaves rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowScalar
from cluster.core.entity_keys import describe_entity, number_keys
from cluster.core.plan.inventory import Inventory, LostFile, LostFiles
from cluster.run_errors import InputBroken


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


def _key_of(file: LostFile, schema: pa.Schema) -> pa.Table:
    try:
        columns = [_one(value).cast(field.type) for value, field in zip(file.entity, schema, strict=True)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputBroken(file.fault) from None
    return pa.table(columns, schema=schema)


def _one(value: ArrowScalar) -> ArrowArray:
    column: ArrowArray = pa.repeat(value, 1)  # type: ignore[call-overload]  # the stubs name types one by one
    return column


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
        f"{lost.files[file].path} {lost.files[file].what}, and no other file has rows of entity "
        f"{describe_entity(lost.keys, file)}{also}: its carry-over could not say since when it is broken; write "
        "the file again or take it out of the input, then start the run again."
    )
