"""What the input holds: which entities, how many rows each, where they lie, and whether they lie in order.

Decides, from the extents that scans of single files found, the entities, the order of their extents, and the layout.
The layout is checked, never believed, and does not depend on the order in which files were listed or scanned. An extent
is a range of consecutive rows of one entity in one file.

Limits it sets. An input is *clustered* when, inside every file, an entity's rows have no other entity's rows between
them (bad and skipped rows may lie between), and when either the extents of an entity follow each other in time, or
they are neighbours in file order. All else is *interleaved*. An entity of a clustered input that is not in order of
time has `sorted` False and its extents in file order: whoever reads it sorts all its rows, stably. Leaves files,
shards and row values alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowField, ArrowScalar
from cluster.core.entity_keys import KEY_PREFIX, describe_entity, number_keys
from cluster.core.plan.column_conversion import converted
from cluster.core.plan.column_types import LikeFiles, by_types, plain_schema
from cluster.core.plan.partitions import NO_PARTITIONS, Partitions
from cluster.core.times import Ordinals, compare, table_ordinals
from lstm_core.array_types import Bools, Ints
from lstm_core.shown_text import utf8

FoundLayout = Literal["clustered", "interleaved"]
NULL_ENTITY, NULL_TIME, BAD_TIME = "null_entity", "null_time", "bad_time"
UNREAD = "is truncated or no Parquet file"


@dataclass(frozen=True)
class SourceFile:
    """One file of the input, as its footer and the file system told at planning."""

    path: str
    rows: int
    size_bytes: int
    modified_ns: int
    row_group_rows: tuple[int, ...]


@dataclass(frozen=True)
class Interleaved:
    """An entity of one file that comes back after rows of another one."""

    entity: str  # as a user writes it
    before: tuple[int, int]  # first row and number of rows
    again: tuple[int, int]


@dataclass(frozen=True)
class FileExtents:
    """The extents of one file: stretches of consecutive rows of one entity that are good and asked for."""

    file: SourceFile
    types: LikeFiles  # of the columns that the run needs
    keys: pa.Table  # (extent, entity columns)
    row_start: Ints  # (extent,) row in the file
    row_count: Ints  # (extent,)
    first: pa.Table  # (extent, time columns): the time of the extent's first row
    last: pa.Table  # (extent, time columns): the time of the extent's last row
    sorted: Bools  # (extent,) times never fall inside the extent
    ties: int  # rows whose time equals that of the row before them in their extent
    skipped: int  # rows outside since and until
    bad: pa.Table | None  # (bad row, key__ columns + reason + row)
    interleaved: Interleaved | None = (
        None  # set: the file is interleaved, and its extents are not all here, or added up by entity
    )


@dataclass(frozen=True)
class JoinedExtents:
    """The extents of many files, as one table: of 100,000 small files a table each would not fit in memory."""

    files: tuple[SourceFile, ...]  # sorted by path
    types: tuple[LikeFiles, ...]  # the files again, by the types of all columns; keys and times have the same in all
    file_extents: Ints  # (file,) how many extents are each file's
    keys: pa.Table  # (extent, entity columns); this and all below in file order
    row_start: Ints  # (extent,)
    row_count: Ints  # (extent,)
    first: pa.Table  # (extent, time columns)
    last: pa.Table  # (extent, time columns)
    sorted: Bools  # (extent,)
    ties: int
    skipped: int
    bad: pa.Table  # (bad row, key__ columns + reason + file + row)
    interleaved: tuple[str, Interleaved] | None  # of the first file that is known to be interleaved, after its path


@dataclass(frozen=True)
class LostFile:
    """A file that cannot be read."""

    path: str
    entity: tuple[ArrowScalar, ...]  # what stands beside it of the entity's columns
    fault: str  # the sentence that ends the run where it must end
    what: str = UNREAD  # in a few words, to go on from its name


@dataclass(frozen=True)
class LostFiles:
    """All of an input, with the entities that they are known to hold."""

    files: tuple[LostFile, ...]  # sorted by path
    keys: pa.Table  # (lost file, entity columns), in the types of the readable files
    entity: Ints  # (lost file,) number in the inventory, -1 where the entity is gone

    @cached_property
    def _broken(self) -> tuple[Ints, pa.StringArray]:
        """The entities (broken,) that have rows at hand, rising, and why each is in quarantine (broken,)."""
        known = np.flatnonzero(self.entity >= 0)
        entities, first, count = np.unique(self.entity[known], return_index=True, return_counts=True)
        places = zip(known[first].tolist(), count.tolist(), strict=True)
        return entities, pa.array([why_lost(self.files[file], more - 1) for file, more in places], pa.string())

    def reasons(self, entities: Ints) -> pa.StringArray:
        """Why entities (entity,) are in quarantine from their first row on (entity,); null for all others."""
        broken, reasons = self._broken
        if not len(broken):
            return pa.nulls(len(entities), pa.string())
        place = np.minimum(np.searchsorted(broken, entities), len(broken) - 1)
        return reasons.take(pa.array(place, pa.int64(), mask=broken[place] != entities))

    @property
    def gone(self) -> Ints:
        """One lost file (gone entity,) of each entity that is gone."""
        without = np.flatnonzero(self.entity < 0)
        numbers, _ = number_keys(self.keys.take(without))
        return without[np.unique(numbers, return_index=True)[1]]

    @property
    def table(self) -> pa.Table:
        """The files by entity (lost file, key__ columns + file + reason)."""
        keys = self.keys.rename_columns([KEY_PREFIX + name for name in self.keys.column_names])
        keys = keys.append_column("file", pa.array([utf8(file.path) for file in self.files], pa.string()))
        return keys.append_column("reason", pa.array([why_lost(file) for file in self.files], pa.string()))


def why_lost(file: LostFile, more: int = 0) -> str:
    """Why an entity is in quarantine: a file of it, and how many more of them, cannot be read."""
    others = f"; {more:,} more of its files cannot be read" if more else ""
    return utf8(f"{file.path}, which holds rows of the entity, {file.what}{others}")


@dataclass(frozen=True)
class Inventory:
    """The entities of the input and where their rows lie; entities are numbered in file order."""

    files: tuple[SourceFile, ...]  # sorted by path
    columns: pa.Schema  # the columns that the run needs, in their plain types
    times: tuple[str, ...]
    keys: pa.Table  # (entity, entity columns)
    entity_rows: Ints  # (entity,)
    sorted: Bools  # (entity,) extents and rows are in order of time
    extent_entity: Ints  # (extent,) rising
    extent_file: Ints  # (extent,) index into files
    extent_start: Ints  # (extent,) row in the file
    extent_count: Ints  # (extent,) rows
    layout: FoundLayout
    reason: str  # why this layout
    ties: int  # rows whose time equals that of the row before them, as far as neighbours tell
    skipped: int
    bad: pa.Table  # (bad row, key__ columns + reason + file + row)
    sources: tuple[SourceFile, ...] = ()  # the input's own files, where `files` are those that a pre-pass made of them
    lost: LostFiles | None = None  # beside `files`: those that cannot be read, where there are any
    partitions: Partitions = NO_PARTITIONS  # what stands beside the input's own files
    types: pa.Schema | None = None  # in which all files of the input are read, where they have not all the same

    @property
    def rows_in(self) -> int:
        """All rows of all files of the input."""
        return sum(file.rows for file in self.sources or self.files)


@dataclass(frozen=True)
class _Extents:
    """The extents of all files in file order, with entities and times as numbers."""

    entity: Ints  # (extent,) numbered by first appearance
    file: Ints  # (extent,)
    start: Ints  # (extent,)
    count: Ints  # (extent,)
    first: list[Ordinals]  # one (extent,) per time column
    last: list[Ordinals]
    sorted: Bools  # (extent,)
    entities: int


def build_inventory(scans: Sequence[FileExtents]) -> Inventory:
    """All files' extents -> the inventory; their keys and times are of the same types."""
    return inventory_of(join_alike(scans))


