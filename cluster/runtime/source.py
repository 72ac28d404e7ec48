"""Opens the input's Parquet files and says what is broken about them.

The one place that turns pyarrow's errors about an input file into a sentence. Later kinds of input (object stores,
partition columns from folder names) belong here, before anything else sees a file. Leaves meaning to its callers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.inventory import SourceFile
from cluster.core.plan import PlanHead
from cluster.errors import InputBroken, first_line

_STREAM_BYTES = 1 << 20  # read a column chunk through a window of this size: row groups may be larger than memory


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Whatever goes wrong inside while reading `path` is raised as InputBroken with its name."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputBroken(f"{path} is gone: it was there when the input was listed; start the run again.") from error
    except PermissionError as error:
        raise InputBroken(f"{path} may not be read by this user: allow it, then start the run again.") from error
    except (pa.ArrowException, OSError) as error:
        raise InputBroken(
            f"{path} is truncated or no Parquet file ({first_line(error)}): "
            "write it again or take it out of the input, then start the run again."
        ) from error


def open_source(path: str) -> Any:
    """The file as a pq.ParquetFile that reads in bounded memory; close it. Raises InputBroken."""
    with reading(path):
        return pq.ParquetFile(path, buffer_size=_STREAM_BYTES, pre_buffer=False)


def describe_source(path: str, footer: Any) -> SourceFile:
    """What a footer (pq.FileMetaData) and the file system tell of a file. Raises InputBroken."""
    with reading(path):
        found = os.stat(path)
    groups = tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return SourceFile(path, footer.num_rows, found.st_size, found.st_mtime_ns, groups)


def check_unchanged(head: PlanHead) -> None:
    """Every file of the plan still has its size, and its rows where it was written anew. Raises InputBroken."""
    for file in head.input_files:
        with reading(file.path):
            found = os.stat(file.path)
        if found.st_size != file.size_bytes:
            raise _changed(file, f"{file.size_bytes:,} bytes", f"{found.st_size:,}")
        if found.st_mtime_ns != file.modified_ns:
            _check_footer(file)


def _check_footer(file: SourceFile) -> None:
    with open_source(file.path) as parquet:
        found = describe_source(file.path, parquet.metadata)
    if found.row_group_rows != file.row_group_rows:
        raise _changed(file, f"{file.rows:,} rows", f"{found.rows:,}, or row groups of other sizes")


def _changed(file: SourceFile, planned: str, found: str) -> InputBroken:
    return InputBroken(
        f"{file.path} changed since the run was planned: it had {planned} and now has {found}; "
        "put the planned file back, or score the new input into another output."
    )
