"""Opens the input's Parquet files, and reads their row groups in batches.

Decides what is looked at when a file is opened: that its footer agrees with itself, and which columns are read as
dictionaries. What is broken about a file is said by `source_faults`; where it lies is the business of `filesystems`.
Leaves meaning to its callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.locations import Options
from cluster.core.plan.inventory import SourceFile
from cluster.core.plan.shard_plan import PlanHead
from cluster.run_errors import InputBroken
from cluster.runtime.input.source_faults import damaged, input_faults, why_unsupported
from cluster.runtime.storage.filesystems import open_file, stat_file
from cluster.runtime.storage.open_parquet import INT96_UNIT, Int96Unit, read_footer

LOOKS_AT_ONCE = 16
_REPEATING_BYTES = 4  # a value, below which a column holds little but the places of its texts in a dictionary
_DICTIONARIES = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"}  # read as such by pyarrow
_STREAM_BYTES = 1 << 20  # read a column chunk through a window of this size: row groups may be larger than memory


class InputParquet(pq.ParquetFile):
    """An open file of the input."""

    encrypted = False  # some of its columns may be: whoever asks pyarrow what is known of one ends the process
    dictionaries: tuple[str, ...] = ()  # columns that are read as such
    storage: Options  # how it is reached


@contextmanager
def open_source(
    path: str,
    storage: Options,
    repeating: Sequence[str] = (),
    *,
    checksums: bool = True,
    int96_unit: Int96Unit = INT96_UNIT,
) -> Iterator[InputParquet]:
    """The file, read in bounded memory. Raises InputBroken, and InputUnsupported.

    Of the columns `repeating` those whose text is the same in many rows are read as dictionaries. With `checksums` the
    pages' own are looked at.
    """
    with ExitStack() as stack:
        with input_faults(path, storage):
            source = stack.enter_context(open_file(path, storage))
            footer, encrypted = read_footer(source)
            columns = () if encrypted else _repeating(footer, repeating)
            parquet = InputParquet(
                source,
                metadata=footer,
                read_dictionary=list(columns),
                buffer_size=_STREAM_BYTES,
                pre_buffer=False,
                page_checksum_verification=checksums,
                coerce_int96_timestamp_unit=int96_unit,
            )
        parquet.encrypted, parquet.dictionaries, parquet.storage = encrypted, columns, storage
        _check_counts(path, parquet)
        yield stack.enter_context(parquet)


def group_batches(
    parquet: InputParquet, path: str, group: int, columns: Sequence[str], *, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Some columns of a row group, a batch at a time, and as many rows as the footer says.

    One row group after the other: where a column has fewer values than the others, pyarrow would go on in the next one.
    Raises InputDamaged when all that can be read is out, and as `input_faults` does.
    """
    batches = parquet.iter_batches(batch_rows, row_groups=[group], columns=list(columns), use_threads=False)
    rows, promised = 0, parquet.metadata.row_group(group).num_rows
    place = partial(_place, parquet, group, columns)
    while True:
        with input_faults(path, parquet.storage, place):
            batch = next(batches, None)
            if batch is None:
                break
        rows += batch.num_rows
        yield batch
    if rows != promised:
        raise damaged(path, f"holds {rows:,} rows in row group {group}, but its footer says {promised:,}")


def _place(parquet: InputParquet, group: int, columns: Sequence[str]) -> str:
    """Where a row group cannot be read; goes on from "is damaged"."""
    begin = sum(parquet.metadata.row_group(index).num_rows for index in range(group))
    end = begin + parquet.metadata.row_group(group).num_rows - 1
    column = next((name for name in columns if not _reads(parquet, group, name)), None)
    return f" at rows {begin} to {end}" + ("" if column is None else f" in column {column!r}")


def _reads(parquet: InputParquet, group: int, column: str) -> bool:
    try:
        for _ in parquet.iter_batches(row_groups=[group], columns=[column], use_threads=False):
            pass
    except (OSError, pa.ArrowException):
        return False
    return True


