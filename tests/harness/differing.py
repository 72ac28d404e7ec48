"""Inputs whose files differ in the types of their columns, and what the scores of their rows must be.

A file has columns of every role: three numbers, a code and a word, two keys, two times and four that are kept, each in
a type of this file's own. The truth is made of what pyarrow reads from each file alone, value by value, and of Keras on
one entity at a time: nothing of the product has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.settings import Fill
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from lstm_core.proof.reference import Reference

WORDS = ("1", "2", "true", "1970-01-03")
FILL = 0.5
NUMBERS, KEYS, TIMES = ("f0", "f1", "f2"), ("key", "part"), ("time", "tick")
NOTES = ("n0", "n1", "n2", "n3")
NAMES = (*NUMBERS, "code", "word", *KEYS, *TIMES, *NOTES)
FEATURES = (("numeric", NUMBERS), ("pair", ("code", "word")))
SETTINGS: dict[str, Any] = {
    "entity": KEYS,
    "time": TIMES,
    "keep": NOTES,
    "fill": {**dict.fromkeys(NUMBERS, Fill(FILL)), "code": Fill(3.0), "word": Fill("2")},
    "vocabulary": {"word": WORDS},
}
ENTITIES, DAYS = 3, 4  # of every file: entities, and rows of each
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

Types = dict[str, Any]  # column -> its type in a file; None where the file has no such column
ONE: Types = {**dict.fromkeys(NAMES, pa.int32()), **dict.fromkeys(NUMBERS, pa.float32())}
Place = tuple[Any, ...]  # the keys and the times of a row


def write_file(path: Path, types: Types, first_day: int, *, mixed: bool = False, empty: bool = False) -> None:
    """A file with rows of every entity from a day on, entity by entity, or `mixed`; an `empty` one has none."""
    generator = np.random.default_rng(first_day)
    entity, day = (index.ravel() for index in np.indices((ENTITIES, DAYS)))
    if mixed:
        order = generator.permutation(len(day))
        entity, day = entity[order], day[order]
    values = {name: generator.normal(scale=2, size=len(day)) for name in NUMBERS}
    values |= {"code": generator.integers(0, 7, len(day)), "word": generator.integers(1, 4, len(day))}
    values |= {"key": entity + 1, "part": 2 * entity + 1, "time": first_day + day, "tick": first_day + day}
    values |= dict.fromkeys(NOTES, first_day * 5 + entity)
    columns = {name: column_of(types[name], name, values[name]) for name in NAMES if types[name] is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).slice(0, 0 if empty else None), path, row_group_size=5)


def column_of(kind: Any, name: str, values: Any) -> Any:
    """Numbers (row,) as a column of a type; what they are then is for whoever reads the file."""
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    if pa.types.is_dictionary(kind):
        return column_of(kind.value_type, name, values).dictionary_encode()
    if name in NUMBERS:
        return _numbers(kind, values)
    if pa.types.is_floating(kind):
        return pa.array(values.astype(np.float64), mask=values == 5).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(values % 2 == 1)
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(int(value)) for value in values], kind)
    if pa.types.is_temporal(kind):
        return _moments(kind, values)
    if pa.types.is_integer(kind):
        return pa.array(values).cast(kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.array([[int(value), None] for value in values], kind)
    if pa.types.is_struct(kind):
        return pa.array([{"a": int(value)} for value in values], kind)
    if name in TIMES:
        return pa.array(np.datetime64("2026-01-01") + values.astype("m8[D]")).cast(pa.string()).cast(kind)
    return pa.array([str(value) for value in values]).cast(kind)


def _numbers(kind: Any, values: Any) -> Any:
    """Numbers as a type can have them, with nulls and NaN among floats."""
    if pa.types.is_boolean(kind):
        return pa.array(values > 0)
    if pa.types.is_decimal(kind):
        step = Decimal(1).scaleb(-kind.scale)
        return pa.array([Decimal(float(value)).quantize(step) for value in values], kind)
    if pa.types.is_floating(kind):
        place = np.arange(len(values))
        with_gaps = np.where(place % 5 == 4, np.nan, values)
        return pa.array(with_gaps.astype(kind.to_pandas_dtype()), mask=place % 5 == 2)
    return pa.array(np.round(np.abs(values) * 3).astype(np.int64)).cast(kind)


def _moments(kind: Any, days: Any) -> Any:
    whole = pa.array(days.astype(np.int32), pa.int32())
    if pa.types.is_time(kind):
        return whole.cast(pa.time32("s")).cast(kind)
    if pa.types.is_date(kind):
        return whole.cast(pa.date32()).cast(kind)
    seconds = pa.array(days.astype(np.int64) * 86_400, pa.int64())
    return seconds.cast(pa.timestamp("s", kind.tz)).cast(kind)


def plain(column: Any) -> list[Any]:
    """What a column says, whatever its type: moments as nanoseconds, whole numbers, text, bytes."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind):
        tick = 86_400 * 10**9 if pa.types.is_date32(kind) else 10**9 // _TICKS[getattr(kind, "unit", "ms")]
        whole = column.cast(pa.int32()) if pa.types.is_date32(kind) else column.cast(pa.int64())
        return [None if value is None else value * tick for value in whole.to_pylist()]
    return [int(value) if isinstance(value, Decimal) and value == int(value) else value for value in column.to_pylist()]


