"""The sums of a file of carry-over: one for each column of each row group, looked at where the group is decoded.

A night reads some row groups of a table and some columns of others, so a checksum of a whole file would cost it the
whole file. These sums lie in the file's own footer and are CRCs, which cost little beside decoding: they find bits that
flipped and values that somebody has edited. The file's checksum in `_SUCCESS` is a SHA-256 of its rows: `verify` takes
it of all files, and a night of those whose footer has no sums, as of a copy that another program has written.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.runtime.commit.row_checksum import RowChecksum

Sums = tuple[tuple[str, tuple[str, ...]], ...]  # column -> the sum of each row group

_KEY = b"slotcar.sums"


class Crc:
    """CRC-32 in the form of `hashlib`'s hashes."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def update(self, content: bytes | pa.Buffer) -> None:
        """Adds bytes."""
        self._value = zlib.crc32(content, self._value)

    def copy(self) -> Crc:
        """The same, to go on from."""
        return Crc(self._value)

    def digest(self) -> bytes:
        """Of all that was added."""
        return self._value.to_bytes(4, "big")


class FileSums:
    """The sums of a file that is being written."""

    def __init__(self) -> None:
        self._columns: dict[str, list[str]] = {}

    def add(self, table: pa.Table, *, group_rows: int) -> None:
        """Adds the row groups of a table that is written with so many rows to each."""
        for begin in range(0, table.num_rows, group_rows):
            for name, told in _of_group(table.slice(begin, group_rows)).items():
                self._columns.setdefault(name, []).append(told)

    def put_into(self, writer: pq.ParquetWriter) -> None:
        """Puts them into the footer."""
        told = {_KEY: json.dumps(self._columns).encode()}
        writer.add_key_value_metadata(told)  # type: ignore[arg-type]  # why: it takes bytes too


def sums_of(footer: pq.FileMetaData) -> Sums:
    """The sums in a footer; none where it has none that fit."""
    told = (footer.metadata or {}).get(_KEY)
    try:
        columns = json.loads(told) if told is not None else {}
        sums = tuple((str(name), tuple(map(str, groups))) for name, groups in columns.items())
    except (ValueError, AttributeError, TypeError):
        return ()
    names = set(footer.schema.to_arrow_schema().names)
    fits = {name for name, _ in sums} == names and all(len(groups) == footer.num_row_groups for _, groups in sums)
    return sums if fits else ()


def expect_sums(sums: Sums, group: int, table: pa.Table) -> None:
    """Raises ArrowInvalid, as pyarrow does for other damage, where a row group is not what was written."""
    known = dict(sums)
    if not known:
        return
    found = _of_group(table)
    wrong = next((name for name, told in found.items() if known.get(name, (told,) * (group + 1))[group] != told), None)
    if wrong is not None:
        raise pa.ArrowInvalid(
            f"column {wrong!r} of its row group {group} is not what was written: the checksum differs"
        )


def _of_group(table: pa.Table) -> Mapping[str, str]:
    checksum = RowChecksum(Crc)
    checksum.add(table)
    return checksum.by_column()
