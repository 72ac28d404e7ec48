"""Whether two subjects gave the same scores, and a hash of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

TOLERANCE = 1e-5


class Disagreement(Exception):
    """Two subjects scored the same rows differently."""


@dataclass(frozen=True)
class Scores:
    """A subject's scores, in order of entity and time."""

    keys: Any  # pa.Table (row,) entity and time
    values: Any  # (row,) float32

    @staticmethod
    def read(folder: Path) -> Scores:
        """The scores in a folder, whatever its files and their order."""
        files = sorted(str(path) for path in folder.glob("*.parquet"))
        table = ds.dataset(files).to_table(columns=["entity", "time", "score"])
        table = table.sort_by([("entity", "ascending"), ("time", "ascending")])
        return Scores(table.select(["entity", "time"]), table.column("score").to_numpy())

    def digest(self) -> str:
        """A hash of the bits of the scores, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()[:12]

    def check(self, other: Scores, name: str) -> float:
        """The largest difference of `other`, the scores of `name`. Raises `Disagreement` above the tolerance."""
        if not self.keys.equals(other.keys):
            raise Disagreement(f"{name} scored {len(other.values):,} rows, and not the {len(self.values):,} expected.")
        differences = np.abs(self.values - other.values)
        worst = int(np.argmax(differences)) if len(differences) else 0
        if not differences.max(initial=0.0) <= TOLERANCE:  # a NaN is no agreement
            key = {name: column[worst].as_py() for name, column in zip(("entity", "time"), self.keys, strict=True)}
            raise Disagreement(f"{name} gives {other.values[worst]} and not {self.values[worst]} for {key}.")
        return float(differences.max(initial=0.0))
