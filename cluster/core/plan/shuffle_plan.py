"""How interleaved rows are clustered: in which pieces the input is read, which bucket an entity is in, in which order
a bucket's rows stand.

Decides from the input's footers and its columns' types alone, so every attempt, on whatever machine, cuts and sorts
alike. A bucket's rows stand by entity, then time, then their place in the input. Limits it sets: a piece holds about
`PIECE_BYTES` of needed columns (one row group at least), a bucket about `BUCKET_BYTES`, and there are at most
`BUCKETS_MAX`; a bucket that turns out larger, for the sake of one long entity, is sorted in runs and merged. Leaves
files and memory alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.core.arrow_types import ArrowArray, ArrowColumn, over_buffer
from cluster.core.plan.inventory import Inventory, SourceFile
from cluster.core.times import Ordinals, as_plain, compare, table_ordinals
from lstm_core.array_types import Bools, Ints

Hashes: TypeAlias = NDArray[np.uint64]

PIECE_BYTES = 128 << 20
BUCKET_BYTES = 64 << 20
BUCKETS_MAX = 512
TEXT_BYTES = 24  # what a value of no fixed width is taken for
ORIGIN_FILE, ORIGIN_ROW = "slotcar__file", "slotcar__row"  # where a row stood: the last two columns, behind its own

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Part:
    """Consecutive row groups of one file."""

    file: int  # index into the input's files
    first_group: int
    stop_group: int
    first_row: int  # of the file


@dataclass(frozen=True)
class Cuts:
    """The pieces of the input and the number of buckets."""

    pieces: tuple[tuple[Part, ...], ...]
    buckets: int


def place_of(origin_row: Ints) -> Ints:
    """The row of the input's file: a row that could not be read but for its keys is marked by its complement."""
    return np.where(origin_row < 0, ~origin_row, origin_row).astype(np.int64)


def row_bytes(columns: pa.Schema) -> int:
    """About how many bytes a row of these columns takes in memory."""
    return sum(_value_bytes(field.type) for field in columns)


