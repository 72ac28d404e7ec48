"""Tables in a store: one whole Parquet file, written and read in one go.

For what is small enough to be in memory: snapshots, the plan's parts, quarantine. It leaves errors to its callers, who
know what the file means; `UNREADABLE` is all that reading may raise.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StoreFault
from cluster.runtime.storage.store import Store

UNREADABLE = (OSError, pa.ArrowException, StoreFault)


def write_table(store: Store, name: str, table: Any, compression: str = "zstd") -> None:
    """Writes a table, durable when this returns. Raises `StoreFault`."""
    with store.open_output(name) as file:
        pq.write_table(table, file, compression=compression)


def read_table(store: Store, name: str) -> Any:
    """Reads a table (pa.Table). Raises one of `UNREADABLE`."""
    with store.open_input(name) as file, pq.ParquetFile(file) as parquet:
        return parquet.read(use_threads=False)


def read_row_group(store: Store, name: str, index: int) -> Any:
    """Reads one row group (pa.Table). Raises one of `UNREADABLE`, or IndexError where there is none."""
    with store.open_input(name) as file, pq.ParquetFile(file) as parquet:
        return parquet.read_row_group(index, use_threads=False)