def is_hidden(parquet: InputParquet, column: str) -> bool:
    """Whether a column of an encrypted file is one of those for which there is no key."""
    try:
        next(parquet.iter_batches(1, row_groups=[0], columns=[column], use_threads=False), None)
    except OSError as error:
        return why_unsupported(error) is not None
    return False


def _check_counts(path: str, parquet: InputParquet) -> None:
    """Raises InputDamaged where the footer's own figures differ: of rows, and of a column with one value in each."""
    footer = parquet.metadata
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if footer.num_rows not in (0, rows) or any(group.num_rows < 0 for group in groups):  # some writers leave it at 0
        raise damaged(path, f"says that it holds {footer.num_rows:,} rows, but its row groups are {rows:,}")
    column = None if parquet.encrypted else _flat_column(footer)
    for number, group in enumerate(groups if column is not None else ()):
        values = group.column(column or 0).num_values
        if values != group.num_rows:
            told = f"{group.num_rows:,} rows, but {values:,} values of a column"
            raise damaged(path, f"says that its row group {number} holds {told}")


def _flat_column(footer: pq.FileMetaData) -> int | None:
    """The first column that has one value in each row."""
    columns = range(footer.num_columns)
    return next((index for index in columns if not footer.schema.column(index).max_repetition_level), None)


def _repeating(footer: pq.FileMetaData, names: Sequence[str]) -> tuple[str, ...]:
    """The text columns that are stored as a dictionary and little else."""
    found = []
    for index in range(footer.num_columns if names and footer.num_row_groups else 0):
        column = footer.schema.column(index)
        if column.path in names and column.physical_type == "BYTE_ARRAY":
            chunks = [footer.row_group(group).column(index) for group in range(footer.num_row_groups)]
            small = sum(chunk.total_uncompressed_size for chunk in chunks)
            # Where texts do not repeat, a reader would have to make the dictionary itself; of some encodings none can.
            encoded = all(_DICTIONARIES.issuperset(chunk.encodings) for chunk in chunks)
            if encoded and small < _REPEATING_BYTES * sum(chunk.num_values for chunk in chunks):
                found.append(column.path)
    return tuple(found)


def describe_source(path: str, footer: pq.FileMetaData, storage: Options) -> SourceFile:
    """What a footer and the file system tell of a file. Raises InputBroken."""
    with input_faults(path, storage):
        found = stat_file(path, storage)
    groups = tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return SourceFile(path, sum(groups), found.size_bytes, found.modified_ns, groups)


def check_unchanged(head: PlanHead, storage: Options) -> None:
    """Every file of the plan still has its size, and its rows where it was written anew. Raises InputBroken.

    Many at a time, since a look at a remote file is mostly waiting; the first fault in order of path is the one raised.
    """
    looks = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="slotcar-look")
    try:
        for _ in looks.map(partial(_check_file, storage=storage), head.input_files):
            pass
    finally:
        looks.shutdown(cancel_futures=True)


def _check_file(file: SourceFile, storage: Options) -> None:
    with input_faults(file.path):
        found = stat_file(file.path, storage)
    if found.size_bytes != file.size_bytes:
        raise _changed(file, f"{file.size_bytes:,} bytes", f"{found.size_bytes:,}")
    if found.modified_ns != file.modified_ns:
        _check_footer(file, storage)


def _check_footer(file: SourceFile, storage: Options) -> None:
    with open_source(file.path, storage) as parquet:
        found = describe_source(file.path, parquet.metadata, storage)
    if found.row_group_rows != file.row_group_rows:
        raise _changed(file, f"{file.rows:,} rows", f"{found.rows:,}, or row groups of other sizes")


def _changed(file: SourceFile, planned: str, found: str) -> InputBroken:
    return InputBroken(
        f"{file.path} changed since the run was planned: it had {planned} and now has {found}; "
        "put the planned file back, or score the new input into another output."
    )
