"""Parquet files that say other numbers of rows and values than they hold; made by changing single numbers in bytes.

They are written plainly (one page for each column of a row group, no dictionary, no compression), so that a number is
found by what stands before it. Thrift's compact form: a number is a varint of twice itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PLAIN: dict[str, Any] = {"use_dictionary": False, "compression": "none", "write_statistics": False}


def write_plain(path: Path, table: Any, group_rows: int | None = None, **options: Any) -> Path:
    """A file whose numbers can be changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group_rows, store_schema=False, **{**PLAIN, **options})
    return path


def shorten(path: Path, column: str, holds: int, group: int = 0) -> None:
    """Of a row group's column, the page says that it holds so many values: fewer or more than the footer says."""
    content = bytearray(path.read_bytes())
    footer = pq.read_metadata(path)
    place = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == column)
    chunk = footer.row_group(group).column(place)
    begin = chunk.data_page_offset
    old, new = varint(chunk.num_values), varint(holds)
    assert len(old) == len(new), "a number that is longer moves all behind it"
    header = re.compile(b"[\x1c\x2c]\x15" + re.escape(old)).search(content, begin, begin + 40)
    assert header is not None, "no page begins there"
    at = header.start() + 2
    content[at : at + len(old)] = new
    path.write_bytes(content)


def say(path: Path, rows: int, *, of_file: bool = True, of_groups: bool = True, of_columns: bool = False) -> None:
    """The footer of a file with one row group says another number of rows, in one place or in several."""
    content = path.read_bytes()
    footer = pq.read_metadata(path)
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    told, old = content[begin:-8], b"\x16" + varint(footer.num_rows)
    places = [found.start() for found in re.finditer(re.escape(old), told)]
    assert len(places) == footer.num_columns + 2, "the number stands elsewhere, too"
    wanted = [of_file, *[of_columns] * footer.num_columns, of_groups]
    for at, changes in reversed(list(zip(places, wanted, strict=True))):
        if changes:
            told = told[:at] + b"\x16" + varint(rows) + told[at + len(old) :]
    path.write_bytes(content[:begin] + told + len(told).to_bytes(4, "little") + b"PAR1")


def understate(path: Path, holds: int, says: int) -> None:
    """Row groups of so many rows are said to be smaller, in every place of the footer that tells of them."""
    content = path.read_bytes()
    footer = pq.read_metadata(path)
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    groups = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
    told = content[begin:-8].replace(b"\x16" + varint(holds), b"\x16" + varint(says))
    whole = footer.num_rows - groups.count(holds) * (holds - says)
    told = told.replace(b"\x16" + varint(footer.num_rows), b"\x16" + varint(whole), 1)
    path.write_bytes(content[:begin] + told + len(told).to_bytes(4, "little") + b"PAR1")


def flip(path: Path, column: str, group: int = 0) -> None:
    """One bit of the last value of a row group's column is another."""
    footer = pq.read_metadata(path)
    place = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == column)
    chunk = footer.row_group(group).column(place)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 2] ^= 0x40
    path.write_bytes(content)


def varint(number: int) -> bytes:
    """As Thrift writes a number that is not negative."""
    rest, out = number * 2, b""
    while rest >= 128:
        out, rest = out + bytes([rest & 127 | 128]), rest >> 7
    return out + bytes([rest])
