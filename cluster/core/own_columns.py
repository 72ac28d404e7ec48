"""Columns of a run's own that stand beside the user's: in lines of quarantine, in carry-over, in files of the shuffle.

Decides what they are called where a column of the user's has the name already: then `slotcar_` goes before it, as often
as it takes. Every other file has the names that the guides give. And which columns a line of quarantine has: those of
the entity, then five of its own, which are found by their places, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from cluster.core.arrow_types import ArrowColumn, ArrowValues
from lstm_core.array_types import Ints
from lstm_core.shown_text import utf8

_APART = "slotcar_"
LINE = ("reason", "rows", "file", "row", "time")  # of a line of quarantine, behind the entity columns


def apart(name: str, taken: Collection[str]) -> str:
    """The name of a column of our own beside columns that are called `taken`."""
    while name in taken:
        name = f"{_APART}{name}"
    return name


def own_name(name: str, taken: Collection[str]) -> str:
    """The other way: what a column of our own is called where nothing is in its way."""
    while name.startswith(_APART) and name.removeprefix(_APART) in taken:
        name = name.removeprefix(_APART)
    return name


def quarantine_lines(
    keys: pa.Table,
    reasons: Sequence[str] | ArrowValues,
    rows: Ints | Sequence[int],
    place: tuple[Sequence[str] | ArrowValues, Ints | ArrowValues],
    time: ArrowValues | None = None,
) -> pa.Table:
    """Lines (line,): the entity columns, why, how many rows, the file and the row of the first one, and its time."""
    file, row = place
    values = (reasons, rows, file, row, pa.nulls(keys.num_rows, pa.string()) if time is None else time)
    for name, column in zip(LINE, values, strict=True):
        kind = pa.int64() if name in ("rows", "row") else pa.string()
        whole = column.cast(kind) if isinstance(column, pa.Array | pa.ChunkedArray) else _made(column, kind)
        keys = keys.append_column(pa.field(apart(name, keys.column_names), kind), whole)
    return keys


def _made(values: Sequence[str] | Sequence[int] | Ints, kind: pa.DataType) -> ArrowValues:
    if not pa.types.is_string(kind):
        return pa.array(values, kind)
    return pa.array([utf8(str(value)) for value in values], kind)  # a file's name need not be UTF-8


def with_rows(lines: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The lines with other numbers of rows."""
    place = lines.num_columns - len(LINE) + LINE.index("rows")
    return lines.set_column(place, lines.schema.field(place), pa.array(rows, pa.int64()))


def line_column(lines: pa.Table, name: str) -> ArrowColumn:
    """One of the five columns of lines."""
    return lines.column(lines.num_columns - len(LINE) + LINE.index(name))


def line_keys(lines: pa.Table) -> pa.Table:
    """The entity columns of lines."""
    return lines.select(list(range(lines.num_columns - len(LINE))))
