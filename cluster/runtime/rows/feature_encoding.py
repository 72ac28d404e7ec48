"""Encoding: Arrow columns -> the arrays that a model's inputs want, and where a row does not fit.

What it decides: what a null, a NaN, an infinite value, an unknown word and a code outside an Embedding become. A value
goes from Arrow into the arena in one copy. A row that does not fit is named, with the column and the reason; what
follows from that (the entity is scored up to there) is `blocks`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.core.settings import Fill, InputSettings
from cluster.core.times import as_plain
from lstm_core.contract.model_contract import InputContract

Array = NDArray[Any]
Bools = NDArray[np.bool_]

BLOCK_ROWS = 8192  # written together: of a dozen float32 columns they fit into a core's second cache


@dataclass
class Faults:
    """Rows of a block that do not fit, by row number in the block; the first fault of a row is kept."""

    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: Bools, reason: str) -> None:
        """Marks the rows that are True."""
        for row in np.flatnonzero(rows):  # loops over bad rows only
            self.reasons.setdefault(int(row), reason)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The bad rows, ascending."""
        return np.array(sorted(self.reasons), np.int64)


@dataclass
class LastKnown:
    """The last known values of columns filled with "previous", and those of static ones, by column: (series,).

    They come from an earlier block of a series, or from an earlier run, as they stand in the arena; NaN is for a value
    that is not known.
    """

    values: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Series:
    """How the rows of a table fall into series, and what is known of these from before."""

    starts: Array  # (series,) first row of each
    rows: int
    before: dict[str, Array]  # as in `LastKnown`

    @cached_property
    def begin(self) -> Array:
        """(row,) first row of the row's series."""
        return np.repeat(self.starts, np.diff(np.append(self.starts, self.rows)))

    def of(self, rows: Bools) -> Array:
        """The series of the rows that are True."""
        return np.asarray(np.searchsorted(self.starts, np.flatnonzero(rows), side="right") - 1)


@dataclass(frozen=True)
class _Column:
    """One feature column on its way into one input."""

    name: str
    values: Any  # (row,) Arrow
    contract: InputContract
    out: Array  # (row,) its place in the arena
    faults: Faults

    def refuse(self, rows: Bools, what: str) -> None:
        """Marks the rows that are True."""
        self.faults.add(rows, f"{self.name} is {what}")


class Encoder:
    """Fills arrays, one per model input, from a table that holds the feature columns."""

    def __init__(self, settings: InputSettings, inputs: tuple[InputContract, ...]) -> None:
        columns = dict(settings.features)
        self._inputs = [(contract, columns[contract.name]) for contract in inputs]
        self._fill = settings.fill
        self.words = {name: pa.array(words, pa.string()) for name, words in settings.vocabulary.items()}
        self._target = settings.target

    def encode(self, table: Any, starts: Array, into: list[Array], last_known: LastKnown | None = None) -> Faults:
        """Writes the table's rows into `into`, one array (row, ...) per input.

        `starts` are the first rows of the table's series; `last_known` is what is known of them from before.
        """
        faults = Faults()
        series = _Series(starts, table.num_rows, last_known.values if last_known else {})
        for (contract, names), out in zip(self._inputs, into, strict=True):
            values = [_opened(table.column(name)) for name in names]
            side_by_side = out[:, None] if out.ndim == 1 else out
            numeric = contract.kind == "numeric"
            finite = numeric and _write_floats(values, side_by_side)
            for index, name in enumerate(names):
                column = _Column(name, values[index], contract, side_by_side[:, index], faults)
                missing = None if finite else _gaps(column.out) if numeric else self._write_codes(column)
                self._settle(column, missing, series)
        return faults

    def last_known(self, inputs: list[Array], rows: Array) -> LastKnown:
        """What is known behind encoded rows that are good: their own values."""
        known = {}
        for (contract, names), array in zip(self._inputs, inputs, strict=True):
            for index, name in enumerate(names):
                if contract.static or (name in self._fill and self._fill[name].previous):
                    known[name] = np.asarray(array[rows] if array.ndim == 1 else array[rows, index], np.float64)
        return LastKnown(known)

    def encode_targets(self, table: Any, into: Array) -> None:
        """Writes the target columns into `into` (row, target); a null is NaN."""
        _write_floats([_opened(table.column(name)) for name in self._target], into)

    def _settle(self, column: _Column, missing: Bools | None, series: _Series) -> None:
        """Fills gaps of a column that is written, and refuses the rows that do not fit."""
        if missing is not None:
            missing = self._fill_missing(column, missing, self._fill.get(column.name), series)
        if missing is not None and column.contract.kind == "numeric":
            column.refuse(np.isinf(column.out), "infinite")
            column.out[missing] = 0  # what stands in a bad row is never scored, but must not poison a sum
        if column.contract.static:
            column.refuse(_changed(column, series), "not the same in all rows of its entity, as the model has it")

    def _fill_missing(self, column: _Column, missing: Bools, fill: Fill | None, series: _Series) -> Bools:
        """Fills what is missing; returns the rows where it stays so, which are bad."""
        if fill is None:
            column.refuse(missing, "null and [input.fill] names no value for it")
            return missing
        if fill.previous:
            unknown = _fill_previous(column, missing, series)
            column.refuse(unknown, 'null and its entity has no earlier value that "previous" could repeat')
            return unknown
        column.out[missing] = self._fill_value(column, fill)
        return np.zeros_like(missing)

    def _fill_value(self, column: _Column, fill: Fill) -> float:
        if column.name in self.words and isinstance(fill.value, str):
            found = pc.index_in(pa.scalar(fill.value), value_set=self.words[column.name]).as_py()
            return 0 if found is None else found + 1
        assert fill.value is not None, f"fill of {column.name} has no value"
        return float(fill.value)

    def _write_codes(self, column: _Column) -> Bools | None:
        words, out = self.words.get(column.name), column.out
        for rows, chunk in _chunks(column.values):
            if words is not None:
                found = pc.index_in(chunk.cast(pa.string()), value_set=words)
                out[rows] = pc.add(pc.fill_null(found, -1), 1).to_numpy(zero_copy_only=False)
            else:
                _write_whole(column, rows, _as_float(chunk))
        if column.contract.vocabulary is not None:
            outside = (out < 0) | (out >= column.contract.vocabulary)
            column.refuse(outside, f"outside 0..{column.contract.vocabulary - 1}, the codes that the model knows")
            out[outside] = 0
        return _null_mask(column.values)