def join_alike(scans: Sequence[FileExtents]) -> list[JoinedExtents]:
    """Single files' extents, in order of path; those of neighbours with the same types of keys and times as one."""
    runs: list[list[FileExtents]] = []
    for scan in sorted(scans, key=lambda scan: scan.file.path):
        if runs and (_is_alike(runs[-1][0], scan) or not _has_keys(scan)):
            runs[-1].append(scan)
        elif runs and not any(map(_has_keys, runs[-1])):
            runs[-1].insert(0, scan)  # whose types are the run's: what is before it has nothing of them
        else:
            runs.append([scan])
    return [_join_files(run) for run in runs]


def _is_alike(one: FileExtents, other: FileExtents) -> bool:
    return bool(one.keys.schema.equals(other.keys.schema) and one.first.schema.equals(other.first.schema))


def _has_keys(scan: FileExtents) -> bool:
    return len(scan.row_start) > 0 or scan.bad is not None


def _join_files(scans: Sequence[FileExtents]) -> JoinedExtents:
    """The first one has the types of all that have keys."""
    types, scans = scans[0], sorted(scans, key=lambda scan: scan.file.path)
    return JoinedExtents(
        files=tuple(scan.file for scan in scans),
        types=by_types(scan.types for scan in scans),
        file_extents=np.array([len(scan.row_start) for scan in scans], np.int64),
        ties=sum(scan.ties for scan in scans),
        skipped=sum(scan.skipped for scan in scans),
        bad=join_bad(types.keys.schema, [_place_bad(scan) for scan in scans if scan.bad is not None]),
        interleaved=next(((scan.file.path, scan.interleaved) for scan in scans if scan.interleaved is not None), None),
        **_concatenated([scan for scan in scans if len(scan.row_start)] or [types]),
    )


