"""Null filling: what a null or a NaN in a feature column becomes, and which rows it makes bad.

What it decides: a column with a fill gets its value, or with "previous" the entity's last known one, which may come
from an earlier block or an earlier run; without a fill, and where there is no earlier value, the row is bad. It works
on a column that already stands in the arena; how it got there is the business of `feature_encoding`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowColumn
from cluster.core.settings import Fill
from lstm_core.array_types import Array, Bools, Doubles, Ints
from lstm_core.contract.model_contract import InputContract


@dataclass
class Faults:
    """Rows of a block that do not fit, by row number in the block; the first fault of a row is kept."""

    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: Bools, reason: str) -> None:
        """Marks the rows that are True."""
        for row in np.flatnonzero(rows):  # loops over bad rows only
            self.reasons.setdefault(int(row), reason)

    @property
    def rows(self) -> Ints:
        """The bad rows, ascending."""
        return np.array(sorted(self.reasons), np.int64)


@dataclass
class LastKnown:
    """The last known values of columns filled with "previous", and those of static ones, by column: (series,).

    They come from an earlier block of a series, or from an earlier run, as they stand in the arena; NaN is for a value
    that is not known.
    """

    values: dict[str, Doubles] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """How the rows of a table fall into series, and what is known of these from before."""

    starts: Ints  # (series,) first row of each
    rows: int
    before: dict[str, Doubles]  # as in `LastKnown`

    @cached_property
    def begin(self) -> Ints:
        """(row,) first row of the row's series."""
        return np.repeat(self.starts, np.diff(np.append(self.starts, self.rows)))

    def of(self, rows: Bools) -> Ints:
        """The series of the rows that are True."""
        return np.asarray(np.searchsorted(self.starts, np.flatnonzero(rows), side="right") - 1)


@dataclass(frozen=True)
class Column:
    """One feature column on its way into one input."""

    name: str
    values: ArrowColumn  # (row,)
    contract: InputContract
    out: Array  # (row,) its place in the arena
    faults: Faults
    words: pa.StringArray | None = None  # its vocabulary, where it has one

    def refuse(self, rows: Bools, what: str) -> None:
        """Marks the rows that are True."""
        self.faults.add(rows, f"{self.name} is {what}")


def gaps(values: Array) -> Bools | None:
    """True where a number is missing; None where none is, and none infinite."""
    return None if np.isfinite(values).all() else np.asarray(np.isnan(values))


def null_mask(values: ArrowColumn) -> Bools | None:
    """True where a value is null or NaN; None where none can be."""
    if values.null_count == 0 and not pa.types.is_floating(values.type):
        return None
    return np.asarray(pc.is_null(values, nan_is_null=True).to_numpy())


def fill_missing(column: Column, missing: Bools, fill: Fill | None, series: Series) -> Bools:
    """Fills what is missing; returns the rows where it stays so, which are bad."""
    if fill is None:
        column.refuse(missing, "null and [input.fill] names no value for it")
        return missing
    if fill.previous:
        unknown = _fill_previous(column, missing, series)
        column.refuse(unknown, 'null and its entity has no earlier value that "previous" could repeat')
        return unknown
    column.out[missing] = _fill_value(column, fill)
    return np.zeros_like(missing)


def _fill_value(column: Column, fill: Fill) -> float:
    if column.words is not None and isinstance(fill.value, str):
        found = pc.index_in(pa.scalar(fill.value), value_set=column.words).as_py()
        return 0 if found is None else found + 1
    assert fill.value is not None, f"fill of {column.name} has no value"
    return float(fill.value)


def _fill_previous(column: Column, missing: Bools, series: Series) -> Bools:
    """Fills each missing value with the entity's last known one; returns the rows that have none before them."""
    out, begin = column.out, series.begin
    known = np.maximum.accumulate(np.where(missing, -1, np.arange(len(out))))
    inside = known >= begin
    found = missing & inside
    out[found] = out[known[found]]
    unknown = missing & ~inside
    if column.name in series.before and unknown.any():
        values = series.before[column.name][series.of(unknown)]
        rows = np.flatnonzero(unknown)[~np.isnan(values)]
        out[rows] = values[~np.isnan(values)]
        unknown[rows] = False
    return unknown
