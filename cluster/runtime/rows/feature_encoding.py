"""Encoding: Arrow columns -> the arrays that a model's inputs want, and where a row does not fit.

What it decides: what an infinite value, an unknown word and a code outside an Embedding become; nulls and NaN are the
business of `null_filling`. A value goes from Arrow into the arena in one copy. A row that does not fit is named, with
the column and the reason; what follows from that (the entity is scored up to there) is `block_reader`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn
from cluster.core.settings import InputSettings
from cluster.core.times import as_plain
from cluster.core.value_texts import texts_of
from cluster.runtime.rows.null_filling import (
    Column,
    Faults,
    LastKnown,
    Series,
    fill_missing,
    gaps,
    null_mask,
)
from lstm_core.array_types import Array, Bools, Ints
from lstm_core.contract.model_contract import InputContract

BLOCK_ROWS = 8192  # written together: of a dozen float32 columns they fit into a core's second cache


class Encoder:
    """Fills arrays, one per model input, from a table that holds the feature columns."""

    def __init__(self, settings: InputSettings, inputs: tuple[InputContract, ...]) -> None:
        columns = dict(settings.features)
        self._inputs = [(contract, columns[contract.name]) for contract in inputs]
        self._fill = settings.fill
        self.words = {name: pa.array(words, pa.string()) for name, words in settings.vocabulary.items()}
        self._target = settings.target

    def encode(self, table: pa.Table, starts: Ints, into: list[Array], last_known: LastKnown | None = None) -> Faults:
        """Writes the table's rows into `into`, one array (row, ...) per input.

        `starts` are the first rows of the table's series; `last_known` is what is known of them from before.
        """
        faults = Faults()
        series = Series(starts, table.num_rows, last_known.values if last_known else {})
        for (contract, names), out in zip(self._inputs, into, strict=True):
            values = [self._values(table.column(name), name) for name in names]
            side_by_side = out[:, None] if out.ndim == 1 else out
            numeric = contract.kind == "numeric"
            finite = numeric and _write_floats(values, side_by_side)
            for index, name in enumerate(names):
                words = self.words.get(name)
                column = Column(name, values[index], contract, side_by_side[:, index], faults, words)
                missing = None if finite else gaps(column.out) if numeric else self._write_codes(column)
                self._settle(column, missing, series)
        return faults

    def last_known(self, inputs: list[Array], rows: Ints) -> LastKnown:
        """What is known behind encoded rows that are good: their own values."""
        known = {}
        for (contract, names), array in zip(self._inputs, inputs, strict=True):
            for index, name in enumerate(names):
                if contract.static or (name in self._fill and self._fill[name].previous):
                    known[name] = np.asarray(array[rows] if array.ndim == 1 else array[rows, index], np.float64)
        return LastKnown(known)

    def encode_targets(self, table: pa.Table, into: Array) -> None:
        """Writes the target columns into `into` (row, target); a null is NaN."""
        _write_floats([_opened(table.column(name)) for name in self._target], into)

    def _settle(self, column: Column, missing: Bools | None, series: Series) -> None:
        """Fills gaps of a column that is written, and refuses the rows that do not fit."""
        if missing is not None:
            missing = fill_missing(column, missing, self._fill.get(column.name), series)
        if missing is not None and column.contract.kind == "numeric":
            column.refuse(np.isinf(column.out), "infinite")
            column.out[missing] = 0  # what stands in a bad row is never scored, but must not poison a sum
        if column.contract.static:
            column.refuse(_changed(column, series), "not the same in all rows of its entity, as the model has it")

    def _values(self, column: ArrowColumn, name: str) -> ArrowColumn:
        """A column as numbers, or as its words where it has a vocabulary."""
        if name not in self.words:
            return _opened(column)
        return texts_of(as_plain(column) if pa.types.is_dictionary(column.type) else column)

    def _write_codes(self, column: Column) -> Bools | None:
        words, out = column.words, column.out
        for rows, chunk in _chunks(column.values):
            if words is not None:
                found = pc.index_in(chunk, value_set=words)
                out[rows] = pc.add(found.fill_null(-1), 1).to_numpy(zero_copy_only=False)
            else:
                _write_whole(column, rows, _as_float(chunk))
        if column.contract.vocabulary is not None:
            outside = (out < 0) | (out >= column.contract.vocabulary)
            column.refuse(outside, f"outside 0..{column.contract.vocabulary - 1}, the codes that the model knows")
            out[outside] = 0
        return null_mask(column.values)


def _write_whole(column: Column, rows: slice, codes: Array) -> None:
    whole = (codes == np.floor(codes)) & (codes > -(2**31)) & (codes < 2**31)
    column.out[rows] = np.where(whole, codes, 0)
    bad = np.zeros(len(column.out), np.bool_)
    bad[rows] = ~whole & ~np.isnan(codes)
    column.refuse(bad, "no whole number below 2**31")


def _write_floats(columns: Sequence[ArrowColumn], into: Array) -> bool:
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


def _opened(values: ArrowColumn) -> ArrowColumn:
    # Also a null that hides in a dictionary's values is a null then.
    opens = pa.types.is_dictionary(values.type) or isinstance(values.type, pa.BaseExtensionType)
    return as_plain(values) if opens else values


def _chunks(values: ArrowColumn) -> Iterator[tuple[slice, ArrowArray]]:
    row = 0
    for chunk in values.chunks:
        yield slice(row, row + len(chunk)), chunk
        row += len(chunk)


def _as_float(chunk: ArrowArray) -> Array:
    """Numbers of any kind as NumPy numbers; a null is NaN. Whole numbers stay exact up to 2**53."""
    kind = chunk.type
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.float64())
    return np.asarray(chunk.to_numpy(zero_copy_only=False))  # whole numbers with nulls come as float64


def _changed(column: Column, series: Series) -> Bools:
    """The rows whose value is not that of their entity's first row, which may stand in an earlier block."""
    first = column.out[series.begin]
    if column.name in series.before:
        known = series.before[column.name][series.of(np.ones(len(first), np.bool_))]
        first = np.where(np.isnan(known), first, known)
    return np.asarray(column.out != first)
