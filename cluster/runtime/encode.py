"""Encoding: Arrow columns -> the arrays that a model's inputs want, and where a row does not fit.

What it decides: what a null, a NaN, an infinite value, an unknown word and a code outside an Embedding become. A value
goes from Arrow into the arena in one copy. A row that does not fit is named, with the column and the reason; what
follows from that (the entity is scored up to there) is `blocks`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.core.settings import Fill, InputSettings
from lstm_core.contract import InputContract

Array = NDArray[Any]
Bools = NDArray[np.bool_]


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
    """The last known value of each column filled with "previous", carried from one piece of a series to the next."""

    values: dict[str, float] = field(default_factory=dict)


class Encoder:
    """Fills arrays, one per model input, from a table that holds the feature columns."""

    def __init__(self, settings: InputSettings, inputs: tuple[InputContract, ...]) -> None:
        columns = dict(settings.features)
        self._inputs = [(contract, columns[contract.name]) for contract in inputs]
        self._fill = settings.fill
        self._words = {name: pa.array(words, pa.string()) for name, words in settings.vocabulary.items()}
        self._target = settings.target

    def encode(self, table: Any, starts: Array, into: list[Array], last_known: LastKnown | None = None) -> Faults:
        """Writes the table's rows into `into`, one array (row, ...) per input.

        `starts` are the first rows of the table's series; `last_known` says that the first of them goes on.
        """
        faults = Faults()
        for (contract, columns), out in zip(self._inputs, into, strict=True):
            for index, column in enumerate(columns):
                view = out if out.ndim == 1 else out[:, index]
                self._encode_column(table, column, contract, view, faults, (starts, last_known))
        return faults

    def encode_targets(self, table: Any, into: Array) -> None:
        """Writes the target columns into `into` (row, target); a null is NaN."""
        for index, column in enumerate(self._target):
            for rows, chunk in _pieces(table.column(column)):
                into[rows, index] = _as_float(chunk)

    def _encode_column(
        self, table: Any, column: str, contract: InputContract, out: Array, faults: Faults, series: Any
    ) -> None:
        values = table.column(column)
        fill = self._fill.get(column)
        if contract.kind == "categorical":
            missing = self._write_codes(values, column, contract, out, faults)
        else:
            missing = _write_numbers(values, out)
        if missing is None:
            return
        if fill is not None and fill.previous:
            missing = _fill_previous(out, missing, column, *series)
        elif fill is not None:
            out[missing] = self._fill_value(column, fill, contract)
            missing = np.zeros_like(missing)
        faults.add(missing, f"{column} is null and [input.fill] names no value for it")
        if contract.kind == "numeric":
            faults.add(np.isinf(out), f"{column} is infinite")
            out[missing] = 0  # what stands in a bad row is never scored, but must not poison a sum

    def _fill_value(self, column: str, fill: Fill, contract: InputContract) -> float:
        if column in self._words and isinstance(fill.value, str):
            found = pc.index_in(pa.scalar(fill.value), value_set=self._words[column]).as_py()
            return 0 if found is None else found + 1
        assert fill.value is not None, f"fill of {column} has no value"
        return float(fill.value)

    def _write_codes(
        self, values: Any, column: str, contract: InputContract, out: Array, faults: Faults
    ) -> Bools | None:
        words = self._words.get(column)
        missing = _null_mask(values)
        for rows, chunk in _pieces(values):
            if words is not None:
                found = pc.index_in(chunk.cast(pa.string()), value_set=words)
                out[rows] = pc.add(pc.fill_null(found, -1), 1).to_numpy(zero_copy_only=False)
            else:
                codes = _as_float(chunk)
                whole = np.isfinite(codes) & (codes == np.floor(codes)) & (np.abs(codes) < 2**31)
                _mark(faults, rows, ~whole & ~np.isnan(codes), f"{column} is no whole number", len(values))
                out[rows] = np.where(whole, codes, 0)
        if contract.vocabulary is not None:
            outside = (out < 0) | (out >= contract.vocabulary)
            faults.add(outside, f"{column} is outside 0..{contract.vocabulary - 1}, the codes that the model knows")
            out[outside] = 0
        return missing


def _write_numbers(values: Any, out: Array) -> Bools | None:
    for rows, chunk in _pieces(values):
        out[rows] = _as_float(chunk)
    if np.isfinite(out).all():
        return None
    return np.asarray(np.isnan(out))


def _pieces(values: Any) -> Iterator[tuple[slice, Any]]:
    row = 0
    for chunk in values.chunks:
        yield slice(row, row + len(chunk)), chunk
        row += len(chunk)


def _as_float(chunk: Any) -> Array:
    """Numbers of any kind as floats; a null is NaN. Whole numbers stay exact up to 2**53."""
    kind = chunk.type
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.float64())
    elif pa.types.is_dictionary(kind):
        chunk = chunk.dictionary_decode()
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, which is a fault of its own
        return (
            np.asarray(chunk.to_numpy(zero_copy_only=False)).astype(np.float64, copy=False)
            if (chunk.null_count and pa.types.is_integer(chunk.type))
            else np.asarray(chunk.to_numpy(zero_copy_only=False))
        )


def _null_mask(values: Any) -> Bools | None:
    if values.null_count == 0 and not pa.types.is_floating(values.type):
        return None
    return np.asarray(pc.is_null(values, nan_is_null=True).to_numpy())


def _mark(faults: Faults, rows: slice, bad: Bools, reason: str, size: int) -> None:
    if bad.any():
        whole = np.zeros(size, np.bool_)
        whole[rows] = bad
        faults.add(whole, reason)


def _fill_previous(out: Array, missing: Bools, column: str, starts: Array, last_known: LastKnown | None) -> Bools:
    """Fills each missing value with the entity's last known one; returns the rows that have none before them."""
    rows = np.arange(len(out))
    known = np.maximum.accumulate(np.where(missing, -1, rows))
    begin = np.repeat(starts, np.diff(np.append(starts, len(out))))
    inside = known >= begin
    found = missing & inside
    out[found] = out[known[found]]
    unknown = missing & ~inside
    if last_known is not None:
        if column in last_known.values:
            first = unknown & (begin == starts[0])
            out[first] = last_known.values[column]
            unknown &= ~first
        if not unknown[-1:].any() and len(out):
            last_known.values[column] = float(out[-1])
    return unknown
