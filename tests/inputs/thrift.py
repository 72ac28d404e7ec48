"""Thrift's compact protocol, as Parquet's footers and page headers are written in it: read, changed, written again.

A struct is a dictionary from a field's number to its type and value; a list is its element type and values. Nothing
here knows Parquet but the places at the end, so that bytes of other writers can be made by hand.
"""

from __future__ import annotations

import struct as packing
from collections.abc import Callable
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12
Struct = dict[int, tuple[int, Any]]


def read_struct(content: bytes, at: int = 0) -> tuple[Struct, int]:
    """The struct that begins at a place, and the place behind it."""
    fields: Struct = {}
    number = 0
    while True:
        head, at = content[at], at + 1
        if head == 0:
            return fields, at
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            zigzag, at = _varint(content, at)
            number = _unzigzag(zigzag)
        value, at = _value(content, at, kind)
        fields[number] = (kind, value)


def write_struct(fields: Struct) -> bytes:
    """The same as bytes; field numbers rise."""
    out, last = b"", 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _as_varint(_zigzag(number))
        out += _as_bytes(kind, value)
        last = number
    return out + b"\0"


def _value(content: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return content[at], at + 1
    if kind == DOUBLE:
        return packing.unpack_from("<d", content, at)[0], at + 8
    if kind == BINARY:
        size, at = _varint(content, at)
        return content[at : at + size], at + size
    if kind == STRUCT:
        return read_struct(content, at)
    if kind in (LIST, SET):
        return _list(content, at)
    number, at = _varint(content, at)
    return _unzigzag(number), at


def _list(content: bytes, at: int) -> tuple[Any, int]:
    head, at = content[at], at + 1
    kind, size = head & 15, head >> 4
    if size == 15:
        size, at = _varint(content, at)
    values = []
    for _ in range(size):
        if kind in (TRUE, FALSE):
            value, at = content[at] == TRUE, at + 1
        else:
            value, at = _value(content, at, kind)
        values.append(value)
    return (kind, values), at


def _as_bytes(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind == DOUBLE:
        return packing.pack("<d", value)
    if kind == BINARY:
        return _as_varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return write_struct(value)
    if kind in (LIST, SET):
        inner, values = value
        head = bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([240 | inner]) + _as_varint(len(values))
        flags = inner in (TRUE, FALSE)
        return head + b"".join(bytes([TRUE if one else FALSE]) if flags else _as_bytes(inner, one) for one in values)
    return _as_varint(_zigzag(value))


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = content[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        value, out = value >> 7, out + bytes([value & 127 | 128])
    return out + bytes([value])


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


# ---- Parquet

NUM_ROWS, ROW_GROUPS = 3, 4  # of the footer
COLUMNS, GROUP_ROWS = 1, 3  # of a row group
META = 3  # of a column
PATH, NUM_VALUES, DATA_PAGE, DICTIONARY_PAGE = 3, 5, 9, 11  # of its metadata
COMPRESSED_SIZE, PAGE_V1 = 3, 5  # of a page's header
PAGE_VALUES = 1  # of its part for data


def footer_of(content: bytes) -> Struct:
    """The footer of a whole file."""
    return read_struct(content, _footer_start(content))[0]


def with_footer(content: bytes, footer: Struct) -> bytes:
    """The file with another footer."""
    written = write_struct(footer)
    return content[: _footer_start(content)] + written + len(written).to_bytes(4, "little") + content[-4:]


def change_footer(content: bytes, change: Callable[[Struct], None]) -> bytes:
    """The file with its footer changed."""
    footer = footer_of(content)
    change(footer)
    return with_footer(content, footer)


def row_groups(footer: Struct) -> list[Struct]:
    """The row groups."""
    groups: list[Struct] = footer[ROW_GROUPS][1][1]
    return groups


def column_of(group: Struct, name: str) -> Struct:
    """The metadata of a column that is called so."""
    metas = [chunk[META][1] for chunk in group[COLUMNS][1][1]]
    return next(meta for meta in metas if b".".join(meta[PATH][1][1]) == name.encode())


def set_whole(fields: Struct, number: int, value: int) -> None:
    """Puts a whole number into a field that is there."""
    fields[number] = (fields[number][0], value)


def _footer_start(content: bytes) -> int:
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")
