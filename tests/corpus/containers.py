"""The files themselves: encodings, compressions, encryption, names, and what else lies in a folder."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from tests.corpus.column_types import far
from tests.corpus.entry import Entry, Facts, Night, Refusal, Write, by_arrow, connection, of_table, parquet_files
from tests.corpus.writing import listed, moments, parts, put, stretched, write_parts, written

PLAIN: dict[str, Any] = {"use_dictionary": False}
LONG = listed(lambda name: f"{name}-{'x' * 40}")
ENCODINGS: dict[str, dict[str, Any]] = {
    "keys in DELTA_BYTE_ARRAY": {**PLAIN, "column_encoding": {"sensor": "DELTA_BYTE_ARRAY"}},
    "keys in DELTA_LENGTH_BYTE_ARRAY": {**PLAIN, "column_encoding": {"sensor": "DELTA_LENGTH_BYTE_ARRAY"}},
    "keys in PLAIN": {**PLAIN, "column_encoding": {"sensor": "PLAIN"}},
    "times in DELTA_BINARY_PACKED": {**PLAIN, "column_encoding": {"t": "DELTA_BINARY_PACKED"}},
    "features in BYTE_STREAM_SPLIT": {**PLAIN, "column_encoding": {"a": "BYTE_STREAM_SPLIT", "b": "BYTE_STREAM_SPLIT"}},
    "pages of version 2": {"data_page_version": "2.0"},
    "pages of version 2, keys in DELTA_BYTE_ARRAY": {
        **PLAIN,
        "data_page_version": "2.0",
        "column_encoding": {"sensor": "DELTA_BYTE_ARRAY"},
    },
    "Parquet 1.0": {"version": "1.0"},
    "pages of few bytes": {"data_page_size": 1, "write_batch_size": 1, "dictionary_pagesize_limit": 8},
    "row groups of one row": {"row_group_size": 1},
    "no statistics and no Arrow schema": {"write_statistics": False, "store_schema": False},
    "an index of pages, and checksums": {"write_page_index": True, "write_page_checksum": True},
    **{f"compressed by {name}": {"compression": name} for name in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")},
}
INT96: dict[str, Any] = {"use_deprecated_int96_timestamps": True}


def encoded(options: dict[str, Any], *, short: bool = False) -> Write:
    """Names that repeat, short or long, in row groups large enough for every encoding to be worth it."""

    def write(folder: Path, night: Night) -> None:
        names = night.table.column("sensor")
        table = stretched(put(night.table, "sensor", names if short else LONG(names)), 20)
        write_parts(folder, parts(table), **{"row_group_size": 300, **options})

    return write


def by_duckdb_v2(folder: Path, night: Night) -> None:
    """DELTA_LENGTH_BYTE_ARRAY and others, as DuckDB chooses them."""
    rows = stretched(put(night.table, "sensor", LONG(night.table.column("sensor"))), 20)
    cursor = connection().cursor()
    cursor.register("rows_of_v2", rows)
    cursor.execute(f"COPY rows_of_v2 TO '{folder}/part-0.parquet' (FORMAT parquet, PARQUET_VERSION V2)").fetchall()


# ---- encryption


class _Keys(pe.KmsClient):
    def wrap_key(self, key: bytes, master: str) -> str:
        return base64.b64encode(key).decode()

    def unwrap_key(self, key: str, master: str) -> bytes:
        return base64.b64decode(key)


def encrypted(column: str, *, footer: bool) -> Write:
    """One column encrypted, and the footer too or not."""

    def write(folder: Path, night: Night) -> None:
        factory = pe.CryptoFactory(lambda config: _Keys())
        wanted = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": [column]}, plaintext_footer=not footer)
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), wanted)
        table = put(night.table, "secret", night.table.column("n"))
        with pq.ParquetWriter(folder / "part-0.parquet", table.schema, encryption_properties=properties) as writer:
            writer.write_table(table, row_group_size=5)

    return write


def without_secret(folder: Path) -> Facts:
    """By pyarrow, all columns but the one that is encrypted."""
    facts: list[Any] = []
    for path in parquet_files(folder):
        facts += of_table(pq.ParquetFile(path).read(["sensor", "t", "a", "b", "n"]))
    return facts


# ---- what lies beside the files


def beside(add: Callable[[Path], object]) -> Write:
    """Good files, and what `add` puts beside them."""

    def write(folder: Path, night: Night) -> None:
        write_parts(folder, parts(night.table))
        add(folder)

    return write


def marks(folder: Path) -> None:
    """What Spark and Databricks leave."""
    for name in ("_SUCCESS", "_metadata", ".part-0.parquet.crc", "_committed_123", "_started_123"):
        (folder / name).write_bytes(b"")
    (folder / "_temporary" / "0").mkdir(parents=True)
    (folder / "_temporary" / "0" / "x.parquet").write_bytes(b"no")


def named(name: str, content: bytes) -> Write:
    return beside(lambda folder: (folder / name).write_bytes(content))


def in_folder(name: str | bytes) -> Write:
    """Good files in a folder, or a file, of this name."""

    def write(folder: Path, night: Night) -> None:
        place = folder / (name if isinstance(name, str) else os.fsdecode(name))
        place.mkdir(parents=True)
        write_parts(place, parts(night.table))

    return write


def oddly_named(folder: Path, night: Night) -> None:
    """A file whose name is no UTF-8."""
    write_parts(folder, parts(night.table))
    (folder / "part-1.parquet").rename(folder / os.fsdecode(b"M\xfcnchen.parquet"))


STRAY = {
    "README.md": b"hello",
    "data.csv": b"sensor,t\ns0,1\n",
    "part-9.parquet": b"",
    "part-8.parquet": b"PAR1",
    "Thumbs.db": b"x",
    "x.parquet.gz": b"\x1f\x8b",
}
FOLDERS = ("a b", "a%20b", "a#b?c", "z=b", "a[1]", "x[/]", "{a}", "ü", "a\nb", "a\\b", " lead", "trail ", "a\x1b[31m")

ENTRIES: list[Entry] = [
    *(
        Entry(f"file: {name}", encoded(options), seldom=() if "keys" in name else ("mixed",))
        for name, options in ENCODINGS.items()
    ),
    Entry(
        "file: short keys in DELTA_LENGTH_BYTE_ARRAY",
        encoded(ENCODINGS["keys in DELTA_LENGTH_BYTE_ARRAY"], short=True),
    ),
    Entry("file: by DuckDB's second version", by_duckdb_v2),
    Entry("INT96", written(INT96)),
    Entry("INT96 to 9999-12-31", written(INT96, t=far("us"))),
    Entry("INT96 before 1677", written(INT96, t=far("us", first=-10_000_000_000))),
    Entry("INT96 of nanoseconds", written(INT96, t=moments(pa.timestamp("ns")))),
    Entry(
        "INT96 to 9999-12-31, kept",
        written(INT96, k=lambda n: far("us")(pa.array([n[0].as_py()] * len(n)).cast(pa.timestamp("us")))),
        config={"output.keep": ["k"]},
    ),
    *(
        Entry(
            f"encrypted: {column}, {'with its footer' if footer else 'with a plain footer'}",
            encrypted(column, footer=footer),
            refused=Refusal("(?i)encrypt", (1, 2)),
            orders=("tidy",),
        )
        for column, footer in (("sensor", False), ("t", False), ("a", False), ("sensor", True))
    ),
    Entry(
        "encrypted: a column that nobody asks for",
        encrypted("secret", footer=False),
        read=without_secret,
        or_refused=Refusal("(?i)encrypt", (1, 2)),
        orders=("tidy",),
    ),
    Entry("beside: marks of Spark and Databricks", beside(marks)),
    Entry(
        "beside: a named pipe",
        beside(lambda folder: os.mkfifo(folder / "q.parquet")),
        or_refused=Refusal("(?i)pipe|no (plain|regular) file"),
        orders=("tidy",),
    ),
    Entry(
        "beside: a link to nowhere",
        beside(lambda folder: (folder / "q.parquet").symlink_to(folder / "nowhere" / "x.parquet")),
        refused=Refusal(r"(?i)link"),
        orders=("tidy",),
    ),
    *(
        Entry(
            f"beside: {name}",
            named(name, content),
            refused=Refusal("(?i)" + name.replace(".", r"\."), (1, 2)),
            orders=("tidy",),
        )
        for name, content in STRAY.items()
    ),
    *(Entry(f"folder called {name!r}", in_folder(name), orders=("tidy",)) for name in FOLDERS),
    Entry("folder whose name is no UTF-8", in_folder(b"M\xfcnchen"), read=by_arrow, orders=("tidy",)),
    Entry("file whose name is no UTF-8", oddly_named, read=by_arrow, orders=("tidy",)),
]
