"""What a file is that cannot be read as Parquet, from its first and last bytes: so that a sentence can say it.

Decides what is worth telling apart: an empty file, one that was cut off, one that is encrypted, and what people leave
among Parquet files or call by that name. Leaves the reading of the bytes, and what becomes of the file, alone.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES, TAIL_BYTES = 4096, 8
PARQUET, ENCRYPTED = b"PAR1", b"PARE"  # how a file begins and ends
SMALLEST = 12  # bytes: both marks, and between them how long the footer is

_AGAIN = "write it again or take it out of the input"
_CONVERT = "write it as Parquet or take it out of the input"
_UNPACK = "unpack it or take it out of the input"
_DECRYPT = "write a copy that is not encrypted and name that"

# How a file begins -> what it is, and what to do.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch it with git lfs pull",
    ),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with snappy", _UNPACK),
    (b"PK\x03\x04", "a zip archive, which may be an Excel workbook", _UNPACK),
    (b"ARROW1", "an Arrow file (Feather)", _CONVERT),
    (b"FEA1", "a Feather file of version 1", _CONVERT),
    (b"\xff\xff\xff\xff", "a stream of Arrow batches", _CONVERT),
    (b"ORC", "an ORC file", _CONVERT),
    (b"Obj\x01", "an Avro file", _CONVERT),
    (b"SEQ", "a sequence file of Hadoop", _CONVERT),
    (b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (b"SQLite format 3\x00", "an SQLite database", _CONVERT),
    (b"\x93NUMPY", "a NumPy array", _CONVERT),
    (b"\x80\x04\x95", "a pickle of Python", _CONVERT),
    (b"\x80\x05\x95", "a pickle of Python", _CONVERT),
    (b"%PDF", "a PDF", _CONVERT),
    (b"\xd0\xcf\x11\xe0", "an old Office document, which may be an Excel workbook", _CONVERT),
)
_MARKS: tuple[tuple[int, bytes, str], ...] = (  # the same for what has its mark further behind
    (8, b"DUCK", "a DuckDB database"),
    (257, b"ustar", "a tar archive"),
)
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class FileKind:
    """What a file is, as a sentence goes on from its name, and what to do about it."""

    what: str
    remedy: str
    certain: bool = False  # nothing that pyarrow says of it would add to that


def kind_of(head: bytes, tail: bytes, size: int) -> FileKind:
    """The kind of a file with these first and last bytes, of which pyarrow has said that it is no Parquet."""
    if size == 0:
        return FileKind("is empty", _AGAIN, certain=True)
    if tail.endswith(ENCRYPTED):
        return FileKind("is an encrypted Parquet file, for which there is no key", _DECRYPT)
    begins, ends = head.startswith((PARQUET, ENCRYPTED)), size >= SMALLEST and tail.endswith(PARQUET)
    if begins and ends:
        return FileKind("is damaged", _AGAIN)
    if begins:
        return FileKind("begins as a Parquet file and is cut off", _AGAIN)
    known = _by_mark(head) or _by_text(head)
    if known is not None and not ends:
        return known
    if not head.strip(b"\0"):
        return FileKind("begins with nothing but zero bytes, as a copy that broke off leaves them", _AGAIN)
    return FileKind("ends as a Parquet file, but does not begin as one" if ends else "is no Parquet file", _AGAIN)


def _by_mark(head: bytes) -> FileKind | None:
    for mark, what, remedy in _MAGIC:
        if head.startswith(mark):
            return FileKind(f"is {what}" if remedy != _CONVERT else f"is {what}, no Parquet file", remedy, certain=True)
    for place, mark, what in _MARKS:
        if head[place : place + len(mark)] == mark:
            return FileKind(f"is {what}, no Parquet file", _CONVERT, certain=True)
    return None


def _by_text(head: bytes) -> FileKind | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return FileKind("is a text, no Parquet file", _CONVERT, certain=True)
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < HEAD_BYTES:  # else a character is cut by the end of what was read
            return None
        text = head[: error.start].decode("utf-8-sig")
    if not all(letter.isprintable() or letter in "\t\n\r\f" for letter in text):
        return None
    return FileKind(f"is {_kind_of_text(text)}, no Parquet file", _CONVERT, certain=True)


def _kind_of_text(text: str) -> str:
    begin = text.lstrip()[:64].lower()
    if "/annex/objects/" in text:
        return "a pointer of git-annex"
    if begin.startswith(("<!doctype html", "<html")):
        return "a page of HTML, as a server sends it in place of a file"
    if begin.startswith("<?xml"):
        return "an XML text"
    if begin.startswith(("{", "[")):
        return "a JSON text"
    first, _, rest = text.partition("\n")
    second = rest.partition("\n")[0]
    if any(first.count(mark) and first.count(mark) == second.count(mark) for mark in _SEPARATORS):
        return "a CSV text"
    return "a text"
