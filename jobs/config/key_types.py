"""How a user may write the values of keys: as text or a list, as a path, as a moment, as words.

Decides what each kind of value may be and what it becomes: paths are absolute, one value does for a list of one. A
`ValueError` goes on from the key's name: "must be ...". Which key takes which kind is in `config_keys`.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo

from cluster.core.locations import NotALocation, is_url, normalized
from cluster.core.settings import Fill
from lstm_core.json_types import JsonObject

THE_INPUT = ""  # `features = [...]`: the name that stands for the single input of the model


@dataclass(frozen=True)
class Toml:
    """What a user may write for a key, where its Python type does not say it."""

    type: str


def _column(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must name columns as text, but holds {value!r}")
    return value


def _columns(value: object) -> tuple[str, ...]:
    names = tuple(_column(item) for item in (value if isinstance(value, list | tuple) else [value]))
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"names {name!r} twice: name it once")
    return names


def _some_columns(value: object) -> tuple[str, ...]:
    names = _columns(value)
    if not names:
        raise ValueError("must name at least one column")
    return names


def _features(value: object) -> object:
    if not isinstance(value, str | list | tuple | dict) or not value:
        raise ValueError(f"must be a list of columns, or a table of model input to columns, not {value!r}")
    return value if isinstance(value, dict) else {THE_INPUT: value}


def _resolve(value: str, info: ValidationInfo) -> str:
    if not value or "\0" in value:
        raise ValueError("must not be empty" if not value else "must not hold the character NUL")
    if is_url(value):
        raise ValueError(f"must be a local path, but is {value!r}: copy it to this machine")
    assert info.context is not None, "sections are validated with the file's folder as context"
    return os.path.normpath(os.path.join(info.context["folder"], value))


def _resolve_anywhere(value: str, info: ValidationInfo) -> str:
    if not is_url(value):
        return _resolve(value, info)
    if re.search(r"\?\w+=", value):
        raise NotALocation("must not hold options behind a question mark: put them into [storage]")
    return normalized(value, "/")


def _list_of_paths(value: object) -> object:
    paths = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not paths:
        raise ValueError("must name at least one file, directory or glob")
    return paths


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _moment(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | date | time):
        raise ValueError(f"must be a date, a time or a whole number, not {value!r}")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _fill(value: object) -> Fill:
    if isinstance(value, Fill):
        return value
    if not isinstance(value, str | int | float):
        raise ValueError(f'must be a value or "previous", not {value!r}')
    if value == "previous":
        return Fill(previous=True)
    if isinstance(value, str):
        return Fill(value=value)
    if not abs(value) <= sys.float_info.max:
        raise ValueError("must be a finite number, since a score of anything else means nothing")
    return Fill(value=float(value))


def _words(value: object) -> object:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or any(isinstance(word, bool | float) for word in value):
        raise ValueError(f"must be a file's path or a list of values, not {value!r}")
    return tuple(str(word) for word in value)


def _resolve_words(value: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
    return _resolve(value, info) if isinstance(value, str) else value


def _learning_rate(value: object) -> object:
    if isinstance(value, dict) and isinstance(value.get("schedule"), str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"must be a number that is more than 0, or a table with its schedule, not {value!r:.60}")
    return float(value)


def _callbacks(value: object) -> object:
    listed = value if isinstance(value, list | tuple) else [value]
    tables = [{"name": item} if isinstance(item, str) else item for item in listed]
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in tables):
        raise ValueError("must be a list of callbacks, each a name or a table with its name and arguments")
    return tuple(tables)


def _metrics(value: object) -> object:
    if isinstance(value, dict):
        return {str(output): _names_of_metrics(names) for output, names in value.items()}
    return _names_of_metrics(value)


def _names_of_metrics(value: object) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else (value,)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(f"must be a list of names, or a table of output to such a list, not {value!r}")
        if name in names[:index]:
            raise ValueError(f"names {name!r} twice: name it once")
    return names


def _training_model(value: str, info: ValidationInfo) -> str:
    if value.endswith(".keras"):
        return _resolve(value, info)
    if value.count(":") != 1 or not all(value.split(":")):
        raise ValueError(f'must be "module:function" or a .keras file, not {value!r}')
    return value


ONE_OR_MORE = Toml("text, or a list of text")

Columns = Annotated[tuple[str, ...], BeforeValidator(_columns), ONE_OR_MORE]
SomeColumns = Annotated[tuple[str, ...], BeforeValidator(_some_columns), ONE_OR_MORE]
ColumnName = Annotated[str, AfterValidator(_column)]
LocalPath = Annotated[str, AfterValidator(_resolve)]
AnyPath = Annotated[str, AfterValidator(_resolve_anywhere)]
AnyPaths = Annotated[tuple[AnyPath, ...], BeforeValidator(_list_of_paths), ONE_OR_MORE]
Moment = Annotated[str, BeforeValidator(_moment), Toml("text, date or whole number")]
Features = Annotated[dict[str, SomeColumns], BeforeValidator(_features), Toml("list of text, or a table of them")]
Fills = dict[str, Annotated[Fill, BeforeValidator(_fill), Toml("text or number")]]
Words = Annotated[
    str | tuple[str, ...], BeforeValidator(_words), AfterValidator(_resolve_words), Toml("list of text or a path")
]
RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Modules = Annotated[tuple[ModuleName, ...], BeforeValidator(_listed), ONE_OR_MORE]
TrainingModel = Annotated[str, AfterValidator(_training_model)]
LearningRate = Annotated[float | JsonObject, BeforeValidator(_learning_rate), Toml("number, or a table")]
Callbacks = Annotated[tuple[JsonObject, ...], BeforeValidator(_callbacks), Toml("list of text and tables")]
Metrics = Annotated[
    tuple[str, ...] | dict[str, tuple[str, ...]], BeforeValidator(_metrics), Toml("list of text, or a table of them")
]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]
