"""What becomes of files: ways in which one, or a part of it, cannot be read, though it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def cut_off(path: Path) -> None:
    """The last bytes are missing."""
    path.write_bytes(path.read_bytes()[:-20])


def no_parquet(path: Path) -> None:
    """It is a text."""
    path.write_text("entity,time\ne0000,1\n")


def empty(path: Path) -> None:
    """It has no bytes."""
    path.write_bytes(b"")


def torn_pages(path: Path) -> None:
    """Its footer is whole, the pages of its first columns are not."""
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)


DAMAGES = (cut_off, no_parquet, empty, torn_pages)
WHAT = {  # a sentence says of each
    "cut_off": "begins as a Parquet file and is cut off",
    "no_parquet": "is a CSV text, no Parquet file",
    "empty": "is empty",
    "torn_pages": "is damaged",
}


def damaged_features(folder: Path, table: Any, files: list[int], groups: list[int]) -> None:
    """Files whose keys and first row groups are whole, and whose feature pages of row group 1 in file 1 are not."""
    start = 0
    folder.mkdir()
    for index, rows in enumerate(files):
        path = folder / f"part-{index:03d}.parquet"
        pq.write_table(table.slice(start, rows), path, row_group_size=groups[index], compression="snappy")
        start += rows
    chunk = pq.read_metadata(path).row_group(1).column(2)
    content = bytearray(path.read_bytes())
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    content[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
