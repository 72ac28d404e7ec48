"""Whether a file has the columns that the configuration asks for, in types that can be used.

Decides, from a schema alone, every refusal of a column; each names the column, the file and what to do. Leaves values
alone: nulls, NaN and unknown words are found when rows are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.plan.column_types import LikeFiles, plain_schema
from cluster.core.plan.file_list import FileList
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import CONTEXT, InputSettings
from cluster.core.times import is_key_type, is_time_type, plain_type
from cluster.run_errors import InputRefused
from cluster.runtime.input.first_columns import FirstColumns
from cluster.runtime.input.source_files import InputParquet, is_hidden
from lstm_core.nearest_name import nearest_hint

if TYPE_CHECKING:
    from lstm_core.contract.model_contract import ModelContract

_NAMES_SHOWN = 12


def needed_columns(settings: InputSettings) -> dict[str, str]:
    """Every column that the run reads, once -> the setting that asks for it first."""
    asked: dict[str, str] = {}
    for setting, columns in (
        ("input.entity", settings.entity),
        ("input.time", settings.time),
        ("input.features", settings.feature_columns),
        ("output.keep", settings.keep),
        ("train.target", settings.target[: -1 if settings.weighted else None]),
        ("train.weight", settings.target[-1:] if settings.weighted else ()),
    ):
        for column in columns:
            asked.setdefault(column, setting)
    return asked


def check_columns(schema: pa.Schema, settings: InputSettings, path: str) -> pa.Schema:
    """One file's columns -> those that are needed, in plain types.

    Raises InputRefused for a column that is missing, there twice, or of a type that cannot be used.
    """
    columns = _plain_columns(schema, settings, path)
    for name in (*settings.entity, *settings.time):
        _check_key(schema.field(name), settings, path)
    return columns


def refuse_encrypted(parquet: InputParquet, settings: InputSettings, path: str) -> None:
    """Raises InputRefused where a column that is needed is encrypted."""
    if not parquet.encrypted or not parquet.num_row_groups:
        return
    for column, setting in needed_columns(settings).items():
        if column in parquet.schema_arrow.names and is_hidden(parquet, column):
            raise InputRefused(
                f"{setting}: column {column!r} of {path} is encrypted, and there is no key for it: write a copy of the "
                "file in which it is not, or leave the column out."
            )


def file_types(
    schema: pa.Schema, settings: InputSettings, path: str, *, rows: int, partitions: Partitions
) -> LikeFiles:
    """The needed columns of one of several files, whose keys and times are looked at together, by `check_keys`.

    In a file without rows what does not fit is of type null. Raises InputRefused.
    """
    folders = frozenset(partitions.values(path).keys() - set(schema.names))
    whole = partitions.extend(schema, path)
    plain = _plain_columns(whole, settings, path, empty=not rows)
    return LikeFiles((path,), rows, plain, whole, folders & set(plain.names) if folders else folders)


def fits_keys(plain: pa.Schema, settings: InputSettings) -> bool:
    """Whether entities and times can be read from columns of these plain types; null ones can."""
    return all(_cannot(plain.field(name), settings) is None for name in (*settings.entity, *settings.time))


def check_keys(files: Sequence[LikeFiles], settings: InputSettings) -> None:
    """Raises InputRefused where files have a key or a time of a type that cannot be one; names two, if they differ."""
    telling = [one for one in files if one.rows]
    for one in telling:
        for name in (*settings.entity, *settings.time):
            cannot = _cannot(one.plain.field(name), settings)
            if cannot is not None:
                _check_beside(name, cannot, one, telling)
                _check_key(one.own.field(name), settings, one.paths[0])


def _check_beside(name: str, cannot: str, one: LikeFiles, others: Sequence[LikeFiles]) -> None:
    """Refuses a key or a time of `one` beside another file, where that has it in another type."""
    kind = one.own.field(name).type
    for other in others:
        if other.kind(name) != one.kind(name) and not pa.types.is_null(other.plain.field(name).type):
            wanted = other.own.field(name).type
            raise InputRefused(
                f"Column {name!r} is {kind} in {one.paths[0]} but {wanted} in {other.paths[0]}, and {kind} {cannot}: "
                f"write it as {wanted} in both."
            )


def _is_mended(name: str, settings: InputSettings) -> bool:
    """Whether a file may be without a column: a feature that has a fill may have come later."""
    fed = name in settings.feature_columns and name in settings.fill
    return fed and name not in (*settings.entity, *settings.time, *settings.target)


def check_schema(settings: InputSettings, contract: ModelContract, files: FileList) -> pa.Schema:
    """Check the first file that can be read, before anything is started; returns the columns in plain types.

    They must fit the configuration and the model. What that file does not tell, other files are asked for. That all
    files go together is checked where each is opened anyway, by the scan. Raises InputRefused for the columns,
    InputBroken where no file can be read, or where one cannot whose entity nobody knows.
    """
    first, needed = FirstColumns.of(settings, files), needed_columns(settings)
    plain = _plain_columns(first.schema, settings, first.path)
    if not fits_keys(plain, settings):
        other = first.beside()
        told = [LikeFiles((first.path,), 1, plain, first.schema, first.folders)]
        check_keys([*told, *([_as_told(*other, settings)] if other is not None else [])], settings)
    codes = _columns_of_codes(settings, contract)
    first.ask_others(list(needed), partial(_tells, settings=settings, codes=codes))
    for name, setting in needed.items():
        if name not in first.found:
            _check_there(first.schema, name, setting, first.path)
        column, path = first.found[name]
        _check_key(column, settings, path)
        if name in codes:
            _check_codes(column, settings, codes[name], path)
    return plain_schema(pa.schema([first.found[name][0] for name in needed]), first.folders)


def _as_told(path: str, schema: pa.Schema, settings: InputSettings) -> LikeFiles:
    """Another file's columns, as far as they can be used."""
    return LikeFiles((path,), 1, _plain_columns(schema, settings, path, empty=True), schema, frozenset())


