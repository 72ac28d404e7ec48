"""One file's footer and key columns -> its runs of keys.

Decides for every row whether it is good, bad or skipped, and where a run ends. Reads only the entity and time columns,
a batch at a time, so memory is bounded by a batch and by the number of runs, never by the file's rows; a run that goes
on over a batch's border is joined at the end. A row outside since and until is skipped, whatever else is wrong with it.
Columns that stand in the names of the file's folders count like its own.
Leaves what runs mean together to `cluster.core.inventory`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.inventory import BAD_TIME, KEY_PREFIX, NULL_ENTITY, NULL_TIME, FileRuns, SourceFile
from cluster.core.settings import InputSettings
from cluster.core.times import Flags, Ordinals, as_plain, compare, ordinals, parse_bound, table_ordinals
from cluster.errors import InputBroken, InputRefused
from cluster.runtime.partitions import Partitions, differing_row
from cluster.runtime.schema import check_columns, needed_columns
from cluster.runtime.source import describe_source, open_source, reading

BATCH_ROWS = 131_072


def scan_file(
    path: str, settings: InputSettings, batch_rows: int = BATCH_ROWS, partitions: Partitions | None = None
) -> FileRuns:
    """Find the runs of keys of one file; `partitions` are those of the whole input, by default of this file.

    Raises InputBroken where the file cannot be read, InputRefused where its columns do not fit.
    """
    partitions = partitions or Partitions.of([path])
    with open_source(path) as parquet:
        columns = check_columns(partitions.extend(parquet.schema_arrow, path), settings, path)
        _check_agreement(parquet, settings, path, partitions)
        file = describe_source(path, parquet.metadata)
        finder = _Finder.start(columns, settings)
        for keys, times in key_batches(parquet, settings, path=path, partitions=partitions, batch_rows=batch_rows):
            finder.add(keys, times)
    if finder.rows != file.rows:
        raise InputBroken(f"{path} holds {finder.rows:,} rows, but its footer says {file.rows:,}: write it again.")
    return finder.finish(file, columns)


def key_batches(
    parquet: Any, settings: InputSettings, *, path: str, partitions: Partitions, batch_rows: int
) -> Iterator[tuple[Any, Any]]:
    """Batches of (entity columns, time columns), two pa.Tables of equally many rows, in plain types and file order."""
    wanted = tuple(dict.fromkeys((*settings.entity, *settings.time)))
    for batch in _batches(parquet, path, wanted, batch_rows):
        whole = partitions.complete(batch, path, wanted)
        yield _columns(whole, settings.entity), _columns(whole, settings.time)


def _batches(parquet: Any, path: str, wanted: Sequence[str], batch_rows: int) -> Iterator[Any]:
    """A file's rows, with those of the wanted columns that it has itself."""
    own = [name for name in wanted if name in parquet.schema_arrow.names]
    batches = parquet.iter_batches(batch_size=batch_rows, columns=own, use_threads=False)
    while True:
        with reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _check_agreement(parquet: Any, settings: InputSettings, path: str, partitions: Partitions) -> None:
    """A needed column that stands in the file and in its folder's name must say the same in both."""
    named = partitions.values(path)
    twice = [name for name in needed_columns(settings) if name in named and name in parquet.schema_arrow.names]
    if not twice:
        return
    start = 0
    for batch in _batches(parquet, path, twice, BATCH_ROWS):
        for name in twice:
            column = as_plain(batch.column(name))
            row = differing_row(column, named[name])
            if row is not None:
                raise InputRefused(
                    f"Column {name!r} is {column[row]} in row {start + row} of {path}, but its folder says "
                    f"{named[name]}: rename one of them, or move the file to the folder of its rows."
                )
        start += batch.num_rows


def _columns(batch: Any, names: tuple[str, ...]) -> Any:
    return pa.table([as_plain(batch.column(name)) for name in names], names=list(names))


@dataclass(frozen=True)
class _Pieces:
    """The runs of one batch, the first of which may go on from the batch before."""

    keys: Any  # pa.Table (piece, entity columns)
    first: Any  # pa.Table (piece, time columns)
    last: Any  # pa.Table (piece, time columns)
    start: Ordinals  # (piece,)
    count: Ordinals  # (piece,)
    sorted: Flags  # (piece,) its border with the piece before included, where it goes on from it
    fresh: Flags  # (piece,) False where it goes on from the piece before


