"""Whether a file has the columns that the configuration asks for, in types that can be used.

Decides, from a schema alone, every refusal of a column; each names the column, the file and what to do. Leaves values
alone: nulls, NaN and unknown words are found when rows are read.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.settings import CONTEXT, InputSettings
from cluster.core.times import is_key_type, is_time_type, plain_type
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.input.hive_partitions import HivePartitions
from cluster.runtime.input.source_files import InputParquet, is_hidden, open_source
from cluster.runtime.input.unreadable_files import lost_file

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
        ("train.target", settings.target),
    ):
        for column in columns:
            asked.setdefault(column, setting)
    return asked


def check_columns(schema: pa.Schema, settings: InputSettings, path: str) -> pa.Schema:
    """One file's columns -> those that are needed, in plain types, numeric features as double.

    Raises InputRefused for a column that is missing, there twice, or of a type that cannot be used.
    """
    for column, setting in needed_columns(settings).items():
        _check_there(schema, column, setting, path)
    for column in settings.entity:
        _check_entity(schema.field(column), path)
    for column in settings.time:
        _check_time(schema.field(column), path, first=column == settings.time[0])
    for column in (*settings.feature_columns, *settings.target):
        _check_feature(schema.field(column), settings, path)
    return _plain_schema(schema, settings)


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


def check_schema(settings: InputSettings, contract: ModelContract, files: Sequence[str]) -> pa.Schema:
    """Check the first file that can be read, before anything is started; returns its columns.

    They must fit the configuration and the model. That every other file has the same columns is checked where each is
    opened anyway, by the scan. Raises InputRefused for its columns, InputBroken where no file can be read, or where one
    cannot whose entity nobody knows.
    """
    path, schema = _first_schema(settings, files)
    columns = check_columns(schema, settings, path)
    kinds = {wanted.name: wanted.kind for wanted in contract.inputs}
    for name, wanted_columns in settings.features:
        if kinds.get(name) == "categorical":
            for column in set(wanted_columns) - set(CONTEXT):
                _check_codes(schema.field(column), settings, name, path)
    return columns


def _first_schema(settings: InputSettings, files: Sequence[str]) -> tuple[str, pa.Schema]:
    """The first file that is not lost, and its columns."""
    partitions, first = HivePartitions.of(files), None
    for path in files:
        try:
            with open_source(path, settings.storage) as parquet:
                refuse_encrypted(parquet, settings, path)
                return path, partitions.extend(parquet.schema_arrow, path)
        except InputBroken as broken:
            if lost_file(path, broken, settings, partitions) is None:
                raise
            first = first or broken
    assert first is not None, "an input without files is refused when it is listed"
    raise first


def _plain_schema(schema: pa.Schema, settings: InputSettings) -> pa.Schema:
    as_they_are = {*settings.entity, *settings.time, *settings.keep}
    fields = []
    for column in needed_columns(settings):
        plain = plain_type(schema.field(column).type)
        number = column not in as_they_are and _is_number(plain)
        fields.append(pa.field(column, pa.float64() if number else plain))
    return pa.schema(fields)


def _check_there(schema: pa.Schema, column: str, setting: str, path: str) -> None:
    count = schema.names.count(column)
    if count == 1:
        return
    if count > 1:
        raise InputRefused(
            f"{setting}: column {column!r} is there {count} times in {path}: write the file with distinct names."
        )
    context = CONTEXT if setting == "input.features" else ()
    near = difflib.get_close_matches(column, [*schema.names, *context], n=1)
    hint = f"the nearest name is {near[0]!r}; " if near else ""
    raise InputRefused(f"{setting}: there is no column {column!r} in {path}; {hint}it has {_list(schema.names)}.")


def _list(names: Sequence[str]) -> str:
    if not names:
        return "no columns"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _check_entity(field: ArrowField, path: str) -> None:
    if not is_key_type(field.type):
        raise InputRefused(
            f"input.entity: column {field.name!r} of {path} is {field.type}, which cannot name an entity: "
            "use text, whole numbers, bytes or dates."
        )


def _check_time(field: ArrowField, path: str, *, first: bool) -> None:
    of_day = pa.types.is_time(plain_type(field.type))
    if not is_time_type(field.type) or (first and of_day):
        raise InputRefused(
            f"input.time: column {field.name!r} of {path} is {field.type}, which cannot order rows in time: "
            "use a timestamp, a date, whole numbers or ISO 8601 text."
        )


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
    plain = plain_type(field.type)
    if field.name in settings.vocabulary or pa.types.is_integer(plain) or pa.types.is_boolean(plain):
        return
    raise InputRefused(
        f"input.features: the model's input {input_name!r} takes whole numbers, but column {field.name!r} of {path} "
        f"is {field.type}: write it as an integer, or name its words in [input.vocabulary]."
    )


def _is_number(plain: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(plain) or types.is_floating(plain) or types.is_boolean(plain) or types.is_decimal(plain)
    )
