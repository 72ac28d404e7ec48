"""The checksum of a fragment's rows: of what they say, not of how a file or a table holds them.

The writer takes it before a file is written, an audit after it was read back, and both must come to the same. So it
hashes the form that all roads lead to: dictionaries and extensions opened, text and bytes alike, times in the units
that Parquet keeps (it has no seconds, and dates in days only). Where tables were cut does not matter either: each
column has streams of its own, the rows that are null, the lengths of what has one, the values, and of text, which is an
entity's name row after row more often than not, how often each value follows itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.core.times import as_plain, plain_type, stored_type

_NULLS, _LENGTHS, _VALUES, _REPEATS = range(4)


class RowChecksum:
    """A hash over the rows of tables that follow each other; all have the same columns."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._rows = 0

    def add(self, table: Any) -> None:
        """Adds the rows of a pa.Table or pa.RecordBatch."""
        for name, values in zip(table.schema.names, table.columns, strict=True):
            kind = _kind(stored_type(plain_type(values.type)))
            column = self._columns.setdefault(name, _Column(kind))
            assert kind == column.kind, f"{name} was {column.kind} and is {kind}"
            column.add(values, self._rows)
        self._rows += table.num_rows

    def hexdigest(self) -> str:
        """sha256 over the columns in their order: names, types, and the streams of each."""
        whole = hashlib.sha256(str(self._rows).encode())
        for name, column in self._columns.items():
            whole.update(f"{len(name)} {name} {column.kind}".encode())
            for digest in column.digests():
                whole.update(digest)
        return whole.hexdigest()


class _Column:
    """The streams of one column."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._streams = [hashlib.sha256() for _ in range(4)]
        self._last: tuple[Any, int] | None = None  # the newest text (1,), and how often it has followed itself so far

    def add(self, values: Any, rows_before: int) -> None:
        """Adds a column's values."""
        runs = _dictionary_runs(values)
        if runs is not None:
            self._add_runs(*runs)
            return
        array = canonical(values)
        if array.null_count:
            self._update(_null_rows(array, rows_before))
            array = array.drop_null()
        if pa.types.is_null(array.type) or not len(array):
            return
        if _is_text(array.type):
            self._add_runs(*_runs(array))
        else:
            self._update(_parts(array))

    def digests(self) -> list[bytes]:
        """One digest for each stream, of all that was added."""
        streams = [stream.copy() for stream in self._streams]
        if self._last is not None:
            _update(streams, _run_parts(self._last[0], np.array([self._last[1]])))
        return [stream.digest() for stream in streams]

    def _add_runs(self, values: Any, repeats: NDArray[np.int64]) -> None:
        """Values of which no two neighbours are the same, and how often each is there; the last may go on."""
        if self._last is not None:
            if self._last[0][0].equals(values[0]):
                repeats = repeats.copy()
                repeats[0] += self._last[1]
            else:
                self._update(_run_parts(self._last[0], np.array([self._last[1]])))
        self._last = (values[-1:], int(repeats[-1]))
        if len(values) > 1:
            self._update(_run_parts(values[:-1], repeats[:-1]))

    def _update(self, parts: Iterator[tuple[int, Any]]) -> None:
        _update(self._streams, parts)


def _update(streams: Sequence[Any], parts: Iterator[tuple[int, Any]]) -> None:
    for stream, values in parts:
        streams[stream].update(values)


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


def _is_text(stored: Any) -> bool:
    return bool(pa.types.is_large_string(stored) or pa.types.is_large_binary(stored))


def _dictionary_runs(column: Any) -> tuple[Any, NDArray[np.int64]] | None:
    """The runs of a text column that is one dictionary without a null; None for any other."""
    if not pa.types.is_dictionary(column.type) or not _is_text(plain_type(column.type)):
        return None
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if len(chunks) != 1 or not len(chunks[0]) or chunks[0].null_count or chunks[0].dictionary.null_count:
        return None
    index = chunks[0].indices.to_numpy()
    start = np.flatnonzero(np.append(True, index[1:] != index[:-1]))
    values, repeats = _runs(as_plain(chunks[0].dictionary.take(pa.array(index[start]))))  # a value may be there twice
    borders = np.append(start, len(index))
    ends = np.cumsum(repeats)
    return values, borders[ends] - borders[ends - repeats]


def _runs(array: Any) -> tuple[Any, NDArray[np.int64]]:
    """Text without a null: of neighbours that are the same the value, and how many there are."""
    runs = pc.run_end_encode(array, run_end_type=pa.int64())
    return runs.values, np.diff(runs.run_ends.to_numpy(), prepend=0)


def _run_parts(values: Any, repeats: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """The share of runs in their column's streams."""
    yield _REPEATS, repeats.astype(np.int64).tobytes()
    _, offsets_buffer, text = values.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[values.offset : values.offset + len(values) + 1]
    yield _LENGTHS, np.diff(offsets).tobytes()
    if text is not None:
        yield _VALUES, text.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _null_rows(array: Any, rows_before: int) -> Iterator[tuple[int, Any]]:
    nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + rows_before
    yield _NULLS, nulls.astype(np.int64).tobytes()


def _parts(array: Any) -> Iterator[tuple[int, Any]]:
    """The share of an array without a null in its column's streams."""
    kind = array.type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type) and not array.values.null_count:
        yield from _parts(array.flatten())  # all of one length: their values say everything
    elif pa.types.is_nested(kind):
        spelt = [repr(value).encode() for value in array.to_pylist()]
        yield _LENGTHS, np.array([len(value) for value in spelt], np.int64).tobytes()
        yield _VALUES, b"".join(spelt)
    else:
        yield _VALUES, _fixed_width(array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array)


def _fixed_width(array: Any) -> Any:
    width = array.type.bit_width // 8
    return array.buffers()[1].slice(array.offset * width, len(array) * width)
