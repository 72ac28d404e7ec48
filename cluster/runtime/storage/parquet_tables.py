"""Tables in a store: one Parquet file each, written in one go, and read whole or by row groups.

For what is small enough to be in memory: snapshots, the plan's parts, quarantine. It leaves errors to its callers, who
know what the file means; `UNREADABLE` is all that reading may raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.settings import Compression
from cluster.run_errors import StoreFault
from cluster.runtime.storage.open_parquet import OpenParquet, counted_batches, expect_rows, open_parquet
from cluster.runtime.storage.store import Store, as_file

BATCH_ROWS = 131_072


UNREADABLE = (OSError, pa.ArrowException, StoreFault)


def write_table(store: Store, name: str, table: pa.Table, compression: Compression = "zstd") -> None:
    """Writes a table, durable when this returns. Raises `StoreFault`."""
    with store.open_output(name) as file:
        pq.write_table(table, as_file(file), compression=compression)


def read_table(store: Store, name: str) -> pa.Table:
    """Reads a table. Raises one of `UNREADABLE`."""
    with store.open_input(name) as file, pq.ParquetFile(file) as parquet:
        table = parquet.read(use_threads=False)
        expect_rows(table.num_rows, parquet.metadata.num_rows)
        return table


class TableGroups:
    """The row groups of a table, one by one; the file stays open, since its footer has them all."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._file: OpenParquet | None = None

    def read(self, index: int) -> pa.Table:
        """One row group. Raises one of `UNREADABLE`, also where there is none."""
        try:
            if self._file is None:
                self._file = open_parquet(self._store, self._name)
            return self._file.read_row_group(index)
        except UNREADABLE:
            self.close()  # and opened anew when it is asked again
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def rows_in_file(store: Store, name: str) -> int:
    """Rows of a Parquet file, all of them read. Raises one of `UNREADABLE` where it cannot be."""
    return sum(batch.num_rows for batch in read_batches(store, name))


def read_batches(store: Store, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A Parquet file's rows, as many as its footer says. Raises one of `UNREADABLE`."""
    with store.open_input(name) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        yield from counted_batches(parquet, BATCH_ROWS, columns)
