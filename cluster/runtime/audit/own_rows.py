"""The input's rows as the audit reads them: each file alone, by pyarrow's plain reader, every row counted.

What it decides: that a file's columns keep the types that this file has; INT96 is read in microseconds, which hold all
that it can say; a page that has a checksum must fit it. What a file lacks stands in the names of its folders, or is
null. A row that the footer promises and no page holds is *absent*: it is there as nulls, and marked. Where all columns
are the folders', one of the file's own is read too, to count the rows. Memory follows a row group.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowArray
from cluster.core.locations import Options
from cluster.core.plan.file_list import TableValues
from cluster.core.plan.shard_plan import PlanHead
from cluster.run_errors import InputBroken, first_line
from cluster.runtime.audit.own_values import opened
from cluster.runtime.storage.filesystems import as_bytes, filesystem_of
from lstm_core.array_types import Bools, Ints

BATCH_ROWS = 65_536
CACHE_BYTES = 64 << 20
_OPEN_FILES_MAX = 16
_NO_VALUE = b"__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(rb"-?[0-9]{1,19}")


@dataclass(frozen=True)
class FoundRows:
    """Some rows of a file."""

    table: pa.Table  # (row, column), `opened`
    there: Bools  # (row,) False where the file does not hold the row

    def take(self, rows: Ints) -> FoundRows:
        """Some rows of them."""
        return FoundRows(self.table.take(rows), self.there[rows])


@dataclass(frozen=True)
class Access:
    """How an input's files are reached, and what stands beside them."""

    storage: Options
    checksums: bool = True  # pages that have one must fit it
    tables: tuple[TableValues, ...] = ()  # the values of partition columns, where a table says them of its files
    folders: Mapping[str, pa.DataType] = field(default_factory=dict)  # of the columns that folders name


def access_of(head: PlanHead, storage: Options, *, checksums: bool = True) -> Access:
    """That of a plan's files."""
    return Access(storage, checksums, head.beside.tables, head.beside.types)


class OwnRows:
    """Reads rows by number, of the columns that it is given; not for several threads at once."""

    def __init__(
        self,
        paths: Sequence[str],
        columns: Sequence[str],
        access: Access,
        *,
        beside: Sequence[str] = (),
        words: Collection[str] = (),
    ) -> None:
        """Columns `beside` must be readable too, as far as a file has them; they are not handed out. Of the columns
        `words` UUIDs are handed out in their usual spelling."""
        self._paths, self._access = paths, access
        self._columns, self._beside, self._words = list(dict.fromkeys(columns)), beside, words
        self._folders = _Folders(paths, self._columns, access.folders)
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], FoundRows] = OrderedDict()

    def borders(self, file: int) -> Ints:
        """The first row of each row group, and behind them the file's rows, as its footer says. Raises InputBroken."""
        with self._named(file):
            footer = self._file(file).metadata
            sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def rows(self, file: int, start: int, stop: int) -> Iterator[FoundRows]:
        """The rows start..stop, row group by row group. Raises InputBroken where one cannot be read."""
        borders = self.borders(file)
        if stop > borders[-1]:
            raise InputBroken(
                f"{self._paths[file]} has {borders[-1]:,} rows, but the plan names row {stop - 1}: it changed since."
            )
        for group in np.flatnonzero((borders[:-1] < stop) & (borders[1:] > start)).tolist():
            found = self.group(file, group)
            low, high = max(start - int(borders[group]), 0), min(stop, int(borders[group + 1])) - int(borders[group])
            yield FoundRows(found.table.slice(low, high - low), found.there[low:high])

    def scattered(self, file: int, rows: Ints) -> Iterator[tuple[slice, pa.Table | None]]:
        """Rows of a file that rise, row group by row group: which of them, and the rows.

        None where they cannot be read, or where the row group does not hold what its footer promises: nobody knows
        then which of its values belong together.
        """
        borders = self.borders(file)
        for group, (low, high) in enumerate(pairwise(np.searchsorted(rows, borders).tolist())):
            if high > low:
                try:
                    found = self.group(file, group)
                except InputBroken:
                    found = None
                whole = found is not None and found.there.all()
                yield slice(low, high), found.take(rows[low:high] - borders[group]).table if found and whole else None

    def group(self, file: int, group: int) -> FoundRows:
        """A whole row group. Raises InputBroken."""
        found = self._groups.pop((file, group), None)
        if found is None:
            with self._named(file):
                found = self._decoded(file, group)
        self._groups[file, group] = found
        while len(self._groups) > 1 and sum(kept.table.nbytes for kept in self._groups.values()) > CACHE_BYTES:
            self._groups.popitem(last=False)
        return found

    def _decoded(self, file: int, group: int) -> FoundRows:
        parquet = self._file(file)
        promised = parquet.metadata.row_group(group).num_rows
        own = [name for name in self._columns if name in parquet.schema_arrow.names]
        beside = {name for name in self._beside if name in parquet.schema_arrow.names}
        read = sorted({*own} | beside) or _any_column(parquet.metadata)
        batches = parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=read, use_threads=False)
        table = pa.Table.from_batches(list(batches), pa.schema([parquet.schema_arrow.field(name) for name in read]))
        held = table.num_rows if read else promised
        if held > promised:
            raise InputBroken(f"{self._paths[file]} holds more rows than its footer says, in row group {group}.")
        columns = [
            _filled_up(self._opened(table, name), promised) if name in own else self._beside_file(file, name, promised)
            for name in self._columns
        ]
        return FoundRows(pa.table(columns, names=self._columns), np.arange(promised) < held)

    def _opened(self, table: pa.Table, name: str) -> ArrowArray:
        column = table.column(name)
        if name in self._words and isinstance(column.type, pa.UuidType):
            texts = [None if value is None else str(value).encode() for value in column.to_pylist()]
            return pa.array(texts, pa.large_binary())
        return opened(column)

    def _beside_file(self, file: int, name: str, rows: int) -> ArrowArray:
        """A column that the file does not have: what a table says of it goes before the names of its folders."""
        for table in self._access.tables:
            said = table.of_file(self._paths[file])
            if said is not None and name in said:
                column: ArrowArray = pa.array([said[name].as_py()], said[name].type)
                return opened(pa.chunked_array([column.take(np.zeros(rows, np.int64))]))
        return self._folders.column(self._paths[file], name, rows)

    def _file(self, file: int) -> pq.ParquetFile:
        parquet = self._open.pop(file, None)
        if parquet is None:
            filesystem, name = filesystem_of(self._paths[file], self._access.storage)
            parquet = pq.ParquetFile(
                filesystem.open_input_file(as_bytes(name)),
                pre_buffer=False,
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=self._access.checksums,
            )
        self._open[file] = parquet
        if len(self._open) > _OPEN_FILES_MAX:
            self._open.popitem(last=False)[1].close()
        return parquet

    @contextmanager
    def _named(self, file: int) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise InputBroken(f"{self._paths[file]} cannot be read: {first_line(error)}.") from None