def _join_joined(parts: Sequence[JoinedExtents]) -> JoinedExtents:
    """The same of extents that are joined already, each of files of its own between whose paths no other's lie."""
    parts = sorted(parts, key=lambda part: part.files[0].path)
    return JoinedExtents(
        files=tuple(file for part in parts for file in part.files),
        types=by_types(types for part in parts for types in part.types),
        file_extents=np.concatenate([part.file_extents for part in parts]),
        ties=sum(part.ties for part in parts),
        skipped=sum(part.skipped for part in parts),
        bad=join_bad(parts[0].keys.schema, [part.bad for part in parts]),
        interleaved=next((part.interleaved for part in parts if part.interleaved is not None), None),
        **_concatenated(parts),
    )


class _PerExtent(TypedDict):
    """What there is a value of for each extent."""

    keys: pa.Table
    row_start: Ints
    row_count: Ints
    first: pa.Table
    last: pa.Table
    sorted: Bools


def _concatenated(parts: Sequence[FileExtents] | Sequence[JoinedExtents]) -> _PerExtent:
    return {
        "keys": pa.concat_tables([part.keys for part in parts]).combine_chunks(),
        "row_start": np.concatenate([part.row_start for part in parts]),
        "row_count": np.concatenate([part.row_count for part in parts]),
        "first": pa.concat_tables([part.first for part in parts]).combine_chunks(),
        "last": pa.concat_tables([part.last for part in parts]).combine_chunks(),
        "sorted": np.concatenate([part.sorted for part in parts]),
    }


def inventory_of(parts: Sequence[JoinedExtents], types: pa.Schema | None = None) -> Inventory:
    """All files' extents, joined by neighbours in order of path -> the inventory.

    `types` are those in which all files are read, where they have not all the same.
    """
    assert parts, "an input without files is refused before it is scanned"
    parts = parts if types is None else [_read_in(part, types) for part in parts]
    joined = parts[0] if len(parts) == 1 else _join_joined(parts)
    encoded, keys = number_keys(joined.keys)
    extents = _numbered(joined, encoded, keys.num_rows)
    order, in_order = _order_in_time(extents)
    interleaved = _interleaved(extents, in_order)
    layout: FoundLayout = "interleaved" if interleaved.any() or joined.interleaved else "clustered"
    return Inventory(
        files=joined.files,
        columns=plain_schema(joined.types[0].plain if types is None else types, _folders(joined)),
        types=types,
        times=tuple(joined.first.column_names),
        keys=keys,
        entity_rows=_sum_by_entity(extents),
        sorted=in_order,
        extent_entity=extents.entity[order],
        extent_file=extents.file[order],
        extent_start=extents.start[order],
        extent_count=extents.count[order],
        layout=layout,
        reason=_why_known(*joined.interleaved)
        if joined.interleaved
        else _reason(extents, joined.files, keys, in_order, interleaved),
        ties=joined.ties + _ties_at_borders(extents, order, in_order),
        skipped=joined.skipped,
        bad=joined.bad,
    )


