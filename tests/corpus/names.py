"""Names that a run uses itself, words of every type, and what may have become of the run beside."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.entry import Entry, Fact, Facts, Night, Read, Refusal, Write, of_table, parquet_files
from tests.corpus.writing import columns, parts, put, raw_text, write_parts

# ---- columns


def renamed(names: Mapping[str, str]) -> Write:
    def write(folder: Path, night: Night) -> None:
        called = [names.get(name, name) for name in night.table.column_names]
        write_parts(folder, parts(night.table.rename_columns(called)))

    return write


def under(names: Mapping[str, str]) -> Read:
    """By pyarrow, columns under their old names again."""
    old = {new: name for name, new in names.items()}

    def read(folder: Path) -> Facts:
        facts: list[Fact] = []
        for path in parquet_files(folder):
            table = pq.ParquetFile(path).read()
            facts += of_table(table.rename_columns([old.get(name, name) for name in table.column_names]))
        return facts

    return read


OWN = (
    *("file", "row", "rows", "reason", "time", "last_time", "rows_seen", "broken_since", "entity", "key__x", "score"),
    *("slotcar__row", "slotcar__file", "state__lstm__0", "previous__a", "fault", "sorted", "row_start", "row_count"),
    *("window_start", "@length", "key__sensor"),
)
ODD = ("a.b", "select", "ü /", 'with "quotes"', "x[/]", "Sensor", "", "a\x1b[31m")


def called(role: str, column: str, name: str) -> Entry:
    """A column of this name in one of its roles."""
    config: dict[str, Any] = {
        "entity": {"input.entity": [name]},
        "time": {"input.time": [name]},
        "feature": {"input.features": {"a": [name], "b": ["b"]}},
    }[role]
    return Entry(
        f"{role} called {name!r}",
        renamed({column: name}),
        read=under({column: name}),
        config=config,
        or_refused=Refusal(r"input\.|output\.names"),
        orders=("mixed",),
    )


def kept_as(name: str) -> Entry:
    return Entry(
        f"kept column called {name!r}",
        lambda folder, night: write_parts(folder, parts(put(night.table, name, night.table.column("n")))),
        config={"output.keep": [name]},
        or_refused=Refusal(r"keep|output\.names"),
        orders=("tidy",),
    )


def twice(folder: Path, night: Night) -> None:
    table = night.table
    write_parts(folder, [pa.Table.from_arrays([*table.columns, table.column("a")], [*table.column_names, "a"])])


# ---- words

WORDS = ("1", "2", "x", "no word")  # by the number of the row; the last one is in no vocabulary
KNOWN = {"input.vocabulary": {"b": list(WORDS[:3])}}


def words(texts: Sequence[str], make: Callable[[list[Any]], Any], *, lost: bool = False) -> dict[str, Any]:
    """A column of words by the number of the row, as `make` makes it of texts; and a reader that knows them again."""

    def write(folder: Path, night: Night) -> None:
        texts_of = [texts[n % len(texts)] for n in night.table.column("n").to_pylist()]
        write_parts(folder, parts(put(night.table, "b", make(texts_of))))

    def read(folder: Path) -> Facts:
        facts: list[Fact] = []
        for path in parquet_files(folder):
            table = pq.ParquetFile(path).read(["sensor", "t", "a", "n"])
            for fact in of_table(put(table, "b", pa.nulls(len(table)))):
                word = texts[fact.n % len(texts)]
                facts.append(Fact(fact.n, fact.sensor, fact.a, None if lost else word))
        return facts

    return {
        "write": write,
        "read": read,
        "codes": True,
        "config": {"input.vocabulary": {"b": list(texts[:-1])}},
    }


def stored(kind: Any, storage: Any, make: Callable[[str], Any]) -> Callable[[list[str]], Any]:
    return lambda texts: pa.ExtensionArray.from_storage(kind, pa.array([make(text) for text in texts], storage))


UUIDS = tuple(str(UUID(int=number << 64)) for number in (1, 2, 3))
DATES = ("2026-11-19", "2026-11-20", "0001-01-01")
TYPES: dict[str, dict[str, Any]] = {
    "text": words(WORDS, pa.array),
    "large text": words(WORDS, partial(pa.array, type=pa.large_string())),
    "text views": words(WORDS, lambda texts: pa.array(texts).cast(pa.string_view())),
    "a dictionary": words(WORDS, lambda texts: pa.array(texts).dictionary_encode()),
    "bytes that are UTF-8": words(WORDS, lambda texts: pa.array([text.encode() for text in texts], pa.binary())),
    "fixed bytes": words(("aa", "bb", "cc"), lambda texts: pa.array([text.encode() for text in texts], pa.binary(2))),
    "text, some of it no UTF-8": words(
        ("Ulm", "Bonn", "no word"),
        lambda texts: raw_text([b"M\xfc" if text == "no word" else text.encode() for text in texts]),
    ),
    "bytes, some of them no UTF-8": words(
        ("Ulm", "Bonn", "no word"),
        lambda texts: pa.array([b"M\xfc" if text == "no word" else text.encode() for text in texts], pa.binary()),
    ),
    "JSON": words(('"x"', '"y"', '"z"'), stored(pa.json_(), pa.string(), str)),
    "whole numbers": words(("7", "-2", "3"), lambda texts: pa.array([int(text) for text in texts], pa.int16())),
    "booleans": words(("true", "false"), lambda texts: pa.array([text == "true" for text in texts])),
    "dates": words(DATES, lambda texts: pa.array([dt.date.fromisoformat(text) for text in texts])),
    "decimals": words(
        ("1.50", "2.00", "-0.10"), lambda texts: pa.array([Decimal(text) for text in texts], pa.decimal128(5, 2))
    ),
    "small decimals": words(
        ("1.50", "2.00", "0.10"), lambda texts: pa.array([Decimal(text) for text in texts], pa.decimal32(5, 2))
    ),
    "UUIDs": words(UUIDS, stored(pa.uuid(), pa.binary(16), lambda text: UUID(text).bytes)),
}

# ---- the run beside


def scores_removed(output: Path) -> None:
    """What a retention does to old scores."""
    for path in output.glob("*.parquet"):
        path.unlink()


def garbage(output: Path) -> None:
    for path in output.glob("*.parquet"):
        path.write_bytes(b"PAR1 no more")


def piped(output: Path) -> None:
    for path in output.glob("*.parquet"):
        path.unlink()
        os.mkfifo(path)


def endless(output: Path) -> None:
    for path in output.glob("*.parquet"):
        path.unlink()
        path.symlink_to("/dev/zero")


def foreign(output: Path) -> None:
    """No run at all, only Parquet that somebody has written there."""
    shutil.rmtree(output)
    output.mkdir()
    pq.write_table(pa.table({"x": [1]}), output / "x.parquet")
    (output / "_SUCCESS").write_bytes(b"")


def record_of_another_version(output: Path) -> None:
    path = output / "_slotcar" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": ["done"], "rows_in": "many"}))


def record_garbage(output: Path) -> None:
    (output / "_slotcar" / "run.json").write_bytes(b"{\xff")


def commits_garbage(output: Path) -> None:
    for path in (output / "_slotcar" / "commits").iterdir():
        path.write_text("{}")


def record_piped(output: Path) -> None:
    (output / "_slotcar" / "run.json").unlink()
    os.mkfifo(output / "_slotcar" / "run.json")


NEIGHBOURS = (
    scores_removed,
    garbage,
    piped,
    endless,
    foreign,
    record_of_another_version,
    record_garbage,
    commits_garbage,
    record_piped,
)

ENTRIES: list[Entry] = [
    *(called("entity", "sensor", name) for name in (*OWN, *ODD)),
    *(called("time", "t", name) for name in ("time", "reason", "rows", "last_time", "row", "score", *ODD)),
    *(called("feature", "a", name) for name in ("score", "rows", "reason", *ODD)),
    *map(kept_as, ("score", "reason", "rows", "file", "row", "time", "window_rows", *ODD)),
    Entry("a column that is there twice", twice, refused=Refusal("'a'.*2 times"), orders=("tidy",)),
    *(Entry(f"words: {name}", seldom=("mixed",), **given) for name, given in TYPES.items()),
    Entry(
        "words for an input of numbers",
        columns(),
        config={"input.vocabulary": {"a": ["x", "y"]}},
        refused=Refusal("vocabulary"),
        orders=("tidy",),
    ),
    *(
        Entry(f"the run beside: {between.__name__.replace('_', ' ')}", columns(), between=between, orders=("tidy",))
        for between in NEIGHBOURS
    ),
]
