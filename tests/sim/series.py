"""The simulated input and the simulated model: a recurrence on integers in which every earlier row counts.

A row that is lost, scored twice, scored out of order or after a wrong state changes every later score of its entity.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from cluster.core.plan.inventory import Inventory, SourceFile
from cluster.core.plan.shard_plan import Plan, make_plan
from tests.sim.options import Sizes

ZERO_STATE = 0


def row_value(entity: int, row: int) -> int:
    """What stands in a row."""
    return (entity * 0x9E3779B1 + row * 0x85EBCA77 + 12345) & 0xFFFFFFFF


def next_state(state: int, value: int) -> int:
    """The state after a row; it is the row's score as well."""
    return ((state ^ value) * 0x2545F491 + 0x9E3779B9) & 0xFFFFFFFF


class Series:
    """The entities of a run: where each one's rows begin in the input, and the truth about its scores."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.first_row = [sum(sizes.lengths[:entity]) for entity in range(len(sizes.lengths))]
        self.entity_of = [entity for entity, length in enumerate(sizes.lengths) for _ in range(length)]

    @cached_property
    def truth(self) -> list[list[int]]:
        """(entity, row): the score of each row, one entity at a time from the zero state."""
        return [self._scores(entity, length) for entity, length in enumerate(self.sizes.lengths)]

    def _scores(self, entity: int, rows: int) -> list[int]:
        state, scores = ZERO_STATE, []
        for row in range(rows):
            state = next_state(state, row_value(entity, row))
            scores.append(state)
        return scores

    def plan(self) -> Plan:
        """The real plan over these entities, which lie one after another in one file."""
        lengths = np.array(self.sizes.lengths, np.int64)
        count, rows = len(lengths), int(lengths.sum())
        numbers = np.arange(count, dtype=np.int64)
        nothing = pa.table({"reason": pa.array([], pa.string())})
        inventory = Inventory(
            files=(SourceFile("input", rows, rows, 0, (rows,)),),
            columns=_COLUMNS,
            times=("time",),
            keys=pa.table({"entity": numbers}),
            entity_rows=lengths,
            sorted=np.ones(count, np.bool_),
            extent_entity=numbers,
            extent_file=np.zeros(count, np.int64),
            extent_start=np.array(self.first_row, np.int64),
            extent_count=lengths,
            layout="clustered",
            reason="made so",
            ties=0,
            skipped=0,
            bad=nothing,
        )
        return make_plan(inventory, shard_rows=self.sizes.shard_rows)


_COLUMNS = pa.schema([pa.field("entity", pa.int64()), pa.field("time", pa.int64())])
