"""Small inputs laid out on disk, with their plan and a reader: a replica's parts without Ray, Keras or a model.

`RunningSum` stands for a model: the score of a row is the sum of its entity's first feature up to it, kept as state per
slot, so that a missed reset, a wrong slot or a lost row changes a score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.plan.shard_plan import Plan, Shard, make_plan
from cluster.core.settings import InputSettings
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.planned_keys import PlannedKeys
from cluster.runtime.rows.row_origins import InputFiles
from lstm_core.contract.model_contract import InputContract
from lstm_core.packing.arena import Arena, RowLayout
from tests.inputs.series import settings_for, write_cut

Array = NDArray[Any]


def numeric(columns: int = 1, name: str = "rows") -> InputContract:
    """An input of numbers."""
    return InputContract(name, "numeric", columns, 3, "float32", None)


def categorical(columns: int = 1, name: str = "rows", vocabulary: int | None = None) -> InputContract:
    """An input of codes: (slot, step), or (slot, step, column) where it has several."""
    return InputContract(name, "categorical", columns, 2 if columns == 1 else 3, "int32", vocabulary)


def make_arena(capacity: int, columns: int = 1) -> Arena:
    """An arena for one numeric input and one score."""
    return Arena(capacity, RowLayout((((columns,), np.dtype("float32")),), 1))


@dataclass(frozen=True)
class Laid:
    """An input on disk, planned."""

    settings: InputSettings
    plan: Plan

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.plan.head.files)

    def extents(self, shard: Shard) -> Any:
        """The shard's part of the plan, as a replica reads it."""
        return self.plan.extents(shard.index)

    def found(self, shard: Shard) -> tuple[Any, None]:
        """As a feed asks for it: the extents, and no carry-over."""
        return self.extents(shard), None

    def reader(self, *, block_rows: int = 8, cache_bytes: int = 1 << 20) -> BlockReader:
        """A reader of one numeric input."""
        ((_, columns),) = self.settings.features
        encoder = Encoder(self.settings, (numeric(len(columns)),))
        files = InputFiles(self.files, partitions=self.plan.head.beside, types=self.plan.head.types)
        keys = PlannedKeys.of(self.settings, files)
        return BlockReader(self.settings, encoder, files, Bounds(block_rows, cache_bytes), keys)

    def encoded(self, shard: Shard, *, block_rows: int = 8) -> Iterator[tuple[Block, Array]]:
        """The blocks of a shard, each with its rows of the input, as a feed reads them."""
        reader, last_known = self.reader(block_rows=block_rows), None
        ((_, columns),) = self.settings.features
        for block in reader.blocks(shard, self.extents(shard)):
            rows = np.full((block.rows, len(columns)), -1, np.float32)
            reader.encode(block, [rows], None, last_known)
            last_known = reader.last_known([rows], np.array([block.rows - 1])) if block.rows else None
            yield block, rows
            if block.final:  # whoever reads blocks stops at the last one, which a bad row may bring early
                return


def lay(
    folder: Path,
    table: Any,
    *,
    shard_rows: int = 1000,
    cut: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None),
    **settings: Any,
) -> Laid:
    """Writes `table`, whose feature is `row`, `cut` into (rows of files, rows of row groups), and plans it."""
    write_cut(folder, table, *cut)
    asked = settings_for(folder, **{"features": (("rows", ("row",)),), **settings})
    return Laid(asked, make_plan(make_inventory(asked, map), shard_rows=shard_rows))


class RunningSum:
    """Implements `pipeline.Stepper`; the state of a slot is the sum so far."""

    def __init__(self, slots: int) -> None:
        self._sums = np.zeros(slots)

    @property
    def states(self) -> list[Any]:
        return [self._sums[:, None].astype(np.float32)]

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        before = np.where(reset, 0, self._sums)
        values = rows[0][..., 0].astype(np.float64)
        valid = np.arange(values.shape[1])[None, :] < lengths[:, None]
        sums = before[:, None] + np.cumsum(np.where(valid, values, 0), axis=1)
        self._sums = sums[:, -1]
        return [np.where(valid, sums, np.nan).astype(np.float32)[..., None]]

    def step_group(
        self, rows: Sequence[Array], reset: Array, lengths: Array, restores: Sequence[tuple[Array, Sequence[Array]]]
    ) -> tuple[list[Any], list[Any]]:
        slots, scores, kept = len(self._sums), [], []
        for first in range(0, len(lengths), slots):
            own = slice(first, first + slots)
            for places, states in restores:
                here = (places >= first) & (places < first + slots)
                self.set_slot_state(places[here] - first, [states[0][here]])
            scores += self.step([rows[0][own]], reset[own], lengths[own])
            kept += self.states
        return [np.concatenate(scores)], [np.concatenate(kept)]

    def set_slot_state(self, slots: Array, states: Sequence[Array]) -> None:
        self._sums = self._sums.copy()
        self._sums[slots] = states[0][:, 0]


def running_sums(values: Array, lengths: Sequence[int]) -> Array:
    """What `RunningSum` gives for series that lie one after the other."""
    borders = np.cumsum(lengths)[:-1]
    return np.concatenate([np.cumsum(part) for part in np.split(values.astype(np.float64), borders)])
