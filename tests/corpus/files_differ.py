"""Files and nights of one input whose columns differ, as after an upgrade, in a drifting feed, or with a first null."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.entry import Entry, Night, Refusal, by_arrow
from tests.corpus.writing import (
    Change,
    by_night,
    cast,
    changed,
    differing,
    listed,
    moments,
    numbered,
    parts,
    write_parts,
)

FILL = {"input.fill": {"a": 0.0}}
OR_SAID = Refusal(r"part-|state\.read")  # what cannot be compared is named with its place


def gappy(column: Any) -> Any:
    """Doubles with a null and a NaN, which pandas makes of whole numbers when a value is missing."""
    values = [
        None if row % 5 == 1 else float("nan") if row % 5 == 3 else value
        for row, value in enumerate(column.to_pylist())
    ]
    return pa.array(values, pa.float64())


whole = listed(lambda value: int(value * 10), pa.int64())
FEATURES: dict[str, tuple[Change, Change]] = {
    "bool, then int64": (listed(lambda value: value > 0, pa.bool_()), whole),
    "bool, then double": (listed(lambda value: value > 0, pa.bool_()), cast(pa.float64())),
    "int64, then double with nulls and NaN": (whole, gappy),
    "int64, then whole doubles with NaN": (whole, lambda column: gappy(whole(column).cast(pa.float64()))),
    "int8, then int64": (listed(lambda value: int(value * 3), pa.int8()), listed(lambda value: 300 + int(value * 9))),
    "int64, then uint64": (whole, listed(lambda value: 2**63 + int(abs(value) * 2**40), pa.uint64())),
    "decimal of two digits, then double": (
        listed(lambda value: Decimal(f"{value:.2f}"), pa.decimal128(10, 2)),
        cast(pa.float64()),
    ),
    "decimal of two digits, then of seven": (
        listed(lambda value: Decimal(f"{value:.2f}"), pa.decimal128(10, 2)),
        listed(lambda value: Decimal(f"{value:.7f}"), pa.decimal128(20, 7)),
    ),
    "float16, then float32": (
        lambda column: pa.array(column.to_numpy().astype(np.float16), pa.float16()),
        listed(lambda value: value * 70_000, pa.float32()),
    ),
    "float32, then double": (cast(pa.float32()), listed(lambda value: value + 1e-9, pa.float64())),
    "a dictionary, then float32": (lambda column: column.dictionary_encode(), cast(pa.float32())),
    "null, then float32": (lambda column: pa.nulls(len(column)), cast(pa.float32())),
    "null, then int64": (lambda column: pa.nulls(len(column)), whole),
}

CODES: dict[str, tuple[Change, Change]] = {
    "int64, then whole doubles": (
        lambda column: pa.array([row % 7 for row in range(len(column))], pa.int64()),
        lambda column: pa.array([None if row == 2 else float(row % 7) for row in range(len(column))], pa.float64()),
    ),
    "int8, then int32": (
        lambda column: pa.array([row % 7 for row in range(len(column))], pa.int8()),
        lambda column: pa.array([row % 8 for row in range(len(column))], pa.int32()),
    ),
    "bool, then int64": (
        lambda column: pa.array([row % 2 == 1 for row in range(len(column))]),
        lambda column: pa.array([row % 7 for row in range(len(column))], pa.int64()),
    ),
}

KEYS: dict[str, tuple[Change, Change]] = {
    "int32, then int64": (numbered(pa.int32()), numbered(pa.int64())),
    "uint8, then int64": (numbered(pa.uint8()), numbered(pa.int64())),
    "text, then large text": (cast(pa.string()), cast(pa.large_string())),
    "text, then a dictionary": (cast(pa.string()), lambda column: column.dictionary_encode()),
    "text, then a view": (cast(pa.string()), cast(pa.string_view())),
    "seconds, then microseconds": (
        lambda column: numbered(pa.int64())(column).cast(pa.timestamp("s")),
        lambda column: numbered(pa.int64())(column).cast(pa.timestamp("s")).cast(pa.timestamp("us")),
    ),
}
OTHER_KEYS: dict[str, tuple[Change, Change]] = {
    "int64, then text": (numbered(pa.int64()), lambda column: numbered(pa.int64())(column).cast(pa.string())),
    "int64, then double": (numbered(pa.int64()), lambda column: numbered(pa.int64())(column).cast(pa.float64())),
    "int64, then decimal": (numbered(pa.int64()), listed(lambda name: Decimal(int(name[1:])), pa.decimal128(9, 0))),
    "text, then bytes": (cast(pa.string()), cast(pa.binary())),
}

TIMES: dict[str, tuple[Change, Change]] = {
    "nanoseconds, then microseconds": (moments(pa.timestamp("ns")), moments(pa.timestamp("us"))),
    "microseconds, then nanoseconds": (moments(pa.timestamp("us")), moments(pa.timestamp("ns"))),
    "seconds, then milliseconds": (moments(pa.timestamp("s")), moments(pa.timestamp("ms"))),
    "UTC, then +00:00": (moments(pa.timestamp("us", "UTC")), moments(pa.timestamp("us", "+00:00"))),
    "UTC, then Etc/UTC": (moments(pa.timestamp("us", "UTC")), moments(pa.timestamp("ms", "Etc/UTC"))),
    "UTC, then Europe/Berlin": (moments(pa.timestamp("us", "UTC")), moments(pa.timestamp("us", "Europe/Berlin"))),
    "int32, then int64": (
        lambda column: pa.array((column.cast(pa.int64()).to_numpy() // 10**6).astype(np.int32)),
        lambda column: pa.array(column.cast(pa.int64()).to_numpy() // 10**6),
    ),
}
OTHER_TIMES: dict[str, tuple[Change, Change]] = {
    "no zone, then UTC": (moments(pa.timestamp("us")), moments(pa.timestamp("us", "UTC"))),
    "timestamps, then text": (moments(pa.timestamp("us")), listed(lambda moment: moment.isoformat())),
    "whole numbers, then timestamps": (lambda column: column.cast(pa.int64()), moments(pa.timestamp("us"))),
}


def both(name: str, column: str, pair: tuple[Change, Change], **more: Any) -> list[Entry]:
    """The same pair in two files of each night, and in two nights."""
    first, second = ({column: change} for change in pair)
    return [
        Entry(f"{name} (files)", differing(first, second), **more),
        Entry(f"{name} (nights)", by_night(first, second), seldom=("tidy",), **more),
    ]


def lacking(column: str, which: int) -> Any:
    """One of the files has not got the column."""

    def write(folder: Path, night: Night) -> None:
        tables = parts(night.table)
        tables[which] = tables[which].drop_columns([column])
        write_parts(folder, tables)

    return write


def with_note(first: Change | None, second: Change | None) -> Any:
    """A column `note`, made from `n`, or missing."""

    def write(folder: Path, night: Night) -> None:
        changes = [{} if change is None else {"note": change} for change in (first, second)]
        write_parts(folder, [changed(table, change) for table, change in zip(parts(night.table), changes, strict=True)])

    return write


def beside(table: Any) -> Any:
    """The night's rows in one file, and beside it a file that is this."""

    def write(folder: Path, night: Night) -> None:
        write_parts(folder, [night.table])
        pq.write_table(table(night.table), folder / "z-last.parquet")

    return write


