"""A model's inputs for one entity, made from its rows by the audit's own code: what a run's encoder is held against.

What it decides, as the guides say it: the code of a word, what a null becomes, which row does not fit and ends the
entity. Each part of the rows comes with the types of its own file. Written for one entity at a time, column by column,
without regard for speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray
from cluster.core.settings import CHUNK_COUNT, CHUNK_INDEX, CONTEXT, LENGTH, InputSettings
from cluster.runtime.audit.own_values import as_float32, numbers_in, spelt
from lstm_core.array_types import Array, Bools, Doubles, Ints
from lstm_core.contract.model_contract import InputContract

Known = Mapping[str, float | str | None]  # what an earlier run has left of a column: its last value, as it stands there


@dataclass
class _Column:
    """One column on its way into one input."""

    name: str
    contract: InputContract
    values: Doubles  # (row,) numbers, or codes; numbers are those of float32
    missing: Bools  # (row,) null or NaN
    unfit: Bools  # (row,)


@dataclass
class EntityFeatures:
    """Takes an entity's rows in any order, part by part, and gives what the model is to be called with."""

    settings: InputSettings
    inputs: tuple[InputContract, ...]
    rows: int
    lost: Bools = field(init=False)  # (row,) nobody can read it
    _columns: list[list[_Column]] = field(init=False)  # of each input

    def __post_init__(self) -> None:
        names = dict(self.settings.features)
        self.lost = np.zeros(self.rows, np.bool_)
        self._columns = [[self._column(name, spec) for name in names[spec.name]] for spec in self.inputs]

    def _column(self, name: str, spec: InputContract) -> _Column:
        return _Column(name, spec, np.zeros(self.rows), np.zeros(self.rows, np.bool_), np.zeros(self.rows, np.bool_))

    def put(self, rows: Ints, table: pa.Table) -> None:
        """A part of the entity's rows: its features, in the types of their file."""
        for column in (column for columns in self._columns for column in columns):
            if column.name not in CONTEXT:
                values, missing, unfit = self._read(column, table.column(column.name).combine_chunks())
                column.values[rows], column.missing[rows], column.unfit[rows] = values, missing, unfit

    def arrays(self, known: Known, entity_rows: int) -> tuple[list[Array], int]:
        """One array (row, ...) for each input, and how many rows from the first one on fit.

        `known` is what an earlier run has left of the entity, which has `entity_rows` rows tonight.
        """
        unfit = self.lost.copy()
        for column in (column for columns in self._columns for column in columns):
            if column.name in CONTEXT:
                column.values[:] = self._context(column.name, entity_rows)
            else:
                unfit |= self._settle(column, known.get(column.name))
        bad = np.flatnonzero(unfit)
        return [_packed(columns) for columns in self._columns], int(bad[0]) if len(bad) else self.rows

    def _read(self, column: _Column, array: ArrowArray) -> tuple[Array, Bools, Bools]:
        fits = np.zeros(len(array), np.bool_)
        if column.name in self.settings.vocabulary:
            words = list(map(str.encode, self.settings.vocabulary[column.name]))
            return _codes(array, words), ~array.is_valid().to_numpy(zero_copy_only=False), fits
        values, missing = numbers_in(array)
        if column.contract.kind == "numeric":
            return as_float32(values), missing, fits
        return values, missing, ~missing & ~_is_code(values)

    def _settle(self, column: _Column, known: float | str | None) -> Bools:
        """Fills what is missing; returns the rows (row,) that do not fit."""
        unfit = column.unfit | self._fill(column, known)
        if column.contract.kind == "numeric":
            unfit |= ~np.isfinite(column.values)
        elif column.contract.vocabulary is not None:
            unfit |= (column.values < 0) | (column.values >= column.contract.vocabulary)
        if column.contract.static and self.rows:
            unfit |= column.values != (column.values[0] if known is None else self._number(column, known))
        return unfit

    def _fill(self, column: _Column, known: float | str | None) -> Bools:
        fill = self.settings.fill.get(column.name)
        if fill is None:
            return column.missing
        if not fill.previous:
            assert fill.value is not None, f"fill of {column.name} has no value"
            column.values[column.missing] = self._number(column, fill.value)
            return np.zeros(self.rows, np.bool_)
        unknown = np.zeros(self.rows, np.bool_)
        before = None if known is None else self._number(column, known)
        for row in range(self.rows):
            if not column.missing[row]:
                before = float(column.values[row])
            elif before is not None:
                column.values[row] = before
            else:
                unknown[row] = True
        return unknown

    def _number(self, column: _Column, value: float | str) -> float:
        """A value of a fill or of carry-over as it stands in an input."""
        if isinstance(value, str):
            words = self.settings.vocabulary.get(column.name, ())
            return float(words.index(value) + 1) if value in words else 0.0
        return float(value) if column.contract.kind == "categorical" else float(as_float32(np.array(value, np.float64)))

    def _context(self, name: str, entity_rows: int) -> Ints | int:
        chunk = self.settings.chunk
        assert chunk, "context is of chunks"
        if name == CHUNK_INDEX:
            return np.arange(self.rows) // chunk
        if name == CHUNK_COUNT:
            whole_only = self.settings.window is not None and self.settings.tail == "drop"
            return entity_rows // chunk if whole_only else -(-entity_rows // chunk)
        assert name == LENGTH, name
        return entity_rows


def _codes(array: ArrowArray, words: Sequence[bytes]) -> Ints:
    """The place of each value (row,) among the words, counted from 1; 0 for what is none of them."""
    texts = spelt(_as_written(array))
    place = pc.index_in(texts, value_set=pa.array(words, pa.large_binary()))
    return np.asarray(place.fill_null(-1).to_numpy(zero_copy_only=False), np.int64) + 1


def _as_written(array: ArrowArray) -> ArrowArray:
    """Dates, times and decimals as Arrow writes them, with all their digits, as a vocabulary names them."""
    of_its_own = pa.types.is_temporal(array.type) or pa.types.is_decimal(array.type)
    return array.cast(pa.string()) if of_its_own else array


def _is_code(values: Array) -> Bools:
    numbers = values.astype(np.float64)
    return np.asarray((numbers == np.floor(numbers)) & (numbers > -(2**31)) & (numbers < 2**31))


def _packed(columns: Sequence[_Column]) -> Array:
    spec = columns[0].contract
    with np.errstate(invalid="ignore"):  # what stands in a row that does not fit is never scored
        stacked = np.stack([column.values for column in columns], axis=1).astype(spec.dtype)
    return stacked if spec.rank == 3 else stacked[:, 0]
