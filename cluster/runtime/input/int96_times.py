"""INT96, the times that Spark, Impala, Athena and Hive write: a day and the nanoseconds of that day, in 96 bits.

All of a run reads them in microseconds, which hold 290,000 years to either side. Decides that a value which
microseconds do not say is refused before anything starts, since it would be another time: one with nanoseconds below
them, as Impala has, or one of a day that is beyond all years.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowArray
from cluster.core.settings import InputSettings
from cluster.core.value_texts import text_of
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.input.column_checks import needed_columns
from cluster.runtime.input.source_faults import input_faults
from cluster.runtime.input.source_files import open_source

_BATCH_ROWS = 131_072
_SECONDS_MAX = 2**63 // 10**6 - 1  # whose microseconds are a number of 64 bits


def check_int96(path: str, settings: InputSettings, schema: pq.ParquetSchema) -> None:
    """Refuses a file with such a value in a column that the run needs; `schema` is that of its footer.

    What is damaged is left to whoever reads it for more than this. Raises InputRefused, InputBroken.
    """
    wanted = needed_columns(settings)
    paths = (schema.column(index) for index in range(len(schema)))
    names = dict.fromkeys(_top(column.path, wanted) for column in paths if column.physical_type == "INT96")
    for name in names:
        if name is not None:
            with suppress(InputBroken):
                _check(path, settings, name)


def _top(path: str, names: Any) -> str | None:
    """The needed column that a column of the footer is, or is a part of."""
    return next((name for name in names if path == name or path.startswith(f"{name}.")), None)


def _check(path: str, settings: InputSettings, name: str) -> None:
    row = 0
    for fine, coarse in zip(_values(path, settings, name, "ns"), _values(path, settings, name, "s"), strict=True):
        for nanoseconds, seconds in zip(_leaves(fine), _leaves(coarse), strict=True):
            found = _misfit(nanoseconds, seconds)
            if found is not None:
                where = f"row {row + found[0]} of {path}" if nanoseconds is fine else path
                raise InputRefused(
                    f"Column {name!r} is INT96 and holds {found[1]} in {where}: expected whole microseconds, in which "
                    "a run reads such times; write the column as timestamps of nanoseconds, as pyarrow's write_table "
                    "does with what its read_table has read, or cut it to microseconds."
                )
        row += len(fine)


def _misfit(nanoseconds: ArrowArray, seconds: ArrowArray) -> tuple[int, str] | None:
    """The first value that microseconds do not say, and what it is; nanoseconds are modulo 2**64, seconds are right."""
    fine, whole = (
        array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) for array in (nanoseconds, seconds)
    )
    within = fine - whole * 10**9  # the second
    misfits = np.flatnonzero((within % 1000 != 0) | (np.abs(whole) > _SECONDS_MAX))
    if not len(misfits):
        return None
    place = int(misfits[0])
    if abs(whole[place]) > _SECONDS_MAX:
        return place, "a day beyond all years"
    return place, f"{text_of(seconds[place])} and {int(within[place]):,} nanoseconds"


def _values(path: str, settings: InputSettings, name: str, unit: Literal["s", "ns"]) -> Iterator[ArrowArray]:
    with open_source(path, settings.storage, int96_unit=unit) as parquet:
        batches = parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[name], use_threads=False)
        while True:
            with input_faults(path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch.column(name)


def _leaves(array: Any) -> Iterator[ArrowArray]:
    """The times in a column, which may lie within lists, structs and maps."""
    if pa.types.is_timestamp(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(array.type):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif array.type.num_fields:
        yield from _leaves(pc.list_flatten(array))
