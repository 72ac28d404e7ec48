"""How far two scorings of the same rows are apart: the one measure of the proof, of the audit and of the tests.

What it decides: a gap is absolute as long as all scores of its column are within 1, and else a share of the largest of
them. In its own units a score may be a load of 1,500, and its last bit of float32 is then 1e-4. The largest score of
the column, not each score, since one near 0 is the difference of numbers that are as large as the others: it has their
rounding errors.
"""

from __future__ import annotations

import numpy as np

from lstm_core.array_types import Array, Doubles


def score_gaps(found: Array, truth: Array) -> Doubles:
    """(row, score) of one or several series -> their gaps (row, score), to be held against a tolerance.

    Two scores that are no number are the same, and so are two equal infinities; one that is none is infinitely far.
    """
    one, other = found.astype(np.float64), truth.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(one - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap)) / _scales(other)


def _scales(truth: Doubles) -> Doubles:
    """(score,) the largest score of each column, and 1 at least."""
    sizes: Doubles = np.abs(np.where(np.isfinite(truth), truth, 0.0))
    largest: Doubles = sizes.max(axis=0, initial=1.0)
    return largest
