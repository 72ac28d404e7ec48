"""The checksum of a fragment's rows: of what they say, not of how a file or a table holds them.

The writer takes it before a file is written, an audit after it was read back, and both must come to the same. So it
hashes the form that all roads lead to: dictionaries and extensions opened, text and bytes alike, times in the units
that Parquet keeps (it has no seconds, and dates in days only). Where tables were cut does not matter either: each
column has streams of its own, the rows that are null, the lengths of what has one, the values, and of text, which is an
entity's name row after row more often than not, how often each value follows itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowDictionary, ArrowValues, over_buffer
from cluster.core.times import as_opened, as_plain, opened_type, stored_type
from cluster.core.value_texts import spellings
from lstm_core.array_types import Ints


class Stream(Protocol):
    """A hash, as `hashlib` has them."""

    def update(self, content: bytes | pa.Buffer, /) -> None: ...
    def copy(self) -> Stream: ...
    def digest(self) -> bytes: ...


Parts: TypeAlias = "Iterator[tuple[int, bytes | pa.Buffer]]"  # which stream, and what goes into it

_NULLS, _LENGTHS, _VALUES, _REPEATS = range(4)


class RowChecksum:
    """A hash over the rows of tables that follow each other; all have the same columns."""

    def __init__(self, stream: Callable[[], Stream] = hashlib.sha256) -> None:
        """`stream` makes what hashes one stream of a column."""
        self._columns: dict[str, _Column] = {}
        self._rows, self._stream = 0, stream

    def add(self, table: pa.Table | pa.RecordBatch) -> None:
        """Adds the rows of a table."""
        columns: Sequence[ArrowValues] = table.columns
        for name, values in zip(table.schema.names, columns, strict=True):
            kind = _kind(stored_type(opened_type(values.type)))
            column = self._columns.setdefault(name, _Column(kind, self._stream))
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

    def by_column(self) -> dict[str, str]:
        """A digest for each column: of its type, of how many rows there are, and of its streams."""
        found = {}
        for name, column in self._columns.items():
            whole = self._stream()
            whole.update(f"{self._rows} {column.kind}".encode())
            for digest in column.digests():
                whole.update(digest)
            found[name] = whole.digest().hex()
        return found


class _Column:
    """The streams of one column."""

    def __init__(self, kind: str, stream: Callable[[], Stream]) -> None:
        self.kind = kind
        self._streams = [stream() for _ in range(4)]
        self._last: tuple[ArrowArray, int] | None = None  # the newest text (1,), and how often it was there in a row

    def add(self, values: ArrowValues, rows_before: int) -> None:
        """Adds a column's values."""
        runs = _dictionary_runs(values)
        if runs is not None:
            self._add_runs(*runs)
            return
        array = _stored(as_opened(values))
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

    def _add_runs(self, values: ArrowArray, repeats: Ints) -> None:
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

    def _update(self, parts: Parts) -> None:
        _update(self._streams, parts)


def _update(streams: Sequence[Stream], parts: Parts) -> None:
    for stream, values in parts:
        streams[stream].update(values)


def canonical(column: ArrowValues) -> ArrowArray:
    """A column as one array in the form that survives Parquet and can be compared; raises nothing, loses nothing."""
    return _stored(as_plain(column))


def _stored(column: ArrowValues) -> ArrowArray:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    wanted = stored_type(array.type)
    return array if array.type == wanted else array.cast(wanted)


def canonical_table(table: pa.Table | pa.RecordBatch, names: Sequence[str]) -> pa.Table:
    """Some columns of a table in that form; raises KeyError for one that is not there."""
    return pa.table([canonical(table.column(name)) for name in names], names=list(names))


def _kind(stored: pa.DataType) -> str:
    # The names of nested fields change on the way through Parquet: their values, spelt out, must do.
    return "nested" if pa.types.is_nested(stored) else str(stored)


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(stored) or pa.types.is_large_binary(stored))


def _dictionary_runs(column: ArrowValues) -> tuple[ArrowArray, Ints] | None:
    """The runs of a text column that is one dictionary without a null; None for any other."""
    if not pa.types.is_dictionary(column.type) or not _is_text(opened_type(column.type)):
        return None
    chunks = cast(list[ArrowDictionary], column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    if len(chunks) != 1 or not len(chunks[0]) or chunks[0].null_count or chunks[0].dictionary.null_count:
        return None
    index = chunks[0].indices.to_numpy()
    start = np.flatnonzero(np.append(True, index[1:] != index[:-1]))
    # A value may be there twice. It is text, and so one array, as only an extension's would not be.
    values, repeats = _runs(cast(ArrowArray, as_plain(chunks[0].dictionary.take(index[start]))))
    borders = np.append(start, len(index))
    ends = np.cumsum(repeats)
    return values, borders[ends] - borders[ends - repeats]


def _runs(array: ArrowArray) -> tuple[ArrowArray, Ints]:
    """Text without a null: of neighbours that are the same the value, and how many there are."""
    runs = pc.run_end_encode(array, run_end_type=pa.int64())  # type: ignore[attr-defined]  # the stubs leave it out
    return runs.values, np.diff(runs.run_ends.to_numpy(), prepend=0)


def _run_parts(values: ArrowArray, repeats: Ints) -> Parts:
    """The share of runs in their column's streams."""
    yield _REPEATS, repeats.astype(np.int64).tobytes()
    _, offsets_buffer, text = values.buffers()
    offsets = over_buffer(offsets_buffer, np.int64)[values.offset : values.offset + len(values) + 1]
    yield _LENGTHS, np.diff(offsets).tobytes()
    if text is not None:
        yield _VALUES, text.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _null_rows(array: ArrowArray, rows_before: int) -> Parts:
    nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + rows_before
    yield _NULLS, nulls.astype(np.int64).tobytes()


def _parts(array: ArrowArray) -> Parts:
    """The share of an array without a null in its column's streams."""
    kind = array.type
    if (
        isinstance(array, pa.FixedSizeListArray)
        and pa.types.is_primitive(kind.value_type)
        and not array.values.null_count
    ):
        yield from _parts(array.flatten())  # all of one length: their values say everything
    elif pa.types.is_nested(kind):
        spelt = [value.encode() for value in spellings(array)]
        yield _LENGTHS, np.array([len(value) for value in spelt], np.int64).tobytes()
        yield _VALUES, b"".join(spelt)
    else:
        yield _VALUES, _fixed_width(array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array)


def _fixed_width(array: ArrowArray) -> pa.Buffer:
    width = array.type.bit_width // 8
    content = cast(pa.Buffer, array.buffers()[1])  # values of a fixed width always have one
    return content.slice(array.offset * width, len(array) * width)
