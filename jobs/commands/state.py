"""`slotcar state show STATE` and `slotcar state diff A B`: what carry-over holds, and which entities have moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.core.carry import PREVIOUS
from cluster.core.value_texts import json_values, text_of
from cluster.runtime.carry.carry_inspection import (
    Difference,
    OpenTable,
    Summary,
    compare_carry,
    find_entities,
    summarize,
)
from cluster.runtime.commit.run_json import only_looking
from cluster.runtime.storage.open_store import StoreSpec, open_store
from lstm_core.json_types import JsonObject

VALUES_SHOWN = 6  # of a state
NAMES_SHOWN = 20

AS_THEY_WERE = "the row is the same"
MEANINGS = {  # who broke or was mended has moved, too
    "moved": "any column of the row differs, states included",
    "gone": "in the first table only",
    "new": "in the second table only",
    "broke": "moved, and went into quarantine",
    "mended": "moved, and came out of quarantine",
}


@dataclass(frozen=True)
class ShownState:
    """A table's summary, or single entities of it."""

    path: str
    summary: Summary
    entities: pa.Table | None  # None where none was asked for

    def as_dict(self) -> JsonObject:
        """The summary, and the entities with all their values, for JSON."""
        found = {"state": self.path, **asdict(self.summary)}
        if self.entities is not None:
            columns = [json_values(column) for column in self.entities.columns]
            found["entity"] = [
                dict(zip(self.entities.column_names, row, strict=True)) for row in zip(*columns, strict=True)
            ]
        return found

    def render(self) -> RenderableType:
        """Tables for a terminal; of a state the first values and its length."""
        found = self.entities
        return self._summary() if found is None else Group(*(_entity(found, row) for row in range(found.num_rows)))

    def _summary(self) -> Table:
        found = self.summary
        table = Table(title=f"{self.path}: carry-over", title_justify="left", show_header=False)
        table.add_row("entities", f"{found.entities:,} in {found.files:,} files")
        table.add_row("rows seen", f"{found.rows_seen:,}")
        table.add_row("last times", f"{found.earliest} to {found.latest}")
        table.add_row("in quarantine", f"{found.broken:,}")
        table.add_row("model", found.model_fingerprint)
        for name, values in found.states.items():
            table.add_row(name, f"{values:,} values")
        return table


@dataclass(frozen=True)
class StateDifference:
    """Two tables, compared."""

    before: str
    after: str
    found: Difference

    def as_dict(self) -> JsonObject:
        """The counts and the first entities of each kind, for JSON."""
        return {"before": self.before, "after": self.after, **asdict(self.found)}

    def render(self) -> RenderableType:
        """The counts and the first entities of each kind, for a terminal."""
        found = self.found
        title = f"{found.entities[0]:,} entities in {self.before}, {found.entities[1]:,} in {self.after}"
        table = Table("kind", "entities", "means", "the first of them", title=title, title_justify="left")
        table.add_row("as they were", f"{found.same:,}", AS_THEY_WERE, "")
        for kind, meaning in MEANINGS.items():
            table.add_row(kind, f"{getattr(found, kind):,}", meaning, "; ".join(found.names[kind][:3]))
        return table


def _entity(entities: pa.Table, row: int) -> Table:
    table = Table(show_header=False)
    for name in entities.column_names:
        value = entities.column(name)[row]
        shown = _state(value) if pa.types.is_fixed_size_list(value.type) else text_of(value)
        table.add_row(name.replace(PREVIOUS, "previous ") if name.startswith(PREVIOUS) else name, shown)
    return table


def _state(value: pa.FixedSizeListScalar[pa.DataType, int]) -> str:
    held = value.values
    assert held is not None, "a state is never null"
    values = np.asarray(held.to_numpy(zero_copy_only=False))
    first = " ".join(f"{number:.4g}" for number in values[:VALUES_SHOWN])
    more = " ..." if len(values) > VALUES_SHOWN else ""
    return f"[{first}{more}], {len(values):,} values, norm {float(np.linalg.norm(values)):.4g}"


def show(path: str, entity: Sequence[str] = ()) -> ShownState:
    """What a table holds, and one entity of it by the values of its columns. Raises `UsageError`."""
    with only_looking(path):
        table = OpenTable.of(open_store(StoreSpec.named(path)))
        return ShownState(path, summarize(table), find_entities(table, entity) if entity else None)


def diff(before: str, after: str) -> StateDifference:
    """Which entities have moved between two tables. Raises `UsageError`."""
    with only_looking(f"{before} or {after}"):
        first, second = (OpenTable.of(open_store(StoreSpec.named(path))) for path in (before, after))
        return StateDifference(before, after, compare_carry(first, second, NAMES_SHOWN))
