"""Opens the input's Parquet files and says what is broken about them.

The one place that turns pyarrow's errors about an input file into a sentence. Where a file lies is the business of
`filesystems`. Leaves meaning to its callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.locations import Options
from cluster.core.plan.inventory import SourceFile
from cluster.core.plan.shard_plan import PlanHead
from cluster.run_errors import InputBroken, InputDamaged, first_line
from cluster.runtime.storage.filesystems import filesystem_of, stat_file
from cluster.runtime.storage.open_parquet import INT96_UNIT

LOOKS_AT_ONCE = 16
_REPEATING_BYTES = 4  # a value, below which a column holds little but the places of its texts in a dictionary
_SERVICES = (
    "AWS Error",
    "HTTP",
    "curl",
    "CURL",
    "Azure",
    "GCS",
    "google::cloud",
    "HDFS",
    "libhdfs",
    "libjvm",
    "timed out",
)
_STREAM_BYTES = 1 << 20  # read a column chunk through a window of this size: row groups may be larger than memory


@contextmanager
def input_faults(path: str) -> Iterator[None]:
    """Whatever goes wrong while reading `path` is raised as InputBroken with its name: damage as InputDamaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputBroken(f"{path} is gone: it was there when the input was listed; start the run again.") from error
    except PermissionError as error:
        raise InputBroken(f"{path} may not be read by this user: allow it, then start the run again.") from error
    except (pa.ArrowException, OSError) as error:
        kind = InputDamaged if is_damage(error) else InputBroken
        raise kind(
            f"{path} is truncated or no Parquet file ({first_line(error)}): "
            "write it again or take it out of the input, then start the run again."
        ) from error


def is_damage(error: BaseException | None) -> bool:
    """Whether a fault of reading lies in the file's bytes, and not in the way to them.

    pyarrow raises OSError for both: without a number of the system, and naming no service, it is about the bytes.
    """
    if isinstance(error, pa.ArrowInvalid):
        return True
    service = any(word in str(error) for word in _SERVICES)
    return isinstance(error, OSError) and error.errno is None and not service


def open_source(
    path: str, storage: Options, repeating: Sequence[str] = (), *, int96_unit: Literal["s", "us", "ns"] = INT96_UNIT
) -> pq.ParquetFile:
    """The file, read in bounded memory; close it. Raises InputBroken.

    Of the columns `repeating` those whose text is the same in many rows are read as dictionaries.
    """
    with input_faults(path):
        filesystem, name = filesystem_of(path, storage)
        opened = partial(
            pq.ParquetFile,
            name,
            filesystem=filesystem,
            buffer_size=_STREAM_BYTES,
            pre_buffer=False,
            coerce_int96_timestamp_unit=int96_unit,
        )
        parquet = opened()
        columns = _repeating(parquet.metadata, repeating)
        if not columns:
            return parquet
        with parquet:
            return opened(metadata=parquet.metadata, read_dictionary=columns)


def _repeating(footer: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """The text columns that are stored as a dictionary and little else."""
    found = []
    for index in range(footer.num_columns if names and footer.num_row_groups else 0):
        column = footer.schema.column(index)
        if column.path in names and column.physical_type == "BYTE_ARRAY":
            chunks = [footer.row_group(group).column(index) for group in range(footer.num_row_groups)]
            small = sum(chunk.total_uncompressed_size for chunk in chunks)
            # Where texts do not repeat, a reader would have to make the dictionary itself.
            if small < _REPEATING_BYTES * sum(chunk.num_values for chunk in chunks):
                found.append(column.path)
    return found


def describe_source(path: str, footer: pq.FileMetaData, storage: Options) -> SourceFile:
    """What a footer and the file system tell of a file. Raises InputBroken."""
    with input_faults(path):
        found = stat_file(path, storage)
    groups = tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return SourceFile(path, footer.num_rows, found.size_bytes, found.modified_ns, groups)


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
