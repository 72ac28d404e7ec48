"""The one type in which a column is read from all files, where its type differs from file to file.

What it decides: which types go together, and in which type the values of all files are then held without a loss. A
column that only feeds the model need not be held as it is: its numbers become the numbers that the model gets from each
file alone, and where it has a vocabulary its values become words. Where all files agree it decides nothing, and columns
are read in the first file's types. Where types alone do not tell whether all values fit (nanoseconds hold no time
beyond 2262), it names the types to try, the best one first; to look at values is the business of
`runtime.input.column_values`. Nulls fit everywhere: a column of type null, one that is not there, and a file without
rows say nothing about a type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeAlias

import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.plan.type_families import common_types, holds, same_text
from cluster.core.settings import InputSettings
from cluster.core.times import plain_type
from cluster.run_errors import InputRefused

_OF_FOLDERS: dict[bytes | str, bytes | str] = {b"slotcar.folders": b""}

Kind: TypeAlias = tuple[pa.DataType, bool]  # a plain type, and whether it was made of the names of folders


@dataclass(frozen=True)
class LikeFiles:
    """Files whose needed columns have the same types; other files may lie between them."""

    paths: tuple[str, ...]
    rows: int
    plain: pa.Schema  # the needed columns in plain types; null where a file has no column, or one of type null
    own: pa.Schema  # all columns of the first file, as it has them
    folders: frozenset[str]  # needed columns that only the names of its folders have

    def is_like(self, other: LikeFiles) -> bool:
        """Whether the other's columns may be read in the types of these."""
        return self.plain.equals(other.plain) and self.folders == other.folders

    def kind(self, name: str) -> Kind:
        """A column's type in these files."""
        return self.plain.field(name).type, name in self.folders


def by_types(files: Iterable[LikeFiles]) -> tuple[LikeFiles, ...]:
    """Files in order of path, those with the same types together, in order of the first one of each kind."""
    kinds: dict[object, list[LikeFiles]] = {}
    last: list[LikeFiles] = []
    for one in files:
        if not last or not last[0].is_like(one):  # as a rule all are alike: a schema's hash is not asked for each
            last = kinds.setdefault((one.plain, one.folders), [])
        last.append(one)
    return tuple(_together(kind) for kind in kinds.values())


def _together(kind: Sequence[LikeFiles]) -> LikeFiles:
    paths = tuple(path for one in kind for path in one.paths)
    return replace(kind[0], paths=paths, rows=sum(one.rows for one in kind))


def plain_schema(types: pa.Schema, folders: Collection[str] = ()) -> pa.Schema:
    """Columns in the types in which they are compared; those that only `folders` have say so, see `is_of_folders`."""
    marks = dict.fromkeys(folders, _OF_FOLDERS)
    return pa.schema([pa.field(field.name, plain_type(field.type), metadata=marks.get(field.name)) for field in types])


def is_of_folders(field: ArrowField) -> bool:
    """Whether a column of an input stands in the names of its folders alone."""
    return (field.metadata or {}).keys() >= _OF_FOLDERS.keys()


@dataclass(frozen=True)
class TypeChoice:
    """How a column may be read."""

    fields: tuple[ArrowField, ...]  # the best one first
    sure: bool  # the first one holds all values, whatever they are


def type_choices(files: Sequence[LikeFiles], settings: InputSettings) -> list[TypeChoice] | None:
    """How each needed column is read, given all files, see `by_types`; None where the first file's types will do.

    Raises InputRefused for a column whose types do not go together.
    """
    first = files[0]
    kept_only = {*settings.keep} - {*settings.entity, *settings.time, *settings.feature_columns, *settings.target}
    known = all(not pa.types.is_null(field.type) for field in first.plain if field.name not in kept_only)
    if known and len(files) == 1:
        return None
    return [_choice(name, files, settings) for name in first.plain.names]


def _choice(name: str, files: Sequence[LikeFiles], settings: InputSettings) -> TypeChoice:
    telling = [one for one in files if one.rows and not pa.types.is_null(one.plain.field(name).type)]
    kinds = list(dict.fromkeys(one.plain.field(name).type for one in telling))
    if len(kinds) == 1:
        return TypeChoice((telling[0].own.field(name).with_nullable(True),), sure=True)
    if not kinds:
        return TypeChoice((pa.field(name, _without_values(name, files, settings)),), sure=True)
    if name not in {*settings.entity, *settings.time, *settings.keep}:
        kind = pa.large_string() if name in settings.vocabulary else pa.float64()
        return TypeChoice((pa.field(name, kind),), sure=True)
    first_of: dict[Kind, LikeFiles] = {}
    for one in telling:
        first_of.setdefault(one.kind(name), one)
    return _as_they_are(name, list(first_of.values()), settings)


