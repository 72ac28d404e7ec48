"""Rows of files some of whose data pages are damaged: the keys where the features cannot be read.

What it decides: which rows are lost with a damaged page (those of its row group), and that they come with their keys
and times, which planning could read, with nulls for all else, and with a reason, so that their entities are scored up
to there and are in quarantine from there on. A file that is gone, changed or out of reach is no damage: it ends the
run. In buckets the pre-pass has marked such rows by their place, below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.settings import InputSettings
from cluster.run_errors import InputDamaged, RunFailed
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.rows.row_origins import InputFiles
from lstm_core.array_types import Bools, Ints

DAMAGED = "the row cannot be read: its file is damaged there"


@dataclass(frozen=True)
class ReadRows:
    """Some rows, and which of them are lost."""

    table: pa.Table
    lost: Bools | None  # (row,); None where none is


class TolerantReader:
    """Reads rows of a plan's files; implements no more than `BlockReader` needs."""

    def __init__(self, files: InputFiles, columns: tuple[str, ...], settings: InputSettings, cache_bytes: int) -> None:
        self._marked = bool(files.sources)
        self._files, self._settings = files, settings
        self._columns = columns
        self._rows = files.open((*columns, files.origin[1]) if self._marked else columns, cache_bytes=cache_bytes)

    def rows(self, file: int, start: int, stop: int) -> ReadRows:
        """The rows start..stop of a file. Raises `InputBroken`, `InputDamaged` where damage is to end the run."""
        try:
            table = self._rows.rows(file, start, stop)
        except InputDamaged as damage:
            if not isinstance(self._rows, RowGroups):
                raise
            if self._marked:
                raise RunFailed(_of_bucket(self._files.files[file])) from damage
            if self._settings.bad_entity == "fail":
                raise
            return self._by_groups(self._rows, file, start, stop)
        if not self._marked:
            return ReadRows(table, None)
        lost = table.column(self._files.origin[1]).to_numpy() < 0
        return ReadRows(table.select(list(self._columns)), lost if lost.any() else None)

    def _by_groups(self, groups: RowGroups, file: int, start: int, stop: int) -> ReadRows:
        borders = groups.borders(file)
        cuts = np.unique(np.clip(borders, start, stop))
        parts, lost = [], []
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            try:
                parts.append(groups.rows(file, low, high))
                lost.append(np.zeros(high - low, np.bool_))
            except InputDamaged:
                parts.append(with_nulls(self._keys(file, low, high), groups.schema))
                lost.append(np.ones(high - low, np.bool_))
        return ReadRows(pa.concat_tables(parts), np.concatenate(lost))

    def _keys(self, file: int, start: int, stop: int) -> pa.Table:
        """Entities and times, which the plan was made from; where these are damaged now, that ends the run."""
        names = tuple(dict.fromkeys((*self._settings.entity, *self._settings.time)))
        return self._files.open(names, cache_bytes=0).rows(file, start, stop)


def _of_bucket(path: str) -> str:
    """What is said of a bucket that is damaged: the input is not to blame."""
    folder = path.rpartition("/")[0]
    return (
        f"{path}, a temporary file of this run, is damaged: remove the folders {folder} and "
        f"{folder.rpartition('/')[0]}/plan, and the same command clusters the input again."
    )


def with_nulls(keys: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with all columns of a schema, those that it lacks as nulls."""
    columns = [
        keys.column(field.name).cast(field.type) if field.name in keys.column_names else pa.nulls(len(keys), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def lost_rows(found: Sequence[ReadRows]) -> Ints | None:
    """Where the lost rows (row,) stand when tables follow each other; None where none is."""
    if all(part.lost is None for part in found):
        return None
    flags = [np.zeros(part.table.num_rows, np.bool_) if part.lost is None else part.lost for part in found]
    return np.flatnonzero(np.concatenate(flags))
