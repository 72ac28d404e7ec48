"""A table of carry-over on storage: whole and the right one, or refused; its keys, and the rows of single entities.

What it decides: that a table counts from `_SUCCESS` on, which holds its files' checksums, that what is decoded is what
was written (see `carry_sums`), and how row groups are cut, so that a reader that wants some entities decodes little
else. `CarryReader` keeps the last row groups that it has decoded, as neighbouring shards want the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.carry import CarryFile, CarrySchema, difference, types_beside
from cluster.core.commit import SUCCESS
from cluster.core.plan.column_conversion import converted
from cluster.run_errors import InputBroken, InputRefused, StoreFault, first_line
from cluster.runtime.carry.carry_sums import expect_sums, sums_of
from cluster.runtime.commit.row_checksum import RowChecksum
from cluster.runtime.storage.open_parquet import OpenFiles, expect_rows, open_parquet
from cluster.runtime.storage.parquet_tables import UNREADABLE
from cluster.runtime.storage.store import Store
from cluster.runtime.storage.table_cache import TableCache
from lstm_core.array_types import Ints
from lstm_core.json_types import JsonObject

GROUP_BYTES = 8 << 20  # of states in a row group: what a reader must decode to have one of them


def group_rows_max(schema: CarrySchema) -> int:
    """Rows of a row group, at most."""
    return max(256, GROUP_BYTES // max(1, schema.state_bytes))


def read_mark(store: Store, *, setting: str = "state.read") -> JsonObject:
    """What `_SUCCESS` says of a table. Raises InputRefused where there is none.

    The `setting` that names the table is said; "" where the user gave the folder itself.
    """
    named = f"{setting} {store.root}".strip()
    try:
        content = store.find(SUCCESS)
    except StoreFault as fault:
        raise InputRefused(f"{named} cannot be read: {first_line(fault)}.") from fault
    if content is None:
        there = [name for name in store.list("") if name.endswith(".parquet")]
        found = f"{len(there)} Parquet files without {SUCCESS}: its run has not ended" if there else "no carry-over"
        instead = "leave the key out to start from zero state" if setting else "name another folder"
        raise InputRefused(
            f"{named}: expected the state.write of a finished run, found {found}; finish that run, or {instead}."
        )
    try:
        return dict(json.loads(content))
    except ValueError:
        raise InputRefused(
            f"{named} has a {SUCCESS} that slotcar score has not written: give the state.write of a finished run."
        ) from None


def make_mark(fingerprint: str, files: Iterable[tuple[str, int, str]]) -> bytes:
    """The content of `_SUCCESS`, for the model's fingerprint and files given as (name, rows, checksum)."""
    files = sorted(files)
    digest = hashlib.sha256(json.dumps([[name, checksum] for name, _, checksum in files]).encode()).hexdigest()
    entities = sum(rows for _, rows, _ in files)
    mark: JsonObject = {"entities": entities, "files": len(files), "checksum": digest, "model_fingerprint": fingerprint}
    mark["checksums"] = {name: checksum for name, _, checksum in files}
    return json.dumps(mark, indent=1, sort_keys=True).encode()


def open_table(store: Store, schema: CarrySchema, *, setting: str = "state.read") -> tuple[CarryFile, ...]:
    """The files of a whole table, each of the columns that `schema` asks for. Raises InputRefused."""
    return open_typed(store, schema, setting=setting)[0]


def open_typed(
    store: Store, schema: CarrySchema, *, setting: str = "state.read"
) -> tuple[tuple[CarryFile, ...], pa.Schema | None]:
    """The same, and the types of its keys and times; None where it has no file. Raises InputRefused."""
    mark, named = read_mark(store, setting=setting), f"{setting} {store.root}".strip()
    files: list[CarryFile] = []
    types: pa.Schema | None = None
    for name in (name for name in store.list("") if name.endswith(".parquet")):
        try:
            with store.open_input(name) as file, pq.ParquetFile(file) as parquet:
                found, footer = parquet.schema_arrow, parquet.metadata
        except UNREADABLE as error:
            raise InputRefused(
                f"{f'{setting}: ' if setting else ''}{store.path(name)} cannot be read ({first_line(error)}): put the "
                "file back."
            ) from error
        differs = difference(schema, found)
        if differs:
            raise InputRefused(
                f"{named} is not the carry-over that this run needs: {differs}; give the carry-over "
                "that fits, or leave the key out to start from zero state."
            )
        types = types or types_beside(schema, found)
        rows = tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
        files.append(CarryFile(name, rows, sums_of(footer)))
    if len(files) != mark.get("files") or sum(file.rows for file in files) != mark.get("entities"):
        raise InputRefused(
            f"{named} holds {sum(file.rows for file in files):,} entities in {len(files)} files, but "
            f"its {SUCCESS} says {mark.get('entities')} in {mark.get('files')}: put back what is missing."
        )
    _check_files(store, files, mark, setting)
    return tuple(files), types