def cut_input(files: Sequence[SourceFile], bytes_per_row: int) -> Cuts:
    """The whole input in pieces, each row group in one of them; many small files share a piece."""
    rows_max = max(1, PIECE_BYTES // bytes_per_row)
    pieces: list[tuple[Part, ...]] = []
    parts: list[Part] = []
    rows = 0
    for index, file in enumerate(files):
        start = 0
        for group, group_rows in enumerate(file.row_group_rows):
            if parts and rows + group_rows > rows_max:
                pieces.append(tuple(parts))
                parts, rows = [], 0
            _add_group(parts, index, group, start)
            start, rows = start + group_rows, rows + group_rows
    if parts:
        pieces.append(tuple(parts))
    in_all = sum(file.rows for file in files) * bytes_per_row
    return Cuts(tuple(pieces), min(BUCKETS_MAX, max(1, -(-in_all // BUCKET_BYTES))))


def _add_group(parts: list[Part], file: int, group: int, first_row: int) -> None:
    if parts and parts[-1].file == file:
        parts[-1] = Part(file, parts[-1].first_group, group + 1, parts[-1].first_row)
    else:
        parts.append(Part(file, group, group + 1, first_row))


def _value_bytes(kind: pa.DataType) -> int:
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return TEXT_BYTES


def row_hashes(table: pa.Table) -> Hashes:
    """A hash of each row (row,), the same for equal values in whatever types that are one in plain.

    Multiply, add and mix: no hash of Python's, which is another one in every process. Nulls are as good as any value.
    """
    hashes = np.full(table.num_rows, _GOLDEN, np.uint64)
    for column in table.columns:
        hashes = _mixed(hashes * _GOLDEN + _column_hashes(column))
    return hashes


def _column_hashes(column: ArrowColumn) -> Hashes:
    plain = as_plain(column)
    array = plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain
    if len(array) == 0:
        return np.zeros(0, np.uint64)
    if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type):
        encoded = array.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(np.append(_text_hashes(encoded.dictionary), np.uint64(1))[codes])
    if array.null_count:
        hashes = np.ones(len(array), np.uint64)
        hashes[array.is_valid().to_numpy(zero_copy_only=False)] = _fixed_hashes(array.drop_null())
        return hashes
    return _fixed_hashes(array)


def _text_hashes(texts: ArrowArray) -> Hashes:
    if not len(texts):
        return np.zeros(0, np.uint64)
    _, offsets_buffer, content = texts.buffers()
    offsets = over_buffer(offsets_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(offsets)
    text = over_buffer(content, np.uint8)[offsets[0] : offsets[-1]] if content is not None else np.zeros(0, np.uint8)
    place = np.arange(len(text)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    weighted = (text.astype(np.uint64) + _GOLDEN) * _weights(int(lengths.max()))[place]
    sums = np.append(np.uint64(0), np.cumsum(weighted, dtype=np.uint64))
    return _mixed(sums[offsets[1:] - offsets[0]] - sums[offsets[:-1] - offsets[0]] + lengths.astype(np.uint64))


def _fixed_hashes(array: ArrowArray) -> Hashes:
    if not len(array):
        return np.zeros(0, np.uint64)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    content = over_buffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return _mixed((content.reshape(-1, width) @ _weights(width)) + np.uint64(width))


def _weights(count: int) -> Hashes:
    return _mixed(np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN) | np.uint64(1)


def _mixed(hashes: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX_1
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX_2
    return np.asarray(hashes ^ (hashes >> np.uint64(31)))


def sort_columns(keys: pa.Table, times: pa.Table) -> list[Ordinals]:
    """What rows are sorted by, the first column deciding first: the entity's rank, then the times' ordinals.

    Ranks, and the ordinals of further text columns, hold within one call only. Times are absolute, so rows of one call
    may be compared with each other, never with those of another.
    """
    return [_key_ranks(keys), *table_ordinals(times)]


def sorted_order(columns: Sequence[Ordinals]) -> Ints:
    """The stable order (row,) of rows by `sort_columns`."""
    return np.lexsort(tuple(reversed(columns))).astype(np.int64, copy=False)


def by_keys(inventory: Inventory) -> Inventory:
    """The same with entities numbered in order of their keys, as rows sorted by them would have it."""
    order = np.argsort(_key_ranks(inventory.keys))
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    entity = number[inventory.extent_entity]
    extents = np.argsort(entity, kind="stable")
    return replace(
        inventory,
        keys=inventory.keys.take(order),
        entity_rows=inventory.entity_rows[order],
        sorted=inventory.sorted[order],
        extent_entity=entity[extents],
        extent_file=inventory.extent_file[extents],
        extent_start=inventory.extent_start[extents],
        extent_count=inventory.extent_count[extents],
    )


def _key_ranks(keys: pa.Table) -> Ints:
    ranks = np.zeros(keys.num_rows, np.int64)
    for index, column in enumerate(keys.columns):
        more, count = _column_ranks(column)
        ranks = more if index == 0 else np.unique(ranks * count + more, return_inverse=True)[1].astype(np.int64)
    return ranks


def _column_ranks(column: ArrowColumn) -> tuple[Ints, int]:
    plain = as_plain(column)
    encoded = (plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[encoded.indices.to_numpy()], max(1, len(order))


def next_in_merge(last: Sequence[Ordinals], first: Sequence[Ordinals]) -> tuple[int, Bools]:
    """Which sorted run bounds what can be merged now, and which runs (run,) have rows up to there.

    `last` and `first` are the last and the first row at hand of each run, as `sort_columns` of one call. The bound is
    the least last row, of several the first run's: whatever a run has behind its last row at hand is not before it.
    """
    bound = int(sorted_order(last)[0])
    limit = [np.full(len(column), column[bound]) for column in last]
    later, _ = compare(limit, list(first))
    return bound, ~later


def ready_in_merge(columns: Sequence[Ordinals], run: Ints, bound: tuple[int, int]) -> Bools:
    """Which rows (row,) of several runs may go out: those before the bounding row, and its equals up to its own run.

    `bound` is (the bounding run, the row that bounds). Later runs' equal rows wait: more of them may be to come in the
    bounding run, and equal times keep the order of the input.
    """
    limit = [np.full(len(column), column[bound[1]]) for column in columns]
    less, equal = compare(list(columns), limit)
    return np.asarray(less | (equal & (run <= bound[0])))