def _columns_of_codes(settings: InputSettings, contract: ModelContract) -> dict[str, str]:
    """The columns whose values are codes -> the model's input."""
    kinds = {wanted.name: wanted.kind for wanted in contract.inputs}
    inputs = [(name, columns) for name, columns in settings.features if kinds.get(name) == "categorical"]
    return {column: name for name, columns in inputs for column in columns if column not in CONTEXT}


def _tells(column: ArrowField, settings: InputSettings, codes: Mapping[str, str]) -> bool:
    """Whether a file says of a column all that is to be known before the scan."""
    if pa.types.is_null(column.type):
        return column.name not in (*settings.entity, *settings.time)
    return column.name not in codes or _is_code(column, settings)


def _plain_columns(schema: pa.Schema, settings: InputSettings, path: str, *, empty: bool = False) -> pa.Schema:
    """The needed columns in plain types; null stands for one that may be missing, or of an empty file for any."""
    fed, counts, fields = {*settings.feature_columns, *settings.target}, Counter(schema.names), []
    for name, setting in needed_columns(settings).items():
        column = pa.field(name, pa.null())
        try:
            if counts[name] != 1 and not (counts[name] == 0 and _is_mended(name, settings)):
                _check_there(schema, name, setting, path)
            if counts[name]:
                column = schema.field(name)
            if name in fed and not pa.types.is_null(column.type):
                _check_feature(column, settings, path)
        except InputRefused:
            if not empty:
                raise
            column = pa.field(name, pa.null())
        kind = pa.null() if empty and _cannot(column, settings) else plain_type(column.type)
        fields.append(pa.field(name, kind, column.nullable))
    return pa.schema(fields)


def _check_key(field: ArrowField, settings: InputSettings, path: str) -> None:
    """Of the only file that tells, or of all: there a null column is no key either."""
    null, name = pa.types.is_null(field.type), field.name
    if name in settings.entity and (null or _cannot(field, settings)):
        raise InputRefused(
            f"input.entity: column {name!r} of {path} is {field.type}, which cannot name an entity: "
            "use text, whole numbers, bytes or dates."
        )
    if name in settings.time and (null or _cannot(field, settings)):
        raise InputRefused(
            f"input.time: column {name!r} of {path} is {field.type}, which cannot order rows in time: "
            "use a timestamp, a date, whole numbers or ISO 8601 text."
        )


def _cannot(field: ArrowField, settings: InputSettings) -> str | None:
    """What a column cannot do that it is to do, in words; one that is null can do anything."""
    if pa.types.is_null(field.type):
        return None
    if field.name in settings.entity and not is_key_type(field.type):
        return "cannot name an entity"
    of_day = field.name == settings.time[0] and pa.types.is_time(plain_type(field.type))
    if field.name in settings.time and (of_day or not is_time_type(field.type)):
        return "cannot order rows in time"
    return None


def _check_there(schema: pa.Schema, column: str, setting: str, path: str) -> None:
    count = schema.names.count(column)
    if count == 1:
        return
    if count > 1:
        raise InputRefused(
            f"{setting}: column {column!r} is there {count} times in {path}: write the file with distinct names."
        )
    context = CONTEXT if setting == "input.features" else ()
    hint = nearest_hint(column, [*schema.names, *context])
    raise InputRefused(f"{setting}: there is no column {column!r} in {path}{hint}; it has {_list(schema.names)}.")


def _list(names: Sequence[str]) -> str:
    if not names:
        return "no columns"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _check_feature(field: ArrowField, settings: InputSettings, path: str) -> None:
    plain = plain_type(field.type)
    if field.name in settings.vocabulary:
        if is_key_type(plain):
            return
        wanted = "a vocabulary needs text or whole numbers"
    elif _is_number(plain):
        return
    elif pa.types.is_large_string(plain):
        wanted = f"make it a number, or name its words in [input.vocabulary] as {field.name}"
    else:
        wanted = "make it a number"
    raise InputRefused(
        f"input.features: column {field.name!r} of {path} is {field.type}, which is no feature: {wanted}."
    )


def _check_codes(field: ArrowField, settings: InputSettings, input_name: str, path: str) -> None:
    if pa.types.is_null(field.type) or _is_code(field, settings):
        return
    raise InputRefused(
        f"input.features: the model's input {input_name!r} takes whole numbers, but column {field.name!r} of {path} "
        f"is {field.type}: write it as an integer, or name its words in [input.vocabulary]."
    )


def _is_code(field: ArrowField, settings: InputSettings) -> bool:
    plain = plain_type(field.type)
    return field.name in settings.vocabulary or pa.types.is_integer(plain) or pa.types.is_boolean(plain)


def _is_number(plain: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(plain) or types.is_floating(plain) or types.is_boolean(plain) or types.is_decimal(plain)
    )
