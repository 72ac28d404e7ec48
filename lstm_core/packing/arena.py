"""The arena: the rows that a replica has at hand, and the scores that they got, by one row number.

What it decides: where a block of rows lies. It is the bound on a replica's memory: whoever brings rows asks for a
range first and waits when there is none, so that neither a long entity nor a large shard can take more than
`capacity` rows. One array per model input and one for the scores means that a step is one gather and one scatter of
stretches, however many blocks its rows come from. The pages of a range that was never used are never touched.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstm_core.array_types import AnyInts, Array, Bools, DType, Floats
from lstm_core.packing.row_ranges import RowRanges


@dataclass(frozen=True)
class RowLayout:
    """What the arena keeps for one row."""

    inputs: tuple[tuple[tuple[int, ...], DType], ...]  # (shape of one row, dtype) per model input
    score_values: int
    target_values: int = 0  # training only

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, scores and targets included."""
        inputs = sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self.inputs)
        return inputs + 4 * (self.score_values + 2 * self.target_values)


@dataclass(frozen=True)
class _Views:
    """The arena's arrays in stretches of so many rows."""

    inputs: RowRanges
    results: RowRanges  # the scores, and whether there are any


class Arena:
    """Ranges of consecutive rows, lowest free address first."""

    def __init__(self, capacity: int, layout: RowLayout) -> None:
        self.capacity = capacity
        self.layout = layout
        self.inputs: list[Array] = [np.empty((capacity, *shape), dtype) for shape, dtype in layout.inputs]
        self.scores: Floats = np.empty((capacity, layout.score_values), np.float32)
        self.targets: Floats = np.empty((capacity, layout.target_values), np.float32)
        self.scored: Bools = np.zeros(capacity, np.bool_)
        self._free: list[tuple[int, int]] = [(0, capacity)]  # (start, rows), by start, never adjacent
        self._used: dict[int, int] = {}
        self._views: dict[int, _Views] = {}  # by the rows of a stretch

    @property
    def used_rows(self) -> int:
        """Rows in ranges that are not released yet."""
        return sum(self._used.values())

    def allocate(self, rows: int) -> int | None:
        """The first row of a range of `rows` rows, or None when none is free that is large enough."""
        assert 0 < rows <= self.capacity, f"a range of {rows} rows can never fit into {self.capacity}"
        for index, (start, size) in enumerate(self._free):
            if size >= rows:
                self._free[index : index + 1] = [(start + rows, size - rows)] if size > rows else []
                self._used[start] = rows
                return start
        return None

    def release(self, start: int) -> None:
        """Gives the range that begins at `start` back."""
        rows = self._used.pop(start)
        insort(self._free, (start, rows))
        self._free = _joined(self._free)

    def gather(self, starts: AnyInts, lengths: AnyInts, steps: int) -> list[Array]:
        """The inputs of stretches of rows, one array (stretch, step, *row shape) per model input.

        starts, lengths: (stretch,), none longer than `steps`. What stands behind a stretch is a row of the arena, by
        `row_ranges.row_numbers`, so that it is always a row that exists; it is dropped by length, never by value.
        """
        return self._views_of(steps).inputs.take(starts, lengths)

    def scatter(self, starts: AnyInts, lengths: AnyInts, scores: Sequence[Array]) -> None:
        """Keeps the scores of stretches of rows; one array (stretch, step, values) per model output, side by side."""
        found = scores[0] if len(scores) == 1 else np.concatenate(scores, axis=-1)
        assert found.shape[-1] == self.layout.score_values, (found.shape, self.layout.score_values)
        longest = int(lengths.max())  # often all are as long, though the step has room for more
        if longest:
            self._views_of(longest).results.put(starts, lengths, [found[:, :longest], True])

    def _views_of(self, steps: int) -> _Views:
        if steps not in self._views:
            results = [self.scores, self.scored]
            self._views[steps] = _Views(RowRanges(self.inputs, steps), RowRanges(results, steps))
        return self._views[steps]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, rows in ranges:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + rows)
        else:
            joined.append((start, rows))
    return joined
