"""Packed scoring without files: an arena, a packer and a replica, as a replica's pipeline joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_core.packing.arena import Arena, RowLayout
from lstm_core.packing.packer import Packer, Step
from lstm_core.step.stateful_replica import StatefulReplica

Array = NDArray[Any]


def score_packed(
    replica: StatefulReplica,
    rows: Sequence[Array],
    lengths: Sequence[int],
    bug: Callable[[Step], Step] = lambda step: step,
) -> Array:
    """Scores (row, value) of series that lie one after the other; `bug` may spoil each step before it is run."""
    slots, chunk = replica.shape.slots, replica.shape.chunk
    total = sum(lengths)
    arena: Arena | None = None
    packer = Packer(slots=slots, chunk=chunk)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    packer.admit(starts.astype(np.int64), np.array(lengths, np.int64))
    while (planned := packer.next_step()) is not None:
        step = bug(planned)
        index = step.gather(chunk)
        scores = [tensor.numpy() for tensor in replica.step([array[index] for array in rows], step.reset, step.lengths)]
        if arena is None:
            arena = Arena(total, RowLayout((), sum(values.shape[-1] for values in scores)))
            arena.scores[:] = np.nan
        arena.scatter(step.start, step.lengths, scores)
    assert arena is not None, "no series, no scores"
    return arena.scores


def changed(step: Step, **fields: Any) -> Step:
    """A step with other fields."""
    return replace(step, **fields)
