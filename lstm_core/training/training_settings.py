"""How weights are moved, as plain values: made from a configuration, carried to whoever trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from lstm_core.array_types import Array
from lstm_core.json_types import JsonValue

Plain: TypeAlias = bool | int | float | str | Array | np.generic | list[Array] | None
Kept: TypeAlias = dict[str, Plain]  # by attribute


@dataclass(frozen=True)
class TrainingSettings:
    """Losses, weights and the optimizer; names as Keras knows them."""

    loss: str | Mapping[str, str] = "mae"  # one for all scores, or one per output
    optimizer: str = "adam"
    learning_rate: float | Mapping[str, JsonValue] = 1e-3  # or {"schedule": name, **its arguments}
    loss_weights: Mapping[str, float] = field(default_factory=dict)  # output -> weight, 1 where it has none
    metrics: Sequence[str] | Mapping[str, Sequence[str]] = ()  # for every output, or by output
    class_weight: Mapping[str, float] = field(default_factory=dict)  # class -> weight, 1 where it has none
    weighted: bool = False  # behind the targets stands a column with the weight of each row
    reset_chunks: bool = False  # every chunk starts from zero state: what a stateless model would learn
    callbacks: tuple[Mapping[str, JsonValue], ...] = ()  # {"name": class, **its arguments}
    folder: str = ""  # relative paths in callbacks are relative to it