def _write_whole(column: _Column, rows: slice, codes: Array) -> None:
    whole = (codes == np.floor(codes)) & (codes > -(2**31)) & (codes < 2**31)
    column.out[rows] = np.where(whole, codes, 0)
    bad = np.zeros(len(column.out), np.bool_)
    bad[rows] = ~whole & ~np.isnan(codes)
    column.refuse(bad, "no whole number below 2**31")


def _write_floats(columns: Sequence[Any], into: Array) -> bool:
    """Writes the columns side by side into (row, column); a null is NaN. Returns whether all is finite.

    A block of rows at a time, so that the rows that one column after the other is put into stay in the cache.
    """
    finite = True
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, which is a fault of its own
        chunks = [[(rows, _as_float(chunk)) for rows, chunk in _chunks(values)] for values in columns]
        for begin in range(0, len(into), BLOCK_ROWS):
            block = into[begin : begin + BLOCK_ROWS]
            for index, parts in enumerate(chunks):
                for rows, values in parts:
                    low, high = max(begin, rows.start), min(begin + len(block), rows.stop)
                    if low < high:
                        block[low - begin : high - begin, index] = values[low - rows.start : high - rows.start]
            finite = finite and bool(np.isfinite(block).all())
    return finite


def _gaps(values: Array) -> Bools | None:
    """True where a number is missing; None where none is, and none infinite."""
    return None if np.isfinite(values).all() else np.asarray(np.isnan(values))


def _opened(values: Any) -> Any:
    # Also a null that hides in a dictionary's values is a null then.
    return as_plain(values) if pa.types.is_dictionary(values.type) else values


def _chunks(values: Any) -> Iterator[tuple[slice, Any]]:
    row = 0
    for chunk in values.chunks:
        yield slice(row, row + len(chunk)), chunk
        row += len(chunk)


def _as_float(chunk: Any) -> Array:
    """Numbers of any kind as NumPy numbers; a null is NaN. Whole numbers stay exact up to 2**53."""
    kind = chunk.type
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.float64())
    return np.asarray(chunk.to_numpy(zero_copy_only=False))  # whole numbers with nulls come as float64


def _null_mask(values: Any) -> Bools | None:
    if values.null_count == 0 and not pa.types.is_floating(values.type):
        return None
    return np.asarray(pc.is_null(values, nan_is_null=True).to_numpy())


def _changed(column: _Column, series: _Series) -> Bools:
    """The rows whose value is not that of their entity's first row, which may stand in an earlier block."""
    first = column.out[series.begin]
    if column.name in series.before:
        known = series.before[column.name][series.of(np.ones(len(first), np.bool_))]
        first = np.where(np.isnan(known), first, known)
    return np.asarray(column.out != first)


def _fill_previous(column: _Column, missing: Bools, series: _Series) -> Bools:
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
