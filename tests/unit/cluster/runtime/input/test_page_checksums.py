"""Checksums that a file's pages carry are looked at on every road, whatever the pages are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.file_list import FileList
from cluster.core.plan.partitions import NO_PARTITIONS
from cluster.core.settings import InputSettings
from cluster.run_errors import InputDamaged
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.shuffle.bucket_split import write_piece
from cluster.runtime.shuffle.shuffle import open_shuffle
from cluster.runtime.storage.open_store import StoreSpec
from tests.inputs.series import make_series, replace, settings_for

ROWS = 400
PAGES = [
    (version, dictionary, compression)
    for version in ("1.0", "2.0")
    for dictionary in (False, True)
    for compression in ("none", "snappy", "zstd")
]
Read = Callable[[Path, InputSettings], None]
every_page = pytest.mark.parametrize("pages", PAGES)


def lay(path: Path, pages: Any, *, checksums: bool = True) -> Any:
    """A file of one row group whose columns have values that repeat."""
    version, dictionary, compression = pages
    table = replace(make_series([ROWS]), "f0", pa.array(np.arange(ROWS) % 7, pa.float32()))
    pq.write_table(
        table,
        path,
        use_dictionary=dictionary,
        compression=compression,
        data_page_version=version,
        write_page_checksum=checksums,
        write_statistics=False,
    )
    return table


def bodies(path: Path, column: int) -> list[int]:
    """Bytes that stand in the pages of a column, not in their headers, of which there are no checksums."""
    chunk = pq.read_metadata(path).row_group(0).column(column)
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    ends = [begin + chunk.total_compressed_size, *([chunk.data_page_offset] if chunk.dictionary_page_offset else [])]
    return [end - back for end in ends for back in (1, 4)]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def by_number(path: Path, settings: InputSettings) -> None:
    RowGroups((str(path),), ("f0",), NO_PARTITIONS, cache_bytes=0, checksums=settings.page_checksums).rows(0, 0, ROWS)


def by_scan(path: Path, settings: InputSettings) -> None:
    scan_file(str(path), settings)


def by_shuffle(path: Path, settings: InputSettings) -> None:
    shuffle = open_shuffle(settings, FileList.of([str(path)]), StoreSpec(str(path.parent / "out")), map)
    write_piece(0, shuffle)


@every_page
@pytest.mark.parametrize(("read", "column"), [(by_number, 2), (by_scan, 0), (by_scan, 1), (by_shuffle, 2)])
def test_a_bit_that_is_another_is_found(tmp_path: Path, pages: Any, read: Read, column: int) -> None:
    path = tmp_path / "a.parquet"
    lay(path, pages)
    settings, whole = settings_for(path, bad_entity="fail"), path.read_bytes()
    read(path, settings)
    for place in bodies(path, column):
        flip(path, place)
        with pytest.raises(InputDamaged, match=r"a\.parquet"):
            read(path, settings)
        path.write_bytes(whole)


@every_page
def test_whole_files_are_read_as_they_are(tmp_path: Path, pages: Any) -> None:
    for checksums in (False, True):
        path = tmp_path / f"{checksums}.parquet"
        table = lay(path, pages, checksums=checksums)
        for looked_at in (False, True):
            groups = RowGroups((str(path),), ("f0", "f1"), NO_PARTITIONS, cache_bytes=0, checksums=looked_at)
            assert groups.rows(0, 0, ROWS).equals(table.select(["f0", "f1"]))


@pytest.mark.parametrize("read", [by_number, by_shuffle], ids=lambda read: read.__name__)
def test_they_are_not_looked_at_where_that_is_asked_for(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.parquet"
    lay(path, PAGES[0])
    flip(path, bodies(path, 2)[0])
    read(path, settings_for(path, page_checksums=False))
    with pytest.raises(InputDamaged):
        read(path, settings_for(path, bad_entity="fail"))