def _read_in(part: JoinedExtents, types: pa.Schema) -> JoinedExtents:
    """Extents with keys and times in the types in which all files are read."""
    plain = plain_schema(types)
    keys, times = (pa.schema([plain.field(name) for name in table.column_names]) for table in (part.keys, part.first))
    return replace(
        part,
        keys=converted(part.keys, keys),
        first=converted(part.first, times),
        last=converted(part.last, times),
        bad=join_bad(keys, [part.bad]),
    )


def _folders(joined: JoinedExtents) -> frozenset[str]:
    """Columns that in all files with rows only the names of folders have."""
    telling = [kind.folders for kind in joined.types if kind.rows]
    return frozenset.intersection(*telling) if telling else frozenset()


def _numbered(joined: JoinedExtents, encoded: Ints, entities: int) -> _Extents:
    # One call for both: a text's rank holds within one call only.
    both = table_ordinals(pa.concat_tables([joined.first, joined.last]))
    return _Extents(
        entity=encoded,
        file=np.repeat(np.arange(len(joined.files), dtype=np.int64), joined.file_extents),
        start=joined.row_start,
        count=joined.row_count,
        first=[column[: len(encoded)] for column in both],
        last=[column[len(encoded) :] for column in both],
        sorted=joined.sorted,
        entities=entities,
    )


def _sum_by_entity(extents: _Extents) -> Ints:
    rows = np.zeros(extents.entities, np.int64)
    np.add.at(rows, extents.entity, extents.count)
    return rows


def _order_in_time(extents: _Extents) -> tuple[Ints, Bools]:
    """Extents by entity, time and place -> their order (extent,), and which entities are then in order (entity,)."""
    order = _sort_extents(extents.entity, extents.first)
    in_order = np.ones(extents.entities, np.bool_)
    in_order[extents.entity[~extents.sorted]] = False
    in_order[extents.entity[order[1:]][_overlaps(extents, order)]] = False
    if not in_order.all():  # what is sorted when it is read must come in file order, or equal times would swap
        order = _sort_extents(
            extents.entity, [np.where(in_order[extents.entity], column, 0) for column in extents.first]
        )
    return order, in_order


def _sort_extents(entity: Ints, first: list[Ordinals]) -> Ints:
    columns = [entity, *first]
    falls, _ = compare([column[1:] for column in columns], [column[:-1] for column in columns])
    if not falls.any():
        return np.arange(len(entity), dtype=np.int64)
    return np.lexsort(tuple(reversed(columns))).astype(np.int64, copy=False)


def _overlaps(extents: _Extents, order: Ints) -> Bools:
    """Which neighbours (extent - 1,) in `order` are one entity's and do not follow each other in time and place."""
    before, after = order[:-1], order[1:]
    same = extents.entity[before] == extents.entity[after]
    later, equal = compare([column[after] for column in extents.first], [column[before] for column in extents.last])
    overlaps: Bools = same & (later | (equal & (before > after)))
    return overlaps


def _ties_at_borders(extents: _Extents, order: Ints, in_order: Bools) -> int:
    before, after = order[:-1], order[1:]
    same = (extents.entity[before] == extents.entity[after]) & in_order[extents.entity[after]]
    _, equal = compare([column[after] for column in extents.first], [column[before] for column in extents.last])
    return int((same & equal).sum())


