"""How the columns of a configuration become the inputs of a model.

Decides which columns feed which input and in which order, what the words of a categorical column are, and whether a
fill value can stand in its column. The columns themselves are looked at later, with the input's schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from cluster.core.settings import CHUNK_COUNT, CHUNK_INDEX, LENGTH, Fill
from jobs.config.key_types import THE_INPUT
from jobs.config.toml_text import in_words
from lstm_core.contract.model_contract import InputContract, ModelContract
from lstm_core.errors import UsageError
from lstm_core.nearest_name import nearest_hint

Features = tuple[tuple[str, tuple[str, ...]], ...]  # (model input, its columns), in the model's order
Vocabulary = dict[str, tuple[str, ...]]


def bind_features(given: Mapping[str, tuple[str, ...]], contract: ModelContract, *, source: str) -> Features:
    """The columns of every input, in the model's order; UsageError where names or counts do not fit."""
    known = [wanted.name for wanted in contract.inputs]
    if THE_INPUT in given:
        if len(known) > 1:
            raise UsageError(
                f"{source}: input.features is a list, but the model has the inputs {in_words(known)}: write a table"
                f" [input.features] with the columns of each."
            )
        given = {known[0]: given[THE_INPUT]}
    for name in given:
        if name not in known:
            raise UsageError(
                f"{source}: input.features.{name} is no input of the model{nearest_hint(name, known)}; it has "
                f"{in_words(known)}."
            )
    return tuple((wanted.name, _columns_of(wanted, given, source)) for wanted in contract.inputs)


def _columns_of(wanted: InputContract, given: Mapping[str, tuple[str, ...]], source: str) -> tuple[str, ...]:
    if wanted.name not in given:
        raise UsageError(
            f"{source} lacks input.features.{wanted.name}: the model's input {wanted.name!r} wants"
            f" {wanted.columns} columns."
        )
    columns = given[wanted.name]
    if len(columns) != wanted.columns:
        raise UsageError(
            f"{source}: the model's input {wanted.name!r} wants {wanted.columns} feature columns, but input.features"
            f" gives it {len(columns)} ({', '.join(columns)}): name as many as the model was built for."
        )
    if wanted.static and CHUNK_INDEX in columns:
        raise UsageError(
            f"{source}: the model's input {wanted.name!r} is one value per entity, and {CHUNK_INDEX} is another in each"
            f" of its chunks: give it to an input with an axis for time, or give {CHUNK_COUNT} or {LENGTH} here."
        )
    return columns


def read_vocabularies(given: Mapping[str, str | tuple[str, ...]]) -> Vocabulary:
    """Column -> its words, from lists or from files with one word per line; a word's code is 1 + its index."""
    return {column: _words(column, source) for column, source in given.items()}


def _words(column: str, source: str | tuple[str, ...]) -> tuple[str, ...]:
    words = source if isinstance(source, tuple) else _lines(column, source)
    if not words:
        raise UsageError(f"input.vocabulary.{column} holds no words: give at least one.")
    if len(set(words)) < len(words):
        twice = next(word for index, word in enumerate(words) if word in words[:index])
        raise UsageError(f"input.vocabulary.{column} holds {twice!r} twice: a word has one code, so name it once.")
    return words


def _lines(column: str, path: str) -> tuple[str, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"input.vocabulary.{column}: {path} is not UTF-8 text with one word per line.") from None
    except OSError as fault:
        raise UsageError(f"input.vocabulary.{column}: {path} cannot be read: {fault.strerror}.") from None
    return tuple(line for line in text.split("\n") if line)


def check_fills(
    given: Mapping[str, Fill], features: Features, vocabulary: Vocabulary, contract: ModelContract
) -> dict[str, Fill]:
    """The fills as their columns hold them: words for vocabularies, codes or numbers elsewhere."""
    for wanted, (_, columns) in zip(contract.inputs, features, strict=True):
        for column in columns:
            _check_vocabulary(column, wanted, vocabulary)
            if column in given and column not in vocabulary:
                _check_number(column, given[column], wanted)
    return {column: _as_held(fill) if column in vocabulary else fill for column, fill in given.items()}


def _check_vocabulary(column: str, wanted: InputContract, vocabulary: Vocabulary) -> None:
    if wanted.vocabulary is not None and len(vocabulary.get(column, ())) >= wanted.vocabulary:
        raise UsageError(
            f"input.vocabulary.{column} has {len(vocabulary[column])} words, but the model's input {wanted.name!r}"
            f" embeds {wanted.vocabulary} codes, of which 0 is for unknown words: it takes at most"
            f" {wanted.vocabulary - 1} words."
        )


def _check_number(column: str, fill: Fill, wanted: InputContract) -> None:
    if fill.previous:
        return
    if not isinstance(fill.value, float):
        raise UsageError(f'input.fill.{column} must be a number or "previous", not {fill.value!r}.')
    limit = wanted.vocabulary if wanted.vocabulary is not None else float("inf")
    if wanted.kind == "categorical" and not (fill.value.is_integer() and 0 <= fill.value < limit):
        raise UsageError(
            f"input.fill.{column} is {fill.value:g}, but the model's input {wanted.name!r} takes codes, whole numbers"
            f" from 0 to {limit - 1:g}."
        )


def _as_held(fill: Fill) -> Fill:
    return dataclasses.replace(fill, value=f"{fill.value:g}") if isinstance(fill.value, float) else fill