def _check_files(store: Store, files: Sequence[CarryFile], mark: JsonObject, setting: str) -> None:
    """Files that say no sums of their own are read whole; a table of an earlier version has no checksums at all."""
    told, named = mark.get("checksums"), f"{setting} {store.root}".strip()
    if told is None:
        return
    if not isinstance(told, dict) or told.keys() != {file.name for file in files}:
        raise InputRefused(
            f"{named}: its {SUCCESS} names other files than those that are there: put the carry-over back as it was."
        )
    for file in (file for file in files if not file.sums):
        if row_checksum(store, file) != told[file.name]:
            raise InputRefused(
                f"{named}: {file.name} does not hold the rows that were written, by its checksum in "
                f"{SUCCESS}: put the carry-over back as it was."
            )


def row_checksum(store: Store, file: CarryFile) -> str:
    """The checksum of a file's rows, all of which are read. Raises InputBroken."""
    checksum = RowChecksum()
    for table in groups_of(store, file):
        checksum.add(table)
    return checksum.hexdigest()


def read_keys(store: Store, schema: CarrySchema, files: Sequence[CarryFile]) -> pa.Table:
    """The keys of all entities, file after file. Raises InputBroken."""
    parts = [converted(read_columns(store, file, list(schema.entity)), schema.keys) for file in files]
    return pa.concat_tables([schema.keys.empty_table(), *(part.replace_schema_metadata() for part in parts)])


def read_columns(store: Store, file: CarryFile, columns: list[str]) -> pa.Table:
    """Some columns of a file. Raises InputBroken."""
    with carry_faults(store, file.name), store.open_input(file.name) as source, pq.ParquetFile(source) as parquet:
        table = parquet.read(columns=columns, use_threads=False).select(columns)
        expect_rows(table.num_rows, file.rows)
        begin = 0
        for index, rows in enumerate(file.group_rows if file.sums else ()):
            expect_sums(file.sums, index, table.slice(begin, rows))
            begin += rows
        return table


def groups_of(store: Store, file: CarryFile) -> Iterator[pa.Table]:
    """A file's row groups, one after the other. Raises InputBroken."""
    with carry_faults(store, file.name), store.open_input(file.name) as source, pq.ParquetFile(source) as parquet:
        for index, rows in enumerate(file.group_rows):
            table = parquet.read_row_group(index, use_threads=False)
            expect_rows(table.num_rows, rows, f"row group {index}")
            expect_sums(file.sums, index, table)
            yield table


@contextmanager
def carry_faults(store: Store, name: str) -> Iterator[None]:
    """Whatever goes wrong while a file of a table is read is raised as InputBroken with its name."""
    try:
        yield
    except UNREADABLE as error:
        raise InputBroken(
            f"{store.path(name)} cannot be read ({first_line(error)}): put the carry-over back as it was, and run the "
            "same command again."
        ) from error


class CarryReader:
    """Rows of a table by their places."""

    def __init__(self, store: Store, files: Sequence[CarryFile], schema: CarrySchema, *, cache_bytes: int) -> None:
        self._store, self._files, self._schema = store, files, schema
        self._borders = [np.concatenate([[0], np.cumsum(file.group_rows, dtype=np.int64)]) for file in files]
        self._open = OpenFiles(lambda file: open_parquet(store, files[file].name))
        self._groups = TableCache(cache_bytes)

    def take(self, file: Ints, row: Ints) -> pa.Table:
        """The rows at the given places, in their order. Raises InputBroken."""
        if not len(file):
            return self._schema.arrow.empty_table()
        order = np.lexsort((row, file))
        numbers, begins = np.unique(file[order], return_index=True)
        rows_of = zip(numbers.tolist(), np.split(row[order], begins[1:]), strict=True)
        table = pa.concat_tables([part for number, rows in rows_of for part in self._of_file(number, rows)])
        return table if (order[1:] > order[:-1]).all() else table.take(np.argsort(order))

    def _of_file(self, file: int, rows: Ints) -> Iterator[pa.Table]:
        """Rising rows of one file, a part for each row group that holds some."""
        borders = self._borders[file]
        for group, (low, high) in enumerate(pairwise(np.searchsorted(rows, borders))):
            if high > low:
                own = rows[low:high] - borders[group]
                # Behind its end the next entities are in the next row group.
                table = self._group(file, group, keep=own[-1] + 1 < borders[group + 1] - borders[group])
                together = len(own) == own[-1] - own[0] + 1
                yield table.slice(int(own[0]), len(own)) if together else table.take(own)

    def _group(self, file: int, group: int, *, keep: bool) -> pa.Table:
        return self._groups.get((file, group), partial(self._decoded, file, group), keep=keep)

    def _decoded(self, file: int, group: int) -> pa.Table:
        with carry_faults(self._store, self._files[file].name):
            table = self._open.get(file).read_row_group(group, self._schema.arrow.names)
            expect_sums(self._files[file].sums, group, table)
        return _as_planned(table.select(self._schema.arrow.names), self._schema.arrow)


def _as_planned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema`, in its types; the same columns only get its metadata."""
    return converted(table, schema).replace_schema_metadata(schema.metadata)
