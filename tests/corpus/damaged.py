"""Files that do not hold what they promise: rows that are not there, bits that were flipped, pages that are torn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.corpus.entry import Entry, Fact, Facts, Night, Read, Refusal, Write, of_table, values_by_row
from tests.corpus.writing import GROUP_ROWS, put
from tests.inputs import thrift

PLAIN: dict[str, Any] = {
    "use_dictionary": False,
    "compression": "none",
    "write_statistics": False,
    "row_group_size": GROUP_ROWS,
}
Damage = Callable[[bytes], bytes]
TRUTH = "_truth"  # the folder with the file as it was: names that begin so are no part of an input


def damaged(damage: Damage, *, in_folders: Sequence[str] = (), **options: Any) -> Write:
    """One file, or one for each sensor with these columns in its folders' names, of which the first is damaged."""

    def write(folder: Path, night: Night) -> None:
        (folder / TRUTH).mkdir()
        table = put(night.table, "kept", night.table.column("n"))
        pq.write_table(table, folder / TRUTH / "whole.parquet")
        files = {"part-0": table}
        if in_folders:
            sensors = table.column("sensor")
            more = "/t=2026-11-20" if "t" in in_folders else ""
            files = {
                f"sensor={name}{more}/part-0": table.filter(pc.equal(sensors, name))
                .sort_by("n")
                .drop_columns(in_folders)
                for name in ("s0", "s1", "s2")
            }
        for index, (name, rows) in enumerate(files.items()):
            path = folder / f"{name}.parquet"
            path.parent.mkdir(exist_ok=True, parents=True)
            pq.write_table(rows, path, **{**PLAIN, **options})
            if index == 0:
                path.write_bytes(damage(path.read_bytes()))

    return write


def as_it_was(more: int = 0) -> Read:
    """The rows before the damage, and so many that a footer promises beyond them."""

    def read(folder: Path) -> Facts:
        facts = of_table(_whole(folder))
        return [*facts, *(Fact(-1 - row, None, None, None) for row in range(more))]

    return read


def _whole(folder: Path) -> Any:
    return pq.ParquetFile(folder / TRUTH / "whole.parquet").read()


def promising(more: int, *, values: bool) -> Damage:
    """The last row group is said to have more rows, and its columns as many values, or as they have."""

    def change(footer: thrift.Struct) -> None:
        group = thrift.row_groups(footer)[-1]
        rows = group[thrift.GROUP_ROWS][1]
        thrift.set_whole(footer, thrift.NUM_ROWS, footer[thrift.NUM_ROWS][1] + more)
        thrift.set_whole(group, thrift.GROUP_ROWS, rows + more)
        for chunk in group[thrift.COLUMNS][1][1] if values else ():
            thrift.set_whole(chunk[thrift.META][1], thrift.NUM_VALUES, rows + more)

    return lambda content: thrift.change_footer(content, change)


def shorter(column: str, group: int = 1) -> Damage:
    """The pages of one column of a row group hold a value less than those of the others."""

    def damage(content: bytes) -> bytes:
        at = _page(content, column, group)
        header, behind = thrift.read_struct(content, at)
        part = header[thrift.PAGE_V1][1]
        thrift.set_whole(part, thrift.PAGE_VALUES, part[thrift.PAGE_VALUES][1] - 1)
        written = thrift.write_struct(header)
        assert len(written) == behind - at, "a header keeps its size"
        return content[:at] + written + content[behind:]

    return damage


def flipped(column: str, group: int = 1) -> Damage:
    """A bit of the last value of a column's page."""

    def damage(content: bytes) -> bytes:
        header, behind = thrift.read_struct(content, _page(content, column, group))
        at = behind + header[thrift.COMPRESSED_SIZE][1] - 2
        return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]

    return damage


def torn(column: str, group: int = 1) -> Damage:
    """A column's page, its header included, as zeros."""

    def damage(content: bytes) -> bytes:
        at = _page(content, column, group)
        header, behind = thrift.read_struct(content, at)
        end = behind + header[thrift.COMPRESSED_SIZE][1]
        return content[:at] + bytes(end - at) + content[end:]

    return damage


def _page(content: bytes, column: str, group: int) -> int:
    meta = thrift.column_of(thrift.row_groups(thrift.footer_of(content))[group], column)
    return int(meta[thrift.DATA_PAGE][1])


SUMS: dict[str, Any] = {"write_page_checksum": True}
SAID = Refusal(r"part-0\.parquet", (1, 2))


def entry(name: str, write: Write, read: Read, at_least: int = 0) -> Entry:
    """Rows that are scored have their scores; all others are in quarantine, or one sentence names the file."""
    return Entry(
        f"damaged: {name}",
        write,
        read=read,
        config={"output.keep": ["kept"]},
        or_refused=None if at_least else SAID,
        nights=1,
        damaged=True,
        at_least=at_least,
        kept=lambda folder, names: values_by_row(_whole(folder), names),
    )


ENTRIES: list[Entry] = [
    *(
        entry(
            f"a row group with fewer rows than it promises, {'as its columns do' if values else 'its columns do not'}"
            + (f", {' and '.join(in_folders)} in folders" if in_folders else ""),
            damaged(promising(3, values=values), in_folders=in_folders),
            as_it_was(3),
        )
        for values in (True, False)
        for in_folders in ((), ("sensor",), ("sensor", "t"))
    ),
    *(
        entry(f"a row group with a value less in {name}", damaged(shorter(name)), as_it_was())
        for name in ("sensor", "t", "a", "kept")
    ),
    # The first row group is whole: its rows are scored.
    *(
        entry(f"a flipped bit in {name}, with checksums", damaged(flipped(name), **SUMS), as_it_was(), at_least=3)
        for name in ("a", "b", "kept")
    ),
    *(
        entry(f"a flipped bit in {name}, with checksums", damaged(flipped(name), **SUMS), as_it_was())
        for name in ("sensor", "t")
    ),
    entry("a torn page in a", damaged(torn("a")), as_it_was(), at_least=3),
    entry("a torn page in sensor", damaged(torn("sensor")), as_it_was()),
    entry("cut off, keys in folders", damaged(lambda content: content[:-20], in_folders=("sensor",)), as_it_was()),
    entry("cut off", damaged(lambda content: content[:-20]), as_it_was()),
    entry("its last byte", damaged(lambda content: content[:-1] + b"2"), as_it_was()),
]