def _interleaved(extents: _Extents, in_order: Bools) -> Bools:
    """Which entities (entity,) make the input interleaved."""
    interleaved = ~in_order & ~_together(extents)
    fresh = np.ones(len(extents.entity), np.bool_)
    fresh[1:] = (extents.entity[1:] != extents.entity[:-1]) | (extents.file[1:] != extents.file[:-1])
    entity, file = extents.entity[fresh], extents.file[fresh]
    if bool(((file[1:] != file[:-1]) | (entity[1:] > entity[:-1])).all()):
        return interleaved
    visits = np.sort(file * extents.entities + entity)  # an entity that a file comes back to is there twice
    interleaved[visits[1:][visits[1:] == visits[:-1]] % extents.entities] = True
    return interleaved


def _together(extents: _Extents) -> Bools:
    """Which entities (entity,) have no other entity's rows between theirs, over all files in order of path."""
    fresh = np.ones(len(extents.entity), np.bool_)
    fresh[1:] = extents.entity[1:] != extents.entity[:-1]
    together: Bools = np.bincount(extents.entity[fresh], minlength=extents.entities) <= 1
    return together


def _reason(
    extents: _Extents, files: tuple[SourceFile, ...], keys: pa.Table, in_order: Bools, interleaved: Bools
) -> str:
    return (
        _why_interleaved(extents, files, keys, interleaved) if interleaved.any() else _why_clustered(extents, in_order)
    )


def _why_clustered(extents: _Extents, in_order: Bools) -> str:
    apart, unsorted = int((~_together(extents)).sum()), int((~in_order).sum())
    where = "every entity's rows lie together"
    if apart:
        where = f"in each file an entity's rows lie together; {apart:,} of {extents.entities:,} go on in others, later"
    if unsorted:
        return (
            f"{where}; {unsorted:,} of {extents.entities:,} are not in order of time and are sorted when they are read"
        )
    return f"{where} and in order of time"


def _why_interleaved(extents: _Extents, files: tuple[SourceFile, ...], keys: pa.Table, interleaved: Bools) -> str:
    entity = int(interleaved.argmax())
    mine = np.flatnonzero(extents.entity == entity)
    places = [_place(extents, files, int(extent)) for extent in mine[:2]]
    how = "other entities' rows between them"
    gaps = np.flatnonzero((np.diff(mine) > 1) & (np.diff(extents.file[mine]) == 0))
    if len(gaps):
        places = [_place(extents, files, int(extent)) for extent in mine[gaps[0] : gaps[0] + 2]]
    elif len(files) > 1:
        how = "times that overlap or fall"
    others = f" (and so have {int(interleaved.sum()) - 1:,} of the others)" if interleaved.sum() > 1 else ""
    return f"entity {describe_entity(keys, entity)} has {' and '.join(places)}, with {how}{others}"


def _why_known(path: str, interleaved: Interleaved) -> str:
    places = " and ".join(f"{_rows(*place)} of {path}" for place in (interleaved.before, interleaved.again))
    return f"entity {interleaved.entity} has {places}, with other entities' rows between them"


def _place(extents: _Extents, files: tuple[SourceFile, ...], extent: int) -> str:
    return f"{_rows(int(extents.start[extent]), int(extents.count[extent]))} of {files[int(extents.file[extent])].path}"


def _rows(start: int, count: int) -> str:
    return f"row {start}" if count == 1 else f"rows {start} to {start + count - 1}"


def join_bad(keys: pa.Schema, parts: Sequence[pa.Table]) -> pa.Table:
    """Tables of placed bad rows as one; `keys` are the entity columns."""
    fields: list[ArrowField] = [pa.field(KEY_PREFIX + field.name, field.type) for field in keys]
    fields += [pa.field("reason", pa.string()), pa.field("file", pa.string()), pa.field("row", pa.int64())]
    schema = pa.schema(fields)
    return pa.concat_tables([schema.empty_table(), *(converted(part, schema) for part in parts)])


def _place_bad(scan: FileExtents) -> pa.Table:
    assert scan.bad is not None
    path = pa.repeat(pa.scalar(utf8(scan.file.path), pa.string()), scan.bad.num_rows)
    return scan.bad.add_column(scan.bad.num_columns - 1, "file", path)
