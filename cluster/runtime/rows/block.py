"""A block: consecutive rows of a shard, and what is known of them.

Limits it sets: none; where a shard is cut into blocks is the business of `block_reader`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.entity_keys import number_keys
from cluster.core.own_columns import line_column, line_keys
from cluster.core.plan.shard_plan import Shard
from cluster.core.times import as_plain
from cluster.runtime.rows.carried_state import CarriedState
from lstm_core.array_types import Bools, Ints


@dataclass
class Block:
    """Consecutive rows of a shard."""

    shard: Shard
    table: pa.Table  # (row,) entity, time and keep columns, and until encoded the features
    starts: Ints  # (series,) first row of each series
    lengths: Ints  # (series,) rows that are scored; 0 where the series is bad from its first row
    ranges: list[tuple[int, int, int]]  # (file, start, stop) that the rows were read from, in order
    rows_before: int = 0  # of a streamed entity, to be scored before this block
    rows_after: int = 0  # of a streamed entity, behind this block; 0 in its last one
    order: Ints | None = None  # (row,) where the row stood in `ranges`, when rows were sorted or taken out
    quarantine: pa.Table | None = None  # rows that are not scored: entity columns, reason, rows, file, row, time
    late: pa.Table | None = None  # lines like those of `quarantine`, which the shard's last block adds to it, or skips
    skipped_rows: int = 0  # late ones, and those that do not fill a window
    broken_at: Ints | None = None  # (series,) the row that puts the series into quarantine, -1 where none does
    carried: CarriedState | None = None  # of the shard's entities
    time_before: pa.Table | None = None  # of a streamed entity that is taken up again: when its row before was
    lost: Ints | None = None  # where rows stood in `ranges` that could not be read but for their keys
    faults: dict[int, str] = field(default_factory=dict)  # series -> why it is in quarantine from its first row on

    @property
    def final(self) -> bool:
        """True for the shard's last block."""
        return self.rows_after == 0

    @property
    def rows(self) -> int:
        """Rows of the block, bad ones included."""
        return int(self.table.num_rows)

    @property
    def sizes(self) -> Ints:
        """Rows of each series (series,), bad ones included."""
        return np.diff(np.append(self.starts, self.rows))

    @property
    def quarantined_rows(self) -> int:
        """Rows that go into quarantine with this block."""
        return 0 if self.quarantine is None else int(pc.sum(line_column(self.quarantine, "rows")).as_py() or 0)

    @property
    def quarantined_entities(self) -> int:
        """Entities with a row in quarantine; one may have two lines, late rows and a bad one."""
        if self.quarantine is None:
            return 0
        keys = line_keys(self.quarantine)
        plain = pa.table([as_plain(column) for column in keys.columns], names=keys.column_names)
        return int(number_keys(plain)[1].num_rows)

    @property
    def positions(self) -> Ints:
        """(row,) which of its series' rows each is."""
        return np.asarray(np.arange(self.rows) - np.repeat(self.starts, self.sizes))

    def scored_mask(self) -> Bools | None:
        """True where a row is scored; None where all are."""
        if int(self.lengths.sum()) == self.rows:
            return None
        return np.asarray(self.positions < np.repeat(self.lengths, self.sizes))

    def lost_now(self) -> Ints:
        """The rows of the block that could not be read."""
        if self.lost is None:
            return np.zeros(0, np.int64)
        return self.lost if self.order is None else np.flatnonzero(np.isin(self.order, self.lost))

    def first_rows(self) -> dict[int, str]:
        """The first rows of the series that are in quarantine as a whole, late rows left out, and why they are."""
        return {int(self.starts[one]): why for one, why in self.faults.items() if self.lengths[one]}

    def locate(self, rows: Ints) -> tuple[Ints, Ints]:
        """The file, and the row in it, of rows of the block."""
        if self.order is not None:
            rows = self.order[rows]
        file, start, stop = np.array(self.ranges, np.int64).T
        begin = np.concatenate([[0], np.cumsum(stop - start)])
        part = np.searchsorted(begin, rows, side="right") - 1
        return file[part], start[part] + rows - begin[part]
