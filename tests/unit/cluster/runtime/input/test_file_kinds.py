"""What lies among Parquet files, or is called by that name, is told apart by its bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from cluster.run_errors import InputDamaged
from cluster.runtime.input.source_files import open_source
from tests.inputs.series import make_series

TABLE = make_series([5, 4])
Write = Callable[[Path], Any]


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(TABLE, out)
    return out.getvalue()


def arrow_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, TABLE.schema) as writer:
        writer.write_table(TABLE)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("part.parquet", parquet())


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("part.parquet")
        member.size = len(parquet())
        archive.addfile(member, io.BytesIO(parquet()))


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["f0"] = np.arange(3)


def sqlite(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (x)")
    database.commit()
    database.close()


def duck(path: Path) -> None:
    duckdb.connect(str(path)).close()


def numpy(path: Path) -> None:
    with path.open("wb") as out:
        np.save(out, np.arange(3))


def content(value: bytes | str) -> Write:
    return lambda path: path.write_bytes(value if isinstance(value, bytes) else value.encode())


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
AVRO = b"Obj\x01\x04\x14avro.codec\x08null"
ANNEX = "../.git/annex/objects/SHA256E-s1048576--4d7a.parquet/SHA256E-s1048576--4d7a.parquet\n"
KINDS: dict[str, tuple[Write, str]] = {
    "empty": (content(b""), "is empty: write it again"),
    "cut off": (content(parquet()[:-9]), r"begins as a Parquet file and is cut off \(.*\): write it again"),
    "only a mark": (content(b"PAR1"), "begins as a Parquet file and is cut off"),
    "a broken footer": (content(parquet()[:-60] + b"\xff" * 52 + parquet()[-8:]), r"is damaged \(.*\): write it again"),
    "zeros": (content(bytes(5000)), "begins with nothing but zero bytes, as a copy that broke off leaves them"),
    "noise": (content(bytes(range(128, 256)) * 9), r"is no Parquet file \(.*\): write it again"),
    "Git LFS": (content(LFS), "is a Git LFS pointer, not the file itself: fetch it with git lfs pull, then"),
    "git-annex": (content(ANNEX), "is a pointer of git-annex, no Parquet file"),
    "gzip": (content(gzip.compress(parquet())), "is compressed with gzip: unpack it"),
    "bzip2": (content(bz2.compress(parquet())), "is compressed with bzip2: unpack it"),
    "xz": (content(lzma.compress(parquet())), "is compressed with xz: unpack it"),
    "zstd": (content(pa.compress(parquet(), "zstd", asbytes=True)), "is compressed with zstd: unpack it"),
    "lz4": (content(pa.compress(parquet(), "lz4", asbytes=True)), "is compressed with lz4: unpack it"),
    "zip": (zipped, "is a zip archive, which may be an Excel workbook: unpack it"),
    "tar": (tarred, "is a tar archive, no Parquet file"),
    "Feather": (lambda path: feather.write_feather(TABLE, path), r"is an Arrow file \(Feather\), no Parquet file"),
    "Feather 1": (content(b"FEA1" + bytes(64)), "is a Feather file of version 1, no Parquet file"),
    "a footer alone": (
        content(b"PAR2" + parquet()[4:-60] + b"\xff" * 52 + parquet()[-8:]),
        "ends as a Parquet file, but",
    ),
    "Arrow stream": (arrow_stream, "is a stream of Arrow batches, no Parquet file"),
    "ORC": (lambda path: orc.write_table(TABLE, path), "is an ORC file, no Parquet file: write it as Parquet"),
    "Avro": (content(AVRO), "is an Avro file, no Parquet file"),
    "HDF5": (hdf5, "is an HDF5 file, no Parquet file"),
    "SQLite": (sqlite, "is an SQLite database, no Parquet file"),
    "DuckDB": (duck, "is a DuckDB database, no Parquet file"),
    "NumPy": (numpy, "is a NumPy array, no Parquet file"),
    "pickle": (content(pickle.dumps({"a": list(range(50))})), "is a pickle of Python, no Parquet file"),
    "CSV": (lambda path: csv.write_csv(TABLE, path), "is a CSV text, no Parquet file: write it as Parquet"),
    "CSV with semicolons": (content("a;b\n1;2\n"), "is a CSV text"),
    "CSV with a mark": (content("\ufeffa\tb\n1\t2\n"), "is a CSV text"),
    "JSON": (content(json.dumps({"a": 1})), "is a JSON text, no Parquet file"),
    "JSON lines": (content('{"a": 1}\n{"a": 2}\n'), "is a JSON text"),
    "XML": (content('<?xml version="1.0"?><a/>'), "is an XML text"),
    "HTML": (content("<!DOCTYPE html>\n<html>404"), "is a page of HTML, as a server sends it in place of a file"),
    "a note": (content("Look at e0003 tomorrow.\n"), "is a text, no Parquet file"),
    "a long text": (content("ü" * 5000), "is a text, no Parquet file"),
    "UTF-16": (content("a,b\n".encode("utf-16")), "is a text, no Parquet file"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("called", ["part.parquet", "part.data"])
def test_a_file_that_is_no_parquet_is_called_what_it_is(tmp_path: Path, name: str, called: str) -> None:
    write, sentence = KINDS[name]
    write(tmp_path / called)
    path = str(tmp_path / called)
    with pytest.raises(InputDamaged, match=rf"/{called} ({sentence})") as found, open_source(path, {}):
        pass
    assert str(found.value).endswith(", then start the run again.")
    assert str(found.value).count("\n") == 0
    if called.endswith(".parquet"):
        assert "**/*.parquet" not in str(found.value)
