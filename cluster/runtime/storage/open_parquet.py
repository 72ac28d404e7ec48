"""A Parquet file that stays open for one row group after the other, and keeps none of them.

What it decides: that only the file's handle and its footer are kept. pyarrow's own reader holds on to the bytes that it
has last fetched until it goes, which with dozens of files open is more than everything else that a replica has. And
that a file on this machine is read where its columns lie, since to fetch them together first only copies them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.locations import is_url
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Ints

OPEN_FILES_MAX = 64
# Of the old 96-bit times, which have nanoseconds and all of history: what lies behind 2262 would be another time.
INT96_UNIT: Literal["us"] = "us"


class OpenParquet:
    """Reads row groups; not for several threads at once."""

    def __init__(self, source: pa.NativeFile, *, local: bool) -> None:
        """`source` seeks; it is closed with this. Raises what pyarrow raises."""
        self._source, self._local = source, local
        with self._reader(None) as reader:
            self.metadata, self.schema = reader.metadata, reader.schema_arrow

    @cached_property
    def borders(self) -> Ints:
        """The first row of each row group, and behind them the file's rows."""
        sizes = [self.metadata.row_group(index).num_rows for index in range(self.metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def read_row_group(self, group: int, columns: list[str] | None = None) -> pa.Table:
        """A row group with some columns, or all. Raises what pyarrow raises."""
        with self._reader(self.metadata) as reader:
            return reader.read_row_group(group, columns=columns, use_threads=False)

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    def _reader(self, metadata: pq.FileMetaData | None) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._source, metadata=metadata, pre_buffer=not self._local, coerce_int96_timestamp_unit=INT96_UNIT
        )


class OpenFiles:
    """Files by number, of which those used last stay open."""

    def __init__(self, opened: Callable[[int], OpenParquet]) -> None:
        self._opened = opened
        self._files: OrderedDict[int, OpenParquet] = OrderedDict()

    def get(self, number: int) -> OpenParquet:
        """The file of that number. Raises what opening it raises."""
        if number not in self._files:
            self._files[number] = self._opened(number)
            if len(self._files) > OPEN_FILES_MAX:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        return self._files[number]


def open_parquet(store: Store, name: str) -> OpenParquet:
    """A file of a store. Raises `StoreFault` and what pyarrow raises."""
    return OpenParquet(store.open_input(name), local=not is_url(store.root))
