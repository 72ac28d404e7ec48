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
    values = cast("dict[str, float | str | None]", row.select(_named(row, PREVIOUS)).to_pylist()[0])
    states = {}
    for layer in contract.recurrent:
        for index, shape in enumerate(layer.state_shapes):
            state = cast("list[list[float]]", row.column(f"{STATE}{layer.name}__{index}").to_pylist())
            states[layer.name, index] = np.array(state, np.float32).reshape(shape)
    return Carried(
        last=_moment(row, time_columns(LAST, settings.time)),
        broken=_moment(row, time_columns(BROKEN, settings.time)),
        known={name.removeprefix(PREVIOUS): value for name, value in values.items()},
        states=states,
    )


def _named(row: pa.Table, prefix: str) -> list[str]:
    return [name for name in row.column_names if name.startswith(prefix)]


def _moment(row: pa.Table, names: tuple[str, ...]) -> Moments | None:
    moment = moments_of(row, names)
    return moment if moment.valid[0] else None
