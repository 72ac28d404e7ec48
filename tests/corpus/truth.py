"""What the scores and the accounting of an input must be: from the facts of another reader, by Keras, entity by entity.

A night follows another: an entity goes on where it was, and one with a bad row stays in quarantine. Nothing here is the
product's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.corpus.entry import Entry, Fact, Facts

Series = list[tuple[Any, Any]]  # (a, b) of an entity's scored rows, from its first night on
ScoresOf = Callable[[Series], list[float]]


@dataclass
class Expected:
    """What must come of a night."""

    scores: dict[int, float] = field(default_factory=dict)  # by the number of the row
    order: list[list[int]] = field(default_factory=list)  # of each entity, its scored rows
    quarantined: int = 0
    histories: dict[str, Series] = field(default_factory=dict)  # as the next night finds them
    broken: set[str] = field(default_factory=set)


def expected(facts: Facts, entry: Entry, scores_of: ScoresOf, before: Expected | None = None) -> Expected:
    """The truth of a night; `before` is that of the night before, `scores_of` a series is what Keras says."""
    found = Expected(histories=dict(before.histories) if before else {}, broken=set(before.broken) if before else set())
    fills = entry.config.get("input.fill", {})
    words = entry.config.get("input.vocabulary", {})
    for sensor, rows in _series(facts, found).items():
        history = found.histories.get(sensor, [])
        good: list[Fact] = []
        for row in rows if sensor not in found.broken else ():
            values = [_value(getattr(row, name), fills.get(name), words.get(name)) for name in ("a", "b")]
            if None in values:
                found.broken.add(sensor)
                break
            history = [*history, (values[0], values[1])]
            good.append(row)
        found.histories[sensor] = history
        found.quarantined += len(rows) - len(good)
        if good:
            scores = scores_of(history)[-len(good) :]
            found.scores.update(zip((row.n for row in good), scores, strict=True))
            found.order.append([row.n for row in good])
    return found


def _series(facts: Facts, found: Expected) -> dict[str, list[Fact]]:
    series: dict[str, list[Fact]] = {}
    for row in sorted(facts, key=lambda row: row.n):
        if row.sensor is None or not row.timed:
            found.quarantined += 1
        else:
            series.setdefault(row.sensor, []).append(row)
    return series


def _value(value: Any, fill: Any, words: Sequence[str] | None) -> float | int | None:
    """A value as the model takes it, None where it is none."""
    if value is None or value != value:
        value = fill
    if value is None:
        return None
    if words is not None:
        word = f"{value:g}" if isinstance(value, float) else value  # of a column of whole numbers their texts
        return list(words).index(word) + 1 if word in words else 0
    with np.errstate(over="ignore"):
        number = float(np.float32(value))
    return number if np.isfinite(number) else None
