"""What a table of carry-over says of single entities, read by the audit from its files alone.

What it decides: an entity is found by how its key is spelt, so that two nights may differ in types; its row is taken as
the guides describe the table: `last_time`, `broken_since`, `previous__COLUMN`, `state__LAYER__INDEX`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowArray
from cluster.core.carry import BROKEN, LAST, PREVIOUS, STATE, time_columns
from cluster.core.own_columns import apart
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, first_line
from cluster.runtime.audit.own_entities import Carried
from cluster.runtime.audit.own_values import Moments, moments_of, numbers_of, spelt_keys
from cluster.runtime.storage.parquet_tables import UNREADABLE
from cluster.runtime.storage.store import Store
from lstm_core.contract.model_contract import ModelContract


def carried_of(keys: ArrowArray, store: Store, settings: InputSettings, contract: ModelContract) -> dict[int, Carried]:
    """What the table knows of entities, given as they are spelt (entity,): by their numbers. Raises InputBroken."""
    found = {}
    try:
        for row_group in _groups(store):
            numbers = numbers_of(keys, spelt_keys(row_group, settings.entity))
            for row in np.flatnonzero(numbers >= 0).tolist():
                found[int(numbers[row])] = _carried(row_group.slice(row, 1), settings, contract)
    except UNREADABLE as error:
        raise InputBroken(f"{store.root} cannot be read: {first_line(error)}.") from error
    return found


def _groups(store: Store) -> Iterator[pa.Table]:
    for name in (name for name in store.list("") if name.endswith(".parquet")):
        with store.open_input(name) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group, use_threads=False)


def _carried(row: pa.Table, settings: InputSettings, contract: ModelContract) -> Carried:
    known = {name: apart(f"{PREVIOUS}{name}", settings.entity) for name in settings.feature_columns}
    there = {name: column for name, column in known.items() if column in row.column_names}
    values = cast("dict[str, float | str | None]", row.select(list(there.values())).to_pylist()[0])
    states = {}
    for layer in contract.recurrent:
        for index, shape in enumerate(layer.state_shapes):
            column = apart(f"{STATE}{layer.name}__{index}", settings.entity)
            state = cast("list[list[float]]", row.column(column).to_pylist())
            states[layer.name, index] = np.array(state, np.float32).reshape(shape)
    return Carried(
        last=_moment(row, _apart(LAST, settings)),
        broken=_moment(row, _apart(BROKEN, settings)),
        known={name: values[column] for name, column in there.items()},
        states=states,
    )


def _apart(prefix: str, settings: InputSettings) -> tuple[str, ...]:
    """The columns of a moment, named apart from the entity's."""
    return tuple(apart(name, settings.entity) for name in time_columns(prefix, settings.time))


def _moment(row: pa.Table, names: tuple[str, ...]) -> Moments | None:
    moment = moments_of(row, names)
    return moment if moment.valid[0] else None
