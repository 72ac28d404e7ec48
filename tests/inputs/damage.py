"""What becomes of files: four ways in which one cannot be read, though it is there."""

from __future__ import annotations

from pathlib import Path


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
