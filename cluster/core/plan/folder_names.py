"""What the names of a file's folders say, as in `date=2026-11-20/carrier=AA/part-0.parquet`.

Decides what such a name means: name and value are percent-decoded, `__HIVE_DEFAULT_PARTITION__` is null, and of two
folders with one name the inner one counts. All folders of a path count, also those above `input.path`, so that a run
over one night's folder knows its date.

Decides of which type a column is, so that no two folders fall together. Where every value is a whole number of 32 bits
in its own spelling, the column is int32, as pyarrow's datasets read it. `007`, `+5` and `-0` are not: where one of them
stands among the values the column is text, since `sensor=007` and `sensor=7` are two sensors. In what a run computes
with, features and times, `month=07` is the number 7 for everybody, and stays one. Where bytes are not UTF-8 once they
are decoded, the value is what the folder is called, `%FF`: a replacement character would make one value of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from lstm_core.shown_text import utf8

NULL = "__HIVE_DEFAULT_PARTITION__"
Spellings = dict[str | None, str]  # a column's values, None for null -> the name of a folder that says it
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_INT32, _INT64 = np.iinfo(np.int32), np.iinfo(np.int64)


def names_in(folder: str) -> Iterator[tuple[str, str | None, str]]:
    """Column, value and the folder's own name, of each folder of a path that says something; outer ones first."""
    for part in folder.split("/"):
        name, equals, value = part.partition("=")
        if equals and name:
            said = _decoded(value)
            yield _decoded(name), None if said == NULL else said, part


def spellings_in(folders: Iterable[str]) -> dict[str, Spellings]:
    """The values of each column that the folders of an input have.

    Raises InputRefused where two folders are called otherwise and would have one value though they do not mean it, and
    where a name is not UTF-8.
    """
    found: dict[str, Spellings] = {}
    for folder in folders:
        for column, value, part in names_in(folder):
            if utf8(part) != part:
                raise InputRefused(
                    f"The folder {folder} has a name that is not UTF-8, so it can say no column's name or value: write "
                    "it in UTF-8."
                )
            other = found.setdefault(column, {}).setdefault(value, part)
            if other != part and not (_is_utf8(other) and _is_utf8(part)):
                raise InputRefused(
                    f"input.path: the folders {other!r} and {part!r} would both say {value!r}: rename one of them, "
                    "with percent-encoded UTF-8."
                )
    return found


def folder_type(column: str, spellings: Spellings, settings: InputSettings | None) -> pa.DataType:
    """The type of a column with these values; None for the settings: as it was before their spelling counted.

    Raises InputRefused where the values of an entity, whose columns a run computes with, fall together.
    """
    texts = {text: int(text) for text in spellings if text is not None and _WHOLE.fullmatch(text)}
    if not texts or len(texts) + (None in spellings) < len(spellings):
        return pa.string()
    if settings is None or _is_computed(column, settings):
        _check_apart(column, spellings, texts, settings)
        return _whole_type(texts.values(), wide=settings is not None and column not in settings.time[1:])
    padded = {text for text, number in texts.items() if text != str(number)}
    if padded and not _are_words(column, texts, padded, settings):
        return pa.string()
    return _whole_type(texts.values(), wide=False)


def _is_computed(column: str, settings: InputSettings) -> bool:
    """Whether the column's values are used as numbers."""
    feature = column in settings.feature_columns and column not in settings.vocabulary
    return feature or column in settings.time or column in settings.target


def _are_words(column: str, texts: Mapping[str, int], padded: set[str], settings: InputSettings) -> bool:
    """Whether a vocabulary names the column's numbers as numbers, each of which one folder says."""
    words = settings.vocabulary.get(column)
    plain = words is not None and column not in (*settings.entity, *settings.keep)
    return plain and not padded.intersection(words or ()) and len(set(texts.values())) == len(texts)


def _check_apart(column: str, spellings: Spellings, texts: Mapping[str, int], settings: InputSettings | None) -> None:
    if settings is None or column not in settings.entity:
        return
    known: dict[int, str] = {}
    for text, number in texts.items():
        other = known.setdefault(number, text)
        if other != text:
            raise InputRefused(
                f"input.entity: the folders {spellings[other]!r} and {spellings[text]!r} would be the entity {number}, "
                f"as the run computes with {column}, too: spell it in one way, or let another column name the entity."
            )


def _whole_type(numbers: Collection[int], *, wide: bool) -> pa.DataType:
    """The type for whole numbers; text for those that are too large, as pyarrow has it."""
    for bounds, kind in ((_INT32, pa.int32()), (_INT64, pa.int64())):
        if bounds.min <= min(numbers) and max(numbers) <= bounds.max:
            return kind if wide or kind == pa.int32() else pa.string()
    return pa.string()


def _decoded(text: str) -> str:
    """A name without its percent-encoding, or as it is spelled where that is not UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _is_utf8(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
