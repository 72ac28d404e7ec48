"""One file's footer and key columns -> its extents.

Decides where an extent ends, and whether an entity comes back after rows of another one. Reads only the entity and time
columns, a batch at a time, so memory is bounded by a batch and by the number of extents, never by the file's rows; an
extent that goes on over a batch's border is joined at the end. Of a file that is seen to be interleaved the extents are
added up by entity. Columns that stand in the names of the file's folders count like its own.
Leaves what extents mean together to `cluster.core.plan.inventory`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowValues
from cluster.core.entity_keys import describe_entity, number_keys
from cluster.core.plan.column_types import LikeFiles
from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import FileExtents, Interleaved, SourceFile
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import InputSettings
from cluster.core.times import as_plain, compare, table_ordinals
from cluster.run_errors import InputDamaged, InputRefused, InputUnsupported
from cluster.runtime.input.column_checks import file_types, fits_keys, needed_columns, refuse_encrypted
from cluster.runtime.input.folder_agreement import differing_row, shown
from cluster.runtime.input.int96_times import check_int96
from cluster.runtime.input.row_checks import RowChecks
from cluster.runtime.input.source_files import InputParquet, describe_source, group_batches, open_source
from lstm_core.array_types import Bools, Ints

BATCH_ROWS = 131_072
INTERLEAVED_EXTENTS_MAX = (
    65_536  # extents that are remembered of a file known to be interleaved, before they are added up
)


def scan_file(
    path: str,
    settings: InputSettings,
    batch_rows: int = BATCH_ROWS,
    partitions: Partitions | None = None,
    until_interleaved: bool = False,
) -> FileExtents:
    """Find the extents of one file; `partitions` are those of the whole input, by default of this file.

    With `until_interleaved` an interleaved file is read until that is known: what was found is a part of it then.
    Raises InputBroken where the file cannot be read, InputRefused where its columns do not fit.
    """
    partitions = partitions or Partitions.of(FileList((path,)), settings)
    with open_source(path, settings.storage, settings.entity, checksums=settings.page_checksums) as parquet:
        try:
            return _scan(parquet, path, settings, partitions, (batch_rows, until_interleaved))
        except (InputDamaged, InputUnsupported):
            if not parquet.dictionaries:
                raise
    # Some pages of text can be read, only not as a dictionary.
    with open_source(path, settings.storage, checksums=settings.page_checksums) as parquet:
        return _scan(parquet, path, settings, partitions, (batch_rows, until_interleaved))


def _scan(
    parquet: InputParquet, path: str, settings: InputSettings, partitions: Partitions, how: tuple[int, bool]
) -> FileExtents:
    """As `scan_file`, of an open file; `how` is how many rows a batch has, and whether to stop early."""
    batch_rows, until_interleaved = how
    file, types = _described(parquet, settings, path, partitions)
    finder = _Finder.start(types.plain, settings)
    if not file.rows or not fits_keys(types.plain, settings):  # no keys, or none that can be read: see `check_keys`
        return finder.finish(file, types)
    for keys, times in key_batches(parquet, settings, path=path, partitions=partitions, batch_rows=batch_rows):
        finder.add(keys, times)
        if until_interleaved and finder.interleaved:
            return finder.finish(file, types)
    check_int96(path, settings, parquet.schema)
    assert finder.rows == file.rows, f"{finder.rows} rows of {path}, whose row groups have {file.rows}"
    return finder.finish(file, types)


def describe_file(path: str, settings: InputSettings, partitions: Partitions) -> tuple[SourceFile, LikeFiles]:
    """One file's footer, and its needed columns.

    Raises InputBroken where the file cannot be read, InputRefused where its columns do not fit.
    """
    with open_source(path, settings.storage, checksums=settings.page_checksums) as parquet:
        found = _described(parquet, settings, path, partitions)
        check_int96(path, settings, parquet.schema)
        return found


def _described(
    parquet: InputParquet, settings: InputSettings, path: str, partitions: Partitions
) -> tuple[SourceFile, LikeFiles]:
    file = describe_source(path, parquet.metadata, settings.storage)
    schema = _own_schema(parquet, settings.entity)
    types = file_types(schema, settings, path, rows=file.rows, partitions=partitions)
    refuse_encrypted(parquet, settings, path)
    _check_agreement(parquet, settings, path, partitions)
    return file, types


def _own_schema(parquet: InputParquet, repeating: Sequence[str]) -> pa.Schema:
    """A file's columns, also where it was opened so that text is read as a dictionary, which may be another text."""
    schema = parquet.schema_arrow
    for index in [index for name in repeating for index in schema.get_all_field_indices(name)]:
        if pa.types.is_dictionary(schema.field(index).type):
            schema = schema.set(index, parquet.metadata.schema.to_arrow_schema().field(index))
    return schema


