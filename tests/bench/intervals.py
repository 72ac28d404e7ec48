"""Sets of spans of time as arrays: how long their union is, and how long two of them go on at once.

A span is a begin and an end, whole numbers of one unit; spans may come in any order, touch and overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]  # (span, 2) begin and end


def spans_of(pairs: Sequence[tuple[int, int]]) -> Spans:
    """The spans of pairs of begin and end."""
    return np.array(pairs, np.int64).reshape(-1, 2)


def merged(spans: Spans) -> Spans:
    """The same time as spans that neither overlap nor touch, in order."""
    ordered = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(ordered):
        return ordered
    reached = np.maximum.accumulate(ordered[:, 1])
    first = np.append(True, ordered[1:, 0] > reached[:-1])
    last = np.append(first[1:], True)
    return np.stack([ordered[first, 0], reached[last]], axis=1)


def covered(spans: Spans) -> int:
    """How long at least one of the spans goes on."""
    return lengths(merged(spans))


def lengths(spans: Spans) -> int:
    """The lengths of all spans together, however they overlap."""
    return int((spans[:, 1] - spans[:, 0]).sum())


def shared(one: Spans, other: Spans) -> int:
    """How long at least one span of each goes on."""
    return covered(one) + covered(other) - covered(np.concatenate([one, other]))