def _any_column(footer: pq.FileMetaData) -> list[str]:
    """The first column that has one value for each row, as a list of it; empty where there is none."""
    columns = (footer.schema.column(index) for index in range(footer.num_columns))
    plain = (column.path for column in columns if column.max_repetition_level == 0 and "." not in column.path)
    return [name for name, _ in zip(plain, range(1), strict=False)]


def _filled_up(column: ArrowArray, rows: int) -> ArrowArray:
    """The column with nulls behind it for the rows that are absent."""
    missing = rows - len(column)
    return column if not missing else pa.concat_arrays([column, pa.nulls(missing, column.type)])


class _Folders:
    """Columns in the names of folders, `name=value`: of two with one name the inner one counts.

    A column is whole numbers where the plan has it so and each number has one spelling, and text elsewhere.
    """

    def __init__(self, paths: Sequence[str], wanted: Sequence[str], types: Mapping[str, pa.DataType]) -> None:
        self._of = {folder: _named_in(folder, wanted) for folder in dict.fromkeys(map(_folder, paths))}
        values: dict[str, set[bytes]] = {name: set() for name in wanted}
        for found in self._of.values():
            for name, value in found.items():
                values[name] |= {value} - {_NO_VALUE}
        numbers = (name for name in wanted if name in types and pa.types.is_integer(types[name]))
        self._whole = {name for name in numbers if _are_numbers(values[name])}

    def column(self, path: str, name: str, rows: int) -> ArrowArray:
        """The column for the rows of a file; nulls where no folder names it."""
        value = self._of[_folder(path)].get(name, _NO_VALUE)
        kind = pa.int64() if name in self._whole else pa.large_binary()
        if value == _NO_VALUE:
            return pa.nulls(rows)
        one = pa.array([int(value) if name in self._whole else value], kind)
        return one.take(np.zeros(rows, np.int64))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _named_in(folder: str, wanted: Sequence[str]) -> dict[str, bytes]:
    pairs = (part.partition("=") for part in folder.split("/"))
    decoded = ((_decoded(name), _decoded(value)) for name, equals, value in pairs if equals)
    names = {name.encode(): name for name in wanted}
    return {names[name]: value for name, value in decoded if name in names}


def _decoded(text: str) -> bytes:
    """Without percent-encoding, or as it is spelled where that is not UTF-8."""
    raw = unquote_to_bytes(text)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return text.encode()
    return raw


def _are_numbers(texts: set[bytes]) -> bool:
    """Whether they are whole numbers, no two of them the same one."""
    return all(map(_WHOLE.fullmatch, texts)) and len(set(map(int, texts))) == len(texts)