def key_batches(
    parquet: InputParquet, settings: InputSettings, *, path: str, partitions: Partitions, batch_rows: int
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Batches of (entity columns, time columns), equally many rows of both, in file order.

    Times are of plain types, entities too or dictionaries of such: they are opened where few rows of them are left.
    """
    wanted = tuple(dict.fromkeys((*settings.entity, *settings.time)))
    for batch in _batches(parquet, path, wanted, batch_rows):
        whole = partitions.complete(batch, path, wanted)
        keys = [_key_column(whole.column(name)) for name in settings.entity]
        yield pa.table(keys, names=list(settings.entity)), _columns(whole, settings.time)


def _batches(parquet: InputParquet, path: str, wanted: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """A file's rows, with those of the wanted columns that it has itself; small row groups come together."""
    own = [name for name in wanted if name in parquet.schema_arrow.names]
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for group in range(parquet.num_row_groups):
        for batch in group_batches(parquet, path, group, own, batch_rows=batch_rows):
            if waiting and (rows + batch.num_rows > batch_rows or not own):
                yield _together(waiting)
                waiting, rows = [], 0
            waiting.append(batch)
            rows += batch.num_rows
    if waiting:
        yield _together(waiting)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _check_agreement(parquet: InputParquet, settings: InputSettings, path: str, partitions: Partitions) -> None:
    """A needed column that stands in the file and in its folder's name must say the same in both."""
    if partitions.of_table(path) is not None:
        return
    named, needed = dict(partitions.spelled(path)), needed_columns(settings)
    twice = [name for name in needed if name in named and name in parquet.schema_arrow.names]
    if not twice:
        return
    start = 0
    for batch in _batches(parquet, path, twice, BATCH_ROWS):
        for name in twice:
            column = as_plain(batch.column(name))
            row = differing_row(column, named[name])
            if row is not None:
                said = "null" if named[name] is None else named[name]
                raise InputRefused(
                    f"Column {name!r} is {shown(column, row)} in row {start + row} of {path}, but its folder says "
                    f"{said}: rename one of them, or move the file to the folder of its rows."
                )
        start += batch.num_rows


def _key_column(column: ArrowArray) -> ArrowValues:
    """A column by whose dictionary rows can be told apart, or a plain one."""
    return column if isinstance(column, pa.DictionaryArray) and not column.dictionary.null_count else as_plain(column)


def _opened(keys: pa.Table) -> pa.Table:
    return _columns(keys, tuple(keys.column_names))


def _columns(batch: pa.Table | pa.RecordBatch, names: tuple[str, ...]) -> pa.Table:
    return pa.table([as_plain(batch.column(name)) for name in names], names=list(names))


@dataclass(frozen=True)
class _PartialExtents:
    """The extents of one batch, the first of which may go on from the batch before."""

    keys: pa.Table  # (part, entity columns)
    first: pa.Table  # (part, time columns)
    last: pa.Table  # (part, time columns)
    start: Ints  # (part,)
    count: Ints  # (part,)
    sorted: Bools  # (part,) its border with the part before included, where it goes on from it
    fresh: Bools  # (part,) False where it goes on from the part before


@dataclass
class _Finder:
    """Takes a file's batches in order; holds the extents found and the last good row."""

    judge: RowChecks
    parts: list[_PartialExtents]  # never empty: the first one holds no rows, only types
    bad: list[pa.Table] = field(default_factory=list)
    rows: int = 0  # seen so far
    ties: int = 0
    skipped: int = 0
    interleaved: Interleaved | None = None  # the first entity that was seen to come back
    gathered: bool = False  # the extents were added up by entity
    last_row: int = -2  # the last good row; -2 before the first one, which follows on nothing
    last_keys: pa.Table | None = None  # one row: the last good one
    last_times: pa.Table | None = None

    @classmethod
    def start(cls, columns: pa.Schema, settings: InputSettings) -> _Finder:
        """A finder for files with these plain columns."""
        nothing = _no_extents(_select(columns, settings.entity), _select(columns, settings.time))
        return cls(RowChecks.of(columns, settings), [nothing])

    def add(self, keys: pa.Table, times: pa.Table) -> None:
        """Take the next batch: its entity columns and its time columns."""
        verdict = self.judge.judge(keys, times, self.rows)
        self.skipped += verdict.skipped
        if verdict.bad is not None:
            self.bad.append(verdict.bad)
        good = verdict.good
        if good.all():
            self._add_good(keys, times, np.arange(self.rows, self.rows + len(good), dtype=np.int64))
        elif good.any():
            mask = pa.array(good)
            self._add_good(keys.filter(mask), times.filter(mask), self.rows + np.flatnonzero(good).astype(np.int64))
        self.rows += len(good)

    def finish(self, file: SourceFile, types: LikeFiles) -> FileExtents:
        """All that was found, parts joined to extents."""
        joined = self.parts[0] if len(self.parts) == 1 else _join(self.parts)
        return FileExtents(
            file=file,
            types=types,
            keys=joined.keys,
            row_start=joined.start,
            row_count=joined.count,
            first=joined.first,
            last=joined.last,
            sorted=joined.sorted,
            ties=self.ties,
            skipped=self.skipped,
            bad=pa.concat_tables(self.bad).combine_chunks() if self.bad else None,
            interleaved=self.interleaved if self.gathered or self.rows < file.rows else None,
        )

    def _add_good(self, keys: pa.Table, times: pa.Table, rows: Ints) -> None:
        """Cut good rows (row,) into parts: the row before them is put in front, so that all borders look alike."""
        first = _opened(keys.slice(0, 1))
        before_keys = first if self.last_keys is None else self.last_keys
        before_times = times.slice(0, 1) if self.last_times is None else self.last_times
        fresh = np.append(_differs(pa.concat_tables([before_keys, first])), _differs(keys))
        fresh |= np.diff(rows, prepend=self.last_row) != 1
        moments = table_ordinals(pa.concat_tables([before_times, times]))
        falls, equal = compare([column[1:] for column in moments], [column[:-1] for column in moments])
        self.ties += int((equal & ~fresh).sum())
        self.parts.append(_cut(keys, times, rows, fresh=fresh, falls=falls))
        self.interleaved = self.interleaved or _find_interleaved(self.parts[-1])
        if self.interleaved and sum(len(part.start) for part in self.parts) > INTERLEAVED_EXTENTS_MAX:
            self.parts, self.gathered = [_gathered(self.parts)], True
        self.last_row = int(rows[-1])
        self.last_keys, self.last_times = _opened(_last_row(keys)), _last_row(times)


def _cut(keys: pa.Table, times: pa.Table, rows: Ints, *, fresh: Bools, falls: Bools) -> _PartialExtents:
    """Good rows (row,), with where extents begin and where time falls -> parts."""
    begins = fresh.copy()
    begins[0] = True
    start = np.flatnonzero(begins).astype(np.int64)
    end = np.append(start[1:], len(rows)).astype(np.int64)
    return _PartialExtents(
        keys=_opened(keys.take(start)),
        first=times.take(start),
        last=times.take(end - 1),
        start=rows[start],
        count=end - start,
        sorted=~np.logical_or.reduceat(falls & ~fresh, start),
        fresh=fresh[start],
    )


def _join(parts: list[_PartialExtents]) -> _PartialExtents:
    """Parts in file order -> extents: a part that goes on from the one before is joined to it."""
    fresh = np.concatenate([part.fresh for part in parts])
    start = np.flatnonzero(fresh).astype(np.int64)
    keys, first, last = (
        pa.concat_tables([getattr(part, name) for part in parts]).combine_chunks() for name in ("keys", "first", "last")
    )
    if len(start) == 0:
        return parts[0]
    end = np.append(start[1:], len(fresh)).astype(np.int64)
    whole = len(start) == len(fresh)
    return _PartialExtents(
        keys=keys if whole else keys.take(start),
        first=first if whole else first.take(start),
        last=last if whole else last.take(end - 1),
        start=np.concatenate([part.start for part in parts])[start],
        count=np.add.reduceat(np.concatenate([part.count for part in parts]), start),
        sorted=np.logical_and.reduceat(np.concatenate([part.sorted for part in parts]), start),
        fresh=fresh[start],
    )


def _find_interleaved(parts: _PartialExtents) -> Interleaved | None:
    """The first entity of a batch that comes back after rows of another one."""
    numbers, keys = number_keys(parts.keys)
    visit = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    if len(visit) == keys.num_rows:
        return None
    seen = np.unique(numbers[visit], return_index=True)[1]
    again = visit[np.setdiff1d(np.arange(len(visit)), seen)[0]]
    before = visit[numbers[visit] == numbers[again]][0]
    places = tuple((int(parts.start[place]), int(parts.count[place])) for place in (before, again))
    return Interleaved(describe_entity(keys, int(numbers[again])), places[0], places[1])


def _gathered(parts: list[_PartialExtents]) -> _PartialExtents:
    """The parts of an interleaved file with one part for each entity: where they lie is of no use, how many rows is."""
    numbers, keys = number_keys(pa.concat_tables([part.keys for part in parts]))
    first = np.unique(numbers, return_index=True)[1]
    count = np.zeros(keys.num_rows, np.int64)
    np.add.at(count, numbers, np.concatenate([part.count for part in parts]))
    times = pa.concat_tables([part.first for part in parts]).take(first)
    start = np.concatenate([part.start for part in parts])[first]
    ones = np.ones(len(first), np.bool_)
    return _PartialExtents(keys.combine_chunks(), times, times, start, count, ~ones, ones)


def _no_extents(keys: pa.Schema, times: pa.Schema) -> _PartialExtents:
    none, no_flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return _PartialExtents(keys.empty_table(), times.empty_table(), times.empty_table(), none, none, no_flags, no_flags)


def _select(columns: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([columns.field(name).with_nullable(True) for name in names])


def _differs(keys: pa.Table) -> Bools:
    """Keys (1 + row, entity columns) -> which rows (row,) have another key than the one before."""
    differs = np.zeros(keys.num_rows - 1, np.bool_)
    for column in keys.columns:
        whole = column.combine_chunks()
        if isinstance(whole, pa.DictionaryArray):
            places = whole.indices.to_numpy()
            differs |= places[1:] != places[:-1]
        else:
            differs |= pc.not_equal(whole[1:], whole[:-1]).to_numpy(zero_copy_only=False)
    return differs


def _last_row(table: pa.Table) -> pa.Table:
    """A copy of the last row, which does not keep its batch in memory."""
    return table.take(pa.array([table.num_rows - 1]))
