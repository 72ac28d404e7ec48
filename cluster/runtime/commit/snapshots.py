"""Snapshots: how far a shard has come, and the state of the entities that are under way.

A snapshot belongs to a committed fragment: it says for each entity how many of its rows stand in that fragment and the
ones before, and holds the recurrent state after the last of them. Whoever takes the shard over goes on from there, at
the same chunk borders, so not one bit of a score changes. One Parquet file, a row per entity that has begun.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowLists
from cluster.core.commit import SNAPSHOTS
from cluster.run_errors import RunFailed
from cluster.runtime.storage.parquet_tables import UNREADABLE, read_table, write_table
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Array, Bools, Doubles, Ints

_PREVIOUS = "previous__"
_STATES = b"slotcar.states"


@dataclass(frozen=True)
class Snapshot:
    """Entities of one shard that have begun."""

    entity: Ints  # (entity,) ordinal in the shard
    rows_done: Ints  # (entity,)
    under_way: Bools  # (entity,) False where the entity is finished
    states: list[Array]  # per state tensor: (entities under way, *state), in their order
    previous: dict[str, Doubles] = field(default_factory=dict)  # last known values (entities under way,), by column
    tensors: tuple[tuple[str, int], ...] = ()  # layer and index of each state tensor; where carry-over is written only

    def rows_of(self, entities: int) -> Ints:
        """Rows done of each of the shard's entities, 0 where it has not begun."""
        done = np.zeros(entities, np.int64)
        done[self.entity] = self.rows_done
        return done

    def states_of(self, entities: int) -> tuple[Bools, list[Array]]:
        """(entity,) True where there is a state, and the states (entity, *state), zero elsewhere."""
        held = np.zeros(entities, np.bool_)
        held[self.entity[self.under_way]] = True
        spread = []
        for values in self.states:
            whole = np.zeros((entities, *values.shape[1:]), np.float32)
            whole[self.entity[self.under_way]] = values
            spread.append(whole)
        return held, spread


def write_snapshot(store: Store, name: str, snapshot: Snapshot) -> None:
    """Writes a snapshot, named as its fragment names it; durable when this returns."""
    columns: dict[str, ArrowArray] = {"entity": pa.array(snapshot.entity), "rows_done": pa.array(snapshot.rows_done)}
    columns["under_way"] = pa.array(snapshot.under_way)
    for index, values in enumerate(snapshot.states):
        columns[f"state_{index}"] = _as_lists(values, snapshot.under_way)
    for column, values in snapshot.previous.items():
        spread = np.full(len(snapshot.entity), np.nan)
        spread[snapshot.under_way] = values
        columns[f"{_PREVIOUS}{column}"] = pa.array(spread)
    shapes = [values.shape[1:] for values in snapshot.states]
    table = pa.table(columns).replace_schema_metadata({_STATES: json.dumps([shapes, snapshot.tensors])})
    write_table(store, f"{SNAPSHOTS}/{name}", table)


def read_snapshot(store: Store, name: str) -> Snapshot:
    """Reads a snapshot back. Raises `RunFailed`."""
    try:
        table = read_table(store, f"{SNAPSHOTS}/{name}")
        shapes, tensors = json.loads(table.schema.metadata[_STATES])
    except (*UNREADABLE, KeyError) as error:
        raise RunFailed(
            f"The snapshot {store.path(f'{SNAPSHOTS}/{name}')} cannot be read; remove the output and start the run "
            "again."
        ) from error
    under_way = table.column("under_way").to_numpy(zero_copy_only=False)
    states = [_as_array(table.column(f"state_{index}"), shape) for index, shape in enumerate(shapes)]
    names = [name for name in table.column_names if name.startswith(_PREVIOUS)]
    previous = {name.removeprefix(_PREVIOUS): table.column(name).to_numpy()[under_way] for name in names}
    return Snapshot(
        entity=table.column("entity").to_numpy(),
        rows_done=table.column("rows_done").to_numpy(),
        under_way=under_way,
        states=states,
        previous=previous,
        tensors=tuple((layer, index) for layer, index in tensors),
    )


def _as_lists(values: Array, under_way: Bools) -> ArrowArray:
    size = int(np.prod(values.shape[1:], dtype=np.int64))
    flat = np.zeros((len(under_way), size), np.float32)
    flat[under_way] = values.reshape(-1, size)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), size)
    return lists.take(pa.array(np.where(under_way, np.arange(len(under_way)), -1), pa.int64(), mask=~under_way))


def _as_array(column: ArrowColumn, shape: Sequence[int]) -> Array:
    held = cast(ArrowLists, column.combine_chunks().drop_null())
    flat = held.flatten() if len(held) else pa.array([], pa.float32())
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(len(held), *shape)