@dataclass(frozen=True)
class Row:
    """A row as it is to be scored and handed through."""

    key: Place
    time: Place
    numbers: tuple[np.float32, ...]
    codes: tuple[int, int]
    notes: Place


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of one file, read by pyarrow alone."""
    table = pq.read_table(path, partitioning=None)
    told = {name: plain(table.column(name)) for name in table.column_names}
    told["word"] = table.column("word").cast(pa.string()).to_pylist() if "word" in told else []
    nothing = [None] * table.num_rows
    columns = {name: told.get(name) or nothing for name in NAMES}
    for row in range(table.num_rows):
        here = {name: values[row] for name, values in columns.items()}
        code, word = here["code"], "2" if here["word"] is None else here["word"]
        codes = (3 if code is None else int(code), WORDS.index(word) + 1 if word in WORDS else 0)
        numbers = tuple(_float32(here[name]) for name in NUMBERS)
        places = [tuple(here[name] for name in names) for names in (KEYS, TIMES, NOTES)]
        yield Row(places[0], places[1], numbers, codes, places[2])


def _float32(value: Any) -> np.float32:
    if value is None or value != value:
        return np.float32(FILL)
    if isinstance(value, int) and not isinstance(value, bool):
        return np.float32(np.array([value]).astype(np.float32)[0])
    return np.float32(float(value))


def truth(model: bytes, files: Sequence[Path]) -> dict[Place, tuple[float, Place]]:
    """Keys and times of each row -> the score that it must have, and what is kept of it."""
    series: dict[Place, list[Row]] = {}
    for path in files:
        for row in rows_of(path):
            series.setdefault(row.key, []).append(row)
    reference, found = Reference(model), {}
    for key, rows in series.items():
        rows.sort(key=lambda row: row.time)
        arrays = [np.array([row.numbers for row in rows], np.float32), np.array([row.codes for row in rows], np.int32)]
        for row, score in zip(rows, np.concatenate(reference.score(arrays), axis=-1)[:, 0], strict=True):
            found[(*key, *row.time)] = (float(score), row.notes)
    return found


def scored(output: Path) -> dict[Place, tuple[float, Place]]:
    """The same of an output."""
    found = {}
    for path in sorted(output.glob("*.parquet")):
        table = pq.read_table(path, partitioning=None)
        places, notes = (
            zip(*(plain(table.column(name)) for name in names), strict=True) for names in ((*KEYS, *TIMES), NOTES)
        )
        scores = table.column("score").to_pylist()
        found.update({place: (score, kept) for place, score, kept in zip(places, scores, notes, strict=True)})
    return found


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    actor = AuditActor(spec, model)
    yield actor.rescore
