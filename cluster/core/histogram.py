"""Distributions of scores and lengths in bounded memory: counts in fixed bins, added batch by batch.

What it decides: the bins. Scores get `BINS` equal ones between two bounds that are known before (Parquet's footers have
them), fine enough that quantiles and the distance of two distributions can be taken from counts alone; lengths get five
per decade. The distance is the largest gap between the two cumulated shares (Kolmogorov and Smirnov's).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstm_core.array_types import Doubles, Floats, Ints

BINS = 4096
PER_DECADE = 5
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


@dataclass
class Histogram:
    """Counts of finite values in equal bins between `low` and `high`."""

    low: float
    high: float
    counts: Ints  # (bin,)
    sum: float = 0.0
    not_finite: int = 0

    @staticmethod
    def between(low: float, high: float) -> Histogram:
        """An empty one; bounds that do not differ are moved apart."""
        room = max(abs(low), 1.0) * 1e-6
        low, high = (low, high) if high > low else (low - room, high + room)
        return Histogram(low, high, np.zeros(BINS, np.int64))

    def add(self, values: Floats | Doubles) -> None:
        """Counts values (value,); those beyond the bounds are put into the outermost bins."""
        finite = values[np.isfinite(values)].astype(np.float64)
        self.not_finite += len(values) - len(finite)
        self.sum += float(finite.sum())
        where = ((finite - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        self.counts += np.bincount(np.clip(where, 0, BINS - 1), minlength=BINS)

    @property
    def total(self) -> int:
        """Finite values counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean of the finite values; 0 where there are none."""
        return self.sum / self.total if self.total else 0.0

    def quantile(self, share: float) -> float:
        """The value below which `share` of the values lie, to the width of a bin."""
        if not self.total:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self.counts), share * self.total))
        return self.low + (min(index, BINS - 1) + 0.5) * (self.high - self.low) / BINS

    def shares(self, low: float, high: float, bars: int) -> Doubles:
        """Share of the values in each of `bars` equal bars between two values (bar,); the rest is in the outermost."""
        centres = self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS
        where = np.clip(((centres - low) * (bars / (high - low))).astype(np.int64), 0, bars - 1)
        counts = np.bincount(where, weights=self.counts, minlength=bars).astype(np.float64)
        return counts / max(self.total, 1)


def distance(first: Histogram, second: Histogram) -> float:
    """Largest gap between the cumulated shares of two distributions with the same bounds, from 0 to 1."""
    assert (first.low, first.high) == (second.low, second.high), "their bins differ"
    if not first.total or not second.total:
        return 0.0
    gaps = np.cumsum(first.counts) / first.total - np.cumsum(second.counts) / second.total
    return float(np.abs(gaps).max())


def length_bins(rows: Ints) -> Ints:
    """Entities' rows (entity,) -> how many fall into each bin (bin,): bin i begins at `length_from(i)` rows."""
    if not len(rows):
        return np.zeros(0, np.int64)
    starts = np.array([length_from(index) for index in range(PER_DECADE * 18)])
    where = np.searchsorted(starts, rows, side="right") - 1
    return np.bincount(where).astype(np.int64)


def length_from(index: int) -> int:
    """The least rows of an entity in a bin of lengths."""
    return int(np.ceil(10 ** (index / PER_DECADE) - 1e-9))