def _without_values(name: str, files: Sequence[LikeFiles], settings: InputSettings) -> pa.DataType:
    """The type of a column that is null in all files."""
    key = name in settings.entity
    if key or name in settings.time:
        _refuse_null(name, files, ("entity", "name an entity") if key else ("time", "order rows in time"))
        return pa.large_string() if key else pa.int64()
    if not any(name in one.own.names for one in files):
        raise InputRefused(
            f"input.features: there is no column {name!r} in {files[0].paths[0]}, nor in any other file of the input: "
            "name another column."
        )
    if name not in (*settings.feature_columns, *settings.target):
        return pa.null()
    return pa.large_string() if name in settings.vocabulary else pa.float64()


def _refuse_null(name: str, files: Sequence[LikeFiles], asked: tuple[str, str]) -> None:
    path = next((one.paths[0] for one in files if one.rows), None)
    if path is not None:
        raise InputRefused(
            f"input.{asked[0]}: column {name!r} of {path} is null, as it is in all files, which cannot {asked[1]}: "
            "name another column."
        )


def _as_they_are(name: str, files: Sequence[LikeFiles], settings: InputSettings) -> TypeChoice:
    """A column whose values are compared or handed through: they stay what they are. Each kind comes once."""
    kinds = [one.kind(name) for one in files]
    found = [kind for kind in together(kinds) if name not in settings.time or not pa.types.is_decimal(kind)]
    if not found or (name in settings.vocabulary and not same_text([kind for kind, _ in kinds])):
        raise InputRefused(_sentence(name, files, settings))
    return TypeChoice(tuple(pa.field(name, kind) for kind in found), sure=is_sure(found[0], kinds))


def together(kinds: Sequence[Kind]) -> list[pa.DataType]:
    """The plain types that may hold the values of all the given ones, the best one first; none where none does."""
    return [pa.large_string()] if _is_text_of_folders(kinds) else common_types([kind for kind, _ in kinds])


def is_sure(wanted: pa.DataType, kinds: Sequence[Kind]) -> bool:
    """Whether the best of them holds all values, whatever they are."""
    return _is_text_of_folders(kinds) or all(holds(wanted, kind) for kind, _ in kinds)


def _is_text_of_folders(kinds: Sequence[Kind]) -> bool:
    """Whether they are text and whole numbers, of which the ones or the others stand in the names of folders.

    Such a name is text, whatever it was taken for.
    """
    numbers = [of_folder for kind, of_folder in kinds if pa.types.is_integer(kind)]
    texts = [of_folder for kind, of_folder in kinds if pa.types.is_large_string(kind)]
    both = bool(numbers and texts) and len(numbers) + len(texts) == len(kinds)
    return both and (all(numbers) or all(texts))


def _sentence(name: str, files: Sequence[LikeFiles], settings: InputSettings) -> str:
    """Which two types do not go together, and what to do."""
    pairs = [(one, other) for one, other in combinations(files, 2) if one.kind(name) != other.kind(name)]
    apart = [pair for pair in pairs if not together([one.kind(name) for one in pair])]
    first, other = ((one.own.field(name).type, one.paths[0]) for one in (apart or pairs)[0])
    return conflict(name, first, other, settings)


def conflict(
    name: str, first: tuple[pa.DataType, str], other: tuple[pa.DataType, str], settings: InputSettings, why: str = ""
) -> str:
    """The sentence for a column whose types in two files, each given before its path, do not go together."""
    zones = _zones_differ([plain_type(kind) for kind, _ in (first, other)])
    why = why or (", and a time without a zone is no moment that the others could be compared with" if zones else "")
    both = "with a zone, or both without one" if zones else "with one type"
    key = name in (*settings.entity, *settings.time)
    otherwise = "score them in separate runs" if key else "leave the column out of output.keep"
    return (
        f"Column {name!r} is {other[0]} in {other[1]} but {first[0]} in {first[1]}{why}: write both {both}, or "
        f"{otherwise}."
    )


def _zones_differ(plain: Sequence[pa.DataType]) -> bool:
    times = all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in plain)
    return times and len({getattr(kind, "tz", None) is None for kind in plain}) == 2
