"""Whole entities from a table of clustered rows, padded batches of them, and the table of their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.bench.workloads import FEATURES

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BATCH_ROWS = 65_536  # of a padded batch: the sizes that were fastest on one core lie near it
BATCH_ENTITIES_MIN, BATCH_ENTITIES_MAX = 64, 4_096
LIKENESS = 0.6  # the shortest entity of a batch, as a share of its steps: below it, padding costs more than a call


@dataclass(frozen=True)
class Series:
    """The rows of some entities, one after the other."""

    keys: Any  # pa.Table (row,) entity and time
    rows: Floats  # (row, feature)
    start: Ints  # (entity,)
    length: Ints  # (entity,)

    @staticmethod
    def of(table: Any) -> Series:
        """The entities of a table whose rows are clustered and in order of time."""
        entity = table.column("entity").combine_chunks()
        changes = pc.not_equal(entity[1:], entity[:-1]).to_numpy(zero_copy_only=False)
        start = np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.int64)
        rows = np.empty((len(entity), len(FEATURES)), np.float32)
        for index, name in enumerate(FEATURES):
            rows[:, index] = table.column(name).to_numpy()
        return Series(table.select(["entity", "time"]), rows, start, np.diff(start, append=len(entity)))

    def padded(self, entities: Ints, *, batch: int, begin: int, steps: int) -> Floats:
        """Rows begin..begin+steps of each entity: (batch, steps, feature), zero behind their ends."""
        inside = begin + np.arange(steps)[None, :]
        valid = inside < self.length[entities][:, None]
        padded = np.zeros((batch, steps, len(FEATURES)), np.float32)
        padded[: len(entities)][valid] = self.rows[(self.start[entities][:, None] + inside)[valid]]
        return padded

    def keep(self, scores: Floats, found: Floats, entities: Ints, begin: int) -> None:
        """Puts scores (batch, steps) of rows begin.. of each entity into `scores` (row,)."""
        inside = begin + np.arange(found.shape[1])[None, :]
        valid = inside < self.length[entities][:, None]
        scores[(self.start[entities][:, None] + inside)[valid]] = found[: len(entities)][valid]

    def scored(self, scores: Floats) -> Any:
        """The keys and the score of every row."""
        return self.keys.append_column("score", pa.array(scores))


def padded_steps(longest_rows: int) -> int:
    """Steps of a padded batch: one of few lengths, since each is compiled, and at most a fourth above the longest."""
    steps = 8
    while steps < longest_rows:
        steps += max(8, 1 << max(0, steps.bit_length() - 3))
    return steps


def by_length(length: Ints) -> Iterator[tuple[Ints, tuple[int, int]]]:
    """Batches of entities (number,), longest first, each with its padded shape (entities, steps)."""
    order = np.argsort(-length, kind="stable")
    taken = 0
    while taken < len(order):
        steps = padded_steps(int(length[order[taken]]))
        most = min(max(BATCH_ROWS // steps, BATCH_ENTITIES_MIN), BATCH_ENTITIES_MAX)
        alike = length[order[taken : taken + most]] > steps * LIKENESS
        batch = order[taken : taken + max(1, int(alike.sum()))]
        yield batch, (1 << (len(batch) - 1).bit_length(), steps)
        taken += len(batch)


def shapes(lengths: Sequence[Ints]) -> set[tuple[int, int]]:
    """All padded shapes of tables of entities with these lengths."""
    return {shape for length in lengths for _, shape in by_length(length)}


def read_files(paths: Sequence[Path]) -> Any:
    """All files as one table."""
    return pa.concat_tables([pq.read_table(path) for path in paths])


def write_scores(table: Any, path: Path) -> None:
    """One file of scores."""
    pq.write_table(table, path, compression="zstd")