@dataclass
class _Finder:
    """Takes a file's batches in order; holds the runs found and the last good row."""

    entity: tuple[str, ...]
    time: tuple[str, ...]
    since: int | None  # ordinals of the first time column
    until: int | None
    pieces: list[_Pieces]  # never empty: the first one holds no rows, only types
    bad: list[Any] = field(default_factory=list)
    rows: int = 0  # seen so far
    ties: int = 0
    skipped: int = 0
    last_row: int = -2  # the last good row; -2 before the first one, which follows on nothing
    last_keys: Any = None  # pa.Table of one row: the last good row's
    last_times: Any = None

    @classmethod
    def start(cls, columns: Any, settings: InputSettings) -> _Finder:
        """A finder for files with these columns (pa.Schema, plain)."""
        time_type = columns.field(settings.time[0]).type
        since, until = settings.since, settings.until
        return cls(
            entity=settings.entity,
            time=settings.time,
            since=None if since is None else parse_bound(since, time_type, setting="input.since"),
            until=None if until is None else parse_bound(until, time_type, setting="input.until"),
            pieces=[_no_pieces(_select(columns, settings.entity), _select(columns, settings.time))],
        )

    def add(self, keys: Any, times: Any) -> None:
        """Take the next batch: its entity columns and its time columns."""
        moment, has_moment = ordinals(times.column(0), first=True)
        outside = has_moment & self._outside(moment)
        good = has_moment & _valid(keys) & _valid(times) & ~outside
        self.skipped += int(outside.sum())
        self._add_bad(keys, times, np.flatnonzero(~good & ~outside))
        if good.all():
            self._add_good(keys, times, np.arange(self.rows, self.rows + len(good), dtype=np.int64))
        elif good.any():
            mask = pa.array(good)
            self._add_good(keys.filter(mask), times.filter(mask), self.rows + np.flatnonzero(good).astype(np.int64))
        self.rows += len(good)

    def finish(self, file: SourceFile, columns: Any) -> FileRuns:
        """All that was found, pieces joined to runs."""
        joined = _join(self.pieces)
        return FileRuns(
            file=file,
            columns=columns,
            keys=joined.keys,
            row_start=joined.start,
            row_count=joined.count,
            first=joined.first,
            last=joined.last,
            sorted=joined.sorted,
            ties=self.ties,
            skipped=self.skipped,
            bad=pa.concat_tables(self.bad).combine_chunks() if self.bad else None,
        )

    def _outside(self, moment: Ordinals) -> Flags:
        outside = np.zeros(len(moment), np.bool_)
        if self.since is not None:
            outside |= moment < self.since
        if self.until is not None:
            outside |= moment >= self.until
        return outside

    def _add_bad(self, keys: Any, times: Any, rows: Ordinals) -> None:
        if len(rows) == 0:
            return
        null_entity, null_time = ~_valid(keys)[rows], ~_valid(times)[rows]
        reason = np.where(null_entity, NULL_ENTITY, np.where(null_time, NULL_TIME, BAD_TIME))
        found = keys.take(pa.array(rows)).rename_columns([KEY_PREFIX + name for name in self.entity])
        found = found.append_column("reason", pa.array(reason, pa.string()))
        self.bad.append(found.append_column("row", pa.array(self.rows + rows, pa.int64())))

    def _add_good(self, keys: Any, times: Any, rows: Ordinals) -> None:
        """Cut good rows (row,) into pieces: the row before them is put in front, so that all borders look alike."""
        before_keys = keys.slice(0, 1) if self.last_keys is None else self.last_keys
        before_times = times.slice(0, 1) if self.last_times is None else self.last_times
        fresh = _differs(pa.concat_tables([before_keys, keys]))
        fresh |= np.diff(rows, prepend=self.last_row) != 1
        moments = table_ordinals(pa.concat_tables([before_times, times]))
        falls, equal = compare([column[1:] for column in moments], [column[:-1] for column in moments])
        self.ties += int((equal & ~fresh).sum())
        self.pieces.append(_cut(keys, times, rows, fresh=fresh, falls=falls))
        self.last_row = int(rows[-1])
        self.last_keys, self.last_times = _last_row(keys), _last_row(times)


def _cut(keys: Any, times: Any, rows: Ordinals, *, fresh: Flags, falls: Flags) -> _Pieces:
    """Good rows (row,), with where runs begin and where time falls -> pieces."""
    begins = fresh.copy()
    begins[0] = True
    start = np.flatnonzero(begins).astype(np.int64)
    end = np.append(start[1:], len(rows)).astype(np.int64)
    return _Pieces(
        keys=keys.take(pa.array(start)),
        first=times.take(pa.array(start)),
        last=times.take(pa.array(end - 1)),
        start=rows[start],
        count=end - start,
        sorted=~np.logical_or.reduceat(falls & ~fresh, start),
        fresh=fresh[start],
    )


def _join(pieces: list[_Pieces]) -> _Pieces:
    """Pieces in file order -> runs: a piece that goes on from the one before is joined to it."""
    fresh = np.concatenate([piece.fresh for piece in pieces])
    start = np.flatnonzero(fresh).astype(np.int64)
    keys, first, last = (
        pa.concat_tables([getattr(piece, name) for piece in pieces]).combine_chunks()
        for name in ("keys", "first", "last")
    )
    if len(start) == 0:
        return pieces[0]
    end = np.append(start[1:], len(fresh)).astype(np.int64)
    whole = len(start) == len(fresh)
    return _Pieces(
        keys=keys if whole else keys.take(pa.array(start)),
        first=first if whole else first.take(pa.array(start)),
        last=last if whole else last.take(pa.array(end - 1)),
        start=np.concatenate([piece.start for piece in pieces])[start],
        count=np.add.reduceat(np.concatenate([piece.count for piece in pieces]), start),
        sorted=np.logical_and.reduceat(np.concatenate([piece.sorted for piece in pieces]), start),
        fresh=fresh[start],
    )


def _no_pieces(keys: Any, times: Any) -> _Pieces:
    none, no_flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return _Pieces(keys.empty_table(), times.empty_table(), times.empty_table(), none, none, no_flags, no_flags)


def _select(columns: Any, names: tuple[str, ...]) -> Any:
    return pa.schema([columns.field(name) for name in names])


def _valid(table: Any) -> Flags:
    """Which rows (row,) have no null in any column."""
    valid = np.ones(table.num_rows, np.bool_)
    for column in table.columns:
        if column.null_count:
            valid &= column.is_valid().to_numpy()
    return valid


def _differs(keys: Any) -> Flags:
    """Keys (1 + row, entity columns) -> which rows (row,) have another key than the one before."""
    differs = np.zeros(keys.num_rows - 1, np.bool_)
    for column in keys.columns:
        whole = column.combine_chunks()
        differs |= pc.not_equal(whole[1:], whole[:-1]).to_numpy(zero_copy_only=False)
    return differs


def _last_row(table: Any) -> Any:
    """A copy of the last row, which does not keep its batch in memory."""
    return table.take(pa.array([table.num_rows - 1]))
