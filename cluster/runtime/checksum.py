"""The checksum of a fragment's rows: of what they say, not of how a file or a table holds them.

The writer takes it before a file is written, an audit after it was read back, and both must come to the same. So it
hashes the form that all roads lead to: dictionaries and extensions opened, text and bytes alike, times in the units
that Parquet keeps (it has no seconds, and dates in days only). Where tables were cut does not matter either: each
column has three streams of its own, the rows that are null, the lengths of what has one, and the values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.core.times import as_plain, stored_type

_NULLS, _LENGTHS, _VALUES = range(3)


class RowChecksum:
    """A hash over the rows of tables that follow each other; all have the same columns."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[str, list[Any]]] = {}  # name -> (type, its three hashes)
        self._rows = 0

    def add(self, table: Any) -> None:
        """Adds the rows of a pa.Table or pa.RecordBatch."""
        for name, column in zip(table.schema.names, table.columns, strict=True):
            array = canonical(column)
            kind, streams = self._columns.setdefault(name, (_kind(array.type), [hashlib.sha256() for _ in range(3)]))
            assert kind == _kind(array.type), f"{name} was {kind} and is {_kind(array.type)}"
            for stream, values in _parts(array, self._rows):
                streams[stream].update(values)
        self._rows += table.num_rows

    def hexdigest(self) -> str:
        """sha256 over the columns in their order: names, types, and the three streams of each."""
        whole = hashlib.sha256(str(self._rows).encode())
        for name, (kind, streams) in self._columns.items():
            whole.update(f"{len(name)} {name} {kind}".encode())
            for stream in streams:
                whole.update(stream.digest())
        return whole.hexdigest()


def canonical(column: Any) -> Any:
    """A column as one array in the form that survives Parquet; raises nothing, loses nothing."""
    plain = as_plain(column)
    array = plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain
    wanted = stored_type(array.type)
    return array if array.type == wanted else array.cast(wanted)


def canonical_table(table: Any, names: Sequence[str]) -> Any:
    """Some columns of a pa.Table or pa.RecordBatch in that form; raises KeyError for one that is not there."""
    return pa.table([canonical(table.column(name)) for name in names], names=list(names))


def _kind(stored: Any) -> str:
    # The names of nested fields change on the way through Parquet: their values, spelt out, must do.
    return "nested" if pa.types.is_nested(stored) else str(stored)


def _parts(array: Any, rows_before: int) -> Iterator[tuple[int, Any]]:
    """The array's share of its column's three streams."""
    if array.null_count:
        nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + rows_before
        yield _NULLS, nulls.astype(np.int64).tobytes()
        array = array.drop_null()
    kind = array.type
    if pa.types.is_null(kind) or not len(array):
        return
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        _, offsets_buffer, text = array.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
        yield _LENGTHS, np.diff(offsets).tobytes()
        if text is not None:
            yield _VALUES, text.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    elif pa.types.is_fixed_size_list(kind) and not array.values.null_count:
        yield from _parts(array.flatten(), rows_before)  # all of one length: their values say everything
    elif pa.types.is_nested(kind):
        spelt = [repr(value).encode() for value in array.to_pylist()]
        yield _LENGTHS, np.array([len(value) for value in spelt], np.int64).tobytes()
        yield _VALUES, b"".join(spelt)
    else:
        yield _VALUES, _fixed_width(array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array)


def _fixed_width(array: Any) -> Any:
    width = array.type.bit_width // 8
    return array.buffers()[1].slice(array.offset * width, len(array) * width)
