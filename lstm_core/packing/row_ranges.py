"""Row ranges: rows of an array that follow each other, as each slot of a step has some.

What it decides: that a stretch is copied as one block where it is as long as the step, and row by row where it is
shorter. Nine of ten are whole, and a block costs a third of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstm_core.array_types import AnyInts, Array, Bools, Ints


def row_numbers(starts: AnyInts, lengths: AnyInts, steps: int) -> Ints:
    """The rows of each stretch, (stretch, step); where it has ended its last one again, and row 0 where it has none.

    starts: (stretch,), of an empty one anything. lengths: (stretch,), none above `steps`.
    """
    inside = np.minimum(np.arange(steps, dtype=np.int64)[None, :], np.maximum(lengths, 1)[:, None] - 1)
    return np.asarray(np.where(lengths > 0, starts, 0)[:, None] + inside)


def valid_mask(lengths: AnyInts, steps: int) -> Bools:
    """True where a stretch has a row, (stretch, step)."""
    return np.asarray(np.arange(steps)[None, :] < lengths[:, None])


class RowRanges:
    """Arrays (row, ...) as all their stretches of `steps` rows; they are not copied."""

    def __init__(self, arrays: Sequence[Array], steps: int) -> None:
        self._arrays, self._steps = arrays, steps
        self._last = min(len(array) for array in arrays) - steps if arrays else 0
        self._blocks = [_blocks(array, steps) for array in arrays] if self._last >= 0 else []

    def take(self, starts: AnyInts, lengths: AnyInts) -> list[Array]:
        """The rows as `row_numbers` has them: (stretch, step, ...) of each array."""
        short = np.flatnonzero(lengths < self._steps)
        if 2 * len(short) > len(lengths):
            rows = row_numbers(starts, lengths, self._steps)
            return [array.take(rows, axis=0) for array in self._arrays]
        # What is read behind a short one, or instead of it near the end, is overwritten.
        first = np.minimum(starts, self._last)
        found: list[Array] = [blocks[first] for blocks in self._blocks]
        if len(short):
            rows = row_numbers(starts[short], lengths[short], self._steps)
            for array, taken in zip(self._arrays, found, strict=True):
                taken[short] = array.take(rows, axis=0)
        return found

    def put(self, starts: AnyInts, lengths: AnyInts, values: Sequence[Array | bool]) -> None:
        """Writes into the rows of each stretch, none behind its end: per array (stretch, step, ...), or one for all."""
        whole = lengths == self._steps
        whole_count = int(np.count_nonzero(whole))
        if whole_count == len(lengths):
            for blocks, given in zip(self._blocks, values, strict=True):
                blocks[starts] = given
            return
        rest = np.arange(len(lengths))
        if 2 * whole_count > len(lengths):
            rest = np.flatnonzero(~whole)
            for blocks, given in zip(self._blocks, values, strict=True):
                blocks[starts[whole]] = _of(given, whole)
        there = valid_mask(lengths[rest], self._steps)
        rows = row_numbers(starts[rest], lengths[rest], self._steps)[there]
        for array, given in zip(self._arrays, values, strict=True):
            array[rows] = _of(_of(given, rest), there)


def _blocks(array: Array, steps: int) -> Array:
    """(first row, step, ...)."""
    windows = np.lib.stride_tricks.sliding_window_view(array, steps, axis=0, writeable=True)
    return np.moveaxis(windows, -1, 1)


def _of(values: Array | bool, which: AnyInts | Bools) -> Array | bool:
    return values[which] if np.ndim(values) else values  # type: ignore[index]  # why: what has axes is an array
