"""Whether a column's values fit into a type, where the types of its files do not tell; and so the types of an input.

What it decides: of the types that may hold a column's values, the first one that holds all of them is the one. Most
files tell it by the statistics in their footers: the least and the greatest whole number or moment. Else the column is
read, a batch at a time. That is seldom: only where files differ in a column that is compared or handed through, and
only for those whose type the wanted one may not hold. A column that no type holds is refused, with the value.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowArray, ArrowField
from cluster.core.plan.column_conversion import holds_all
from cluster.core.plan.column_types import LikeFiles, TypeChoice, conflict, is_sure, type_choices
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import InputSettings
from cluster.core.times import parse_bound
from cluster.run_errors import InputDamaged, InputRefused
from cluster.runtime.input.column_checks import check_keys
from cluster.runtime.input.opened_types import opened_schema
from cluster.runtime.input.source_faults import input_faults
from cluster.runtime.input.source_files import LOOKS_AT_ONCE, open_source
from lstm_core.json_types import JsonObject

_BATCH_ROWS = 131_072
_UNITS = ("s", "ms", "us", "ns")
_TIMESTAMPS: dict[str, pa.DataType] = {  # as a footer calls them
    "milliseconds": pa.timestamp("ms"),
    "microseconds": pa.timestamp("us"),
    "nanoseconds": pa.timestamp("ns"),
}


def types_of(files: Sequence[LikeFiles], settings: InputSettings) -> pa.Schema | None:
    """The types in which all of an input's files are read, see `by_types`; None where the first file's will do.

    Raises InputRefused where there are none, InputBroken where a file cannot be read that must be looked at.
    """
    check_keys(files, settings)
    choices = type_choices(files, settings)
    if choices is None:
        return None
    _check_bounds(files, settings)
    return opened_schema(pa.schema([_settled(choice, files, settings) for choice in choices]))


def first_misfit(paths: Sequence[str], column: str, wanted: pa.DataType, settings: InputSettings) -> Misfit | None:
    """The first value of a column, in order of path and row, that a type does not hold. Raises InputBroken."""
    looks = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="slotcar-look")
    try:
        look = partial(_misfit, column=column, wanted=wanted, settings=settings)
        return next((found for found in looks.map(look, paths) if found is not None), None)
    finally:
        looks.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Misfit:
    """A value that a type does not hold."""

    path: str
    row: int
    value: str


def _settled(choice: TypeChoice, files: Sequence[LikeFiles], settings: InputSettings) -> ArrowField:
    """The first field of a choice that holds all values."""
    if choice.sure:
        return choice.fields[0]
    name, misfits = choice.fields[0].name, []
    for field in choice.fields:
        doubtful = [one for one in files if one.rows and not is_sure(field.type, [one.kind(name)])]
        found = first_misfit([path for one in doubtful for path in one.paths], name, field.type, settings)
        if found is None:
            return field
        misfits.append((found, field.type))
    raise InputRefused(_sentence(name, misfits[0], files, settings))


def _sentence(
    name: str, misfit: tuple[Misfit, pa.DataType], files: Sequence[LikeFiles], settings: InputSettings
) -> str:
    found, wanted = misfit
    mine = next(one for one in files if found.path in one.paths)
    other = next(one for one in files if one.rows and one is not mine and one.kind(name) != mine.kind(name))
    kinds = [(other.own.field(name).type, other.paths[0]), (mine.own.field(name).type, found.path)]
    why = f", and {found.value} in row {found.row} is no {wanted}, which would hold both"
    return conflict(name, kinds[0], kinds[1], settings, why)


def _misfit(path: str, column: str, wanted: pa.DataType, settings: InputSettings) -> Misfit | None:
    with open_source(path, settings.storage) as parquet:
        bounds = _bounds(parquet, column, wanted)
        if bounds is not None and _fits(bounds, wanted):
            return None
        for row, values in _batches(parquet, path, column):
            if not _fits(values, wanted):
                place = bisect_left(range(len(values)), True, key=lambda at: not _fits(values[: at + 1], wanted))
                return Misfit(path, row + place, str(values[place]))
    return None


def _fits(values: ArrowArray, wanted: pa.DataType) -> bool:
    return holds_all(pa.chunked_array([values]), wanted)


def _batches(parquet: pq.ParquetFile, path: str, column: str) -> Iterator[tuple[int, ArrowArray]]:
    """A column's values, also where only the names of folders have them, each time behind the first one's row.

    What is damaged is passed over: it is found where rows are read, and costs the entities that it must.
    """
    own = [column] if column in parquet.schema_arrow.names else []
    partitions, first = Partitions.as_before([path]), 0
    for group in range(parquet.num_row_groups):
        row = first
        first += parquet.metadata.row_group(group).num_rows
        batches = parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=own, use_threads=False)
        try:
            while (batch := _next(batches, path)) is not None:
                whole = partitions.complete(batch, path, [column])
                if column not in whole.schema.names:  # a table says it of its files, all in one type
                    return
                yield row, whole.column(column)
                row += batch.num_rows
        except InputDamaged:
            continue


def _next(batches: Iterator[pa.RecordBatch], path: str) -> pa.RecordBatch | None:
    with input_faults(path):
        return next(batches, None)


def _bounds(parquet: pq.ParquetFile, column: str, wanted: pa.DataType) -> ArrowArray | None:
    """The least and the greatest value of each row group, where they tell whether all between them fit."""
    footer = parquet.metadata
    index = next((at for at in range(footer.num_columns) if footer.schema.column(at).path == column), None)
    kind = None if index is None else _kind_of_statistics(footer.schema.column(index))
    if index is None or kind is None or _has_gaps(wanted, kind):
        return None
    raw: list[Any] = []  # whole numbers, as the kind has them
    for group in [footer.row_group(group) for group in range(footer.num_row_groups)]:
        told = group.column(index).statistics
        if group.num_rows and (told is None or not told.has_min_max):
            return None
        raw += [told.min_raw, told.max_raw] if told is not None and told.has_min_max else []
    return pa.array(raw, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)


def _kind_of_statistics(column: pq.ColumnSchema) -> pa.DataType | None:
    """What the numbers of a column's statistics are; None for what is no signed number."""
    told: JsonObject = json.loads(column.logical_type.to_json())
    if column.physical_type not in ("INT32", "INT64"):
        return None
    if told["Type"] == "Timestamp":
        return _TIMESTAMPS[told["timeUnit"]]
    if told["Type"] == "Date":
        return pa.date32()
    signed = told["Type"] == "None" or (told["Type"] == "Int" and told["isSigned"])
    return pa.int64() if signed else None


def _has_gaps(wanted: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a type leaves out moments between two that it holds."""
    if not pa.types.is_timestamp(kind):
        return False
    return not pa.types.is_timestamp(wanted) or _UNITS.index(wanted.unit) < _UNITS.index(kind.unit)


def _check_bounds(files: Sequence[LikeFiles], settings: InputSettings) -> None:
    """Since and until are one moment in all files, or they are refused: each is meant in its column's zone."""
    name = settings.time[0]  # of all time columns the one that is bounded
    zones = {getattr(one.plain.field(name).type, "tz", None): one.paths[0] for one in reversed(files) if one.rows}
    zones.pop(None, None)
    places = [f"{zone} in {path}" for zone, path in reversed(zones.items())]
    for setting, text in (("since", settings.since), ("until", settings.until)):
        kinds: list[Any] = [pa.timestamp("us", zone) for zone in zones] if text is not None else []
        if len({parse_bound(str(text), kind, setting=f"input.{setting}") for kind in kinds}) > 1:
            raise InputRefused(
                f"input.{setting} is {text!r} without a zone, but column {name!r} is in {places[0]} and in "
                f"{places[1]}: give it with an offset, such as 2026-11-20T00:00:00+00:00."
            )