def reordered(table: Any) -> Any:
    return table.slice(0, 0).select(["n", "b", "a", "t", "sensor"])


def worded(words: Mapping[int, Any], kind: Any = None) -> Change:
    """b as words, by the row in its file."""
    return lambda column: pa.array([words[row % len(words)] for row in range(len(column))], kind)


WORDS = {"input.vocabulary": {"b": ["1", "2", "x"]}, "input.fill": {"b": "x"}}

ENTRIES: list[Entry] = [
    *(entry for name, pair in FEATURES.items() for entry in both(f"feature: {name}", "a", pair, config=FILL)),
    *(
        Entry(
            f"feature: {name}, the other way",
            differing({"a": second}, {"a": first}),
            config=FILL,
            seldom=("tidy", "mixed"),
        )
        for name, (first, second) in FEATURES.items()
    ),
    *(
        entry
        for name, pair in CODES.items()
        for entry in both(
            f"codes: {name}", "b", pair, codes=True, config={"input.fill": {"b": 1}}, or_refused=Refusal("'b'")
        )
    ),
    *(entry for name, pair in KEYS.items() for entry in both(f"key: {name}", "sensor", pair)),
    *(
        entry
        for name, pair in OTHER_KEYS.items()
        for entry in both(f"key: {name}", "sensor", pair, read=by_arrow, or_refused=OR_SAID)
    ),
    *(entry for name, pair in TIMES.items() for entry in both(f"time: {name}", "t", pair)),
    *(entry for name, pair in OTHER_TIMES.items() for entry in both(f"time: {name}", "t", pair, or_refused=OR_SAID)),
    Entry("a filled feature that the first file lacks", lacking("a", 0), config=FILL),
    Entry("a filled feature that the last file lacks", lacking("a", 1), config=FILL),
    Entry("a feature that a file lacks, and nothing fills", lacking("a", 1), refused=Refusal(r"'a'.*part-1")),
    Entry(
        "a kept column that is null in one file",
        with_note(listed(str), lambda column: pa.nulls(len(column))),
        config={"output.keep": ["note"]},
    ),
    Entry(
        "a kept column that is null in the first file",
        with_note(lambda column: pa.nulls(len(column)), listed(str)),
        config={"output.keep": ["note"]},
    ),
    Entry(
        "a kept column of int32, then int64",
        with_note(cast(pa.int32()), lambda column: listed(lambda n: n + 2**40)(column)),
        config={"output.keep": ["note"]},
        or_refused=Refusal("note"),
    ),
    Entry(
        "a kept column of double, then int64",
        with_note(listed(lambda n: n + 0.5, pa.float64()), cast(pa.int64())),
        config={"output.keep": ["note"]},
        or_refused=Refusal("note"),
    ),
    Entry(
        "an empty frame: no rows and null columns",
        beside(lambda table: pa.table({name: pa.nulls(0) for name in table.column_names})),
    ),
    Entry("an empty file with the columns in another order", beside(reordered)),
    Entry(
        "an empty file without columns",
        beside(lambda table: pa.table({})),
        or_refused=Refusal(r"z-last\.parquet"),
    ),
    Entry(
        "a vocabulary of text, then whole numbers",
        differing({"b": worded({0: "1", 1: "2"})}, {"b": worded({0: 1, 1: 2, 2: 3})}),
        read=by_arrow,
        codes=True,
        config=WORDS,
    ),
    Entry(
        "a vocabulary of text, then null",
        differing({"b": worded({0: "1", 1: "x", 2: None})}, {"b": lambda column: pa.nulls(len(column))}),
        read=by_arrow,
        codes=True,
        config=WORDS,
    ),
]
