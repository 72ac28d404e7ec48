"""A Parquet file that stays open for one row group after the other, and keeps none of them.

What it decides: that only the file's handle and its footer are kept. pyarrow's own reader holds on to the bytes that it
has last fetched until it goes, which with dozens of files open is more than everything else that a replica has. That
a file on this machine is read where its columns lie, since to fetch them together first only copies them. And that
rows are counted: pyarrow hands out what the pages hold, however many rows the footer promises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.locations import is_url
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Ints

OPEN_FILES_MAX = 64
Int96Unit: TypeAlias = Literal["s", "us", "ns"]
# Of the old 96-bit times, which have nanoseconds and all of history: what lies behind 2262 would be another time.
INT96_UNIT: Int96Unit = "us"
FOOTER_BYTES = 1 << 16  # read at once from a file's end, where as a rule the footer is
SIGNATURE_BYTES = 28  # behind a footer that can be read of a file whose columns may be encrypted


class OpenParquet:
    """Reads row groups; not for several threads at once."""

    def __init__(self, source: pa.NativeFile, *, local: bool, checksums: bool = True) -> None:
        """`source` seeks; it is closed with this. With `checksums` those that pages carry are looked at.

        Raises what pyarrow raises.
        """
        self._source, self._local, self._checksums = source, local, checksums
        with self._reader(None) as reader:
            self.metadata, self.schema = reader.metadata, reader.schema_arrow

    @cached_property
    def borders(self) -> Ints:
        """The first row of each row group, and behind them the file's rows."""
        sizes = [self.metadata.row_group(index).num_rows for index in range(self.metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def read_row_group(self, group: int, columns: list[str] | None = None) -> pa.Table:
        """A row group with some columns, or all, and as many rows as the footer says. Raises what pyarrow raises."""
        with self._reader(self.metadata) as reader:
            table = reader.read_row_group(group, columns=columns, use_threads=False)
        expect_rows(table.num_rows, self.metadata.row_group(group).num_rows, f"row group {group}")
        return table

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    def _reader(self, metadata: pq.FileMetaData | None) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._source,
            metadata=metadata,
            pre_buffer=not self._local,
            page_checksum_verification=self._checksums,
            coerce_int96_timestamp_unit=INT96_UNIT,
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


def read_footer(source: pa.NativeFile) -> tuple[pq.FileMetaData, bool]:
    """A file's footer, and whether columns of it may be encrypted. Raises what pyarrow raises.

    Of an encrypted column nothing may be asked, not even its size: pyarrow would end the process.
    """
    size = source.size()
    tail = _tail(source, size, FOOTER_BYTES)
    footer_bytes = int.from_bytes(tail[-8:-4], "little")
    if FOOTER_BYTES < footer_bytes + 8 <= size:
        tail = _tail(source, size, footer_bytes + 8)
    footer = pq.read_metadata(pa.BufferReader(tail))
    return footer, footer_bytes == footer.serialized_size + SIGNATURE_BYTES


def _tail(source: pa.NativeFile, size: int, wanted: int) -> bytes:
    source.seek(max(size - wanted, 0))
    return source.read(min(size, wanted))


def open_parquet(store: Store, name: str) -> OpenParquet:
    """A file of a store. Raises `StoreFault` and what pyarrow raises."""
    return OpenParquet(store.open_input(name), local=not is_url(store.root))


def expect_rows(found: int, promised: int, what: str = "it") -> None:
    """Raises ArrowInvalid, as pyarrow would for other damage, where so many rows were not found."""
    if found != promised:
        raise pa.ArrowInvalid(f"{what} holds {found:,} rows, but the footer says {promised:,}")


def counted_batches(
    parquet: pq.ParquetFile, batch_rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """All rows of a file, a batch at a time. Raises what pyarrow raises, and ArrowInvalid behind too few rows."""
    rows, names = 0, None if columns is None else list(columns)
    for batch in parquet.iter_batches(batch_rows, columns=names, use_threads=False):
        rows += batch.num_rows
        yield batch
    expect_rows(rows, parquet.metadata.num_rows)
