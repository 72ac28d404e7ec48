"""From a TOML file and `--set` options to one nested dict, and from pydantic's findings to one sentence.

Decides how text becomes values and how a mistake is said; `config_keys` decides what the values may be. A `--set` value
is read as TOML; a bare word, a path or a date, which TOML would refuse or turn into a date, is taken as text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, time
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from jobs.config.config_keys import Document
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.nearest_name import nearest_hint
from lstm_core.secret_text import holds_secret

_TOML_OPENERS = ("[", "{", '"', "'")  # a value that begins so was meant as TOML

_EXPECTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_pattern_mismatch": "1 to 100 letters, digits, '.', '_' or '-', the first a letter or a digit",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def read_text(path: str) -> JsonObject:
    """The TOML file as nested dicts; UsageError where it is missing, unreadable or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"There is no configuration file {path}: check the path.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory, where a configuration file (TOML) is expected.") from None
    except OSError as fault:
        raise UsageError(f"The configuration file {path} cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text, where a configuration file (TOML) is expected.") from None
    except tomllib.TOMLDecodeError as fault:
        raise UsageError(f"{path} is not valid TOML: {str(fault).rstrip('.')}.") from None


def apply_override(raw: JsonObject, override: str) -> None:
    """Sets `section.key=value` in `raw`, in place."""
    name, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override} lacks a value: write --set section.key=value.")
    put(raw, _key_parts(name, override), _value(text.strip(), override), option=f"--set {override}")


def put(raw: JsonObject, place: Sequence[str], value: JsonValue, *, option: str) -> None:
    """Sets the value at `place` in `raw`, in place; `option` is what asked for it."""
    *sections, key = place
    table = raw
    for depth, section in enumerate(sections):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            where = ".".join(sections[: depth + 1])
            raise UsageError(f"{option} does not fit: {where} holds a value, not a table, in the file.")
    table[key] = value


def refuse_secrets(raw: JsonObject, source: str) -> None:
    """Raises UsageError where a URL or an endpoint of the configuration holds a secret, which is not repeated."""
    for place, value in _texts(raw, ()):
        reached = place[0] in ("storage", "cluster")
        if ("://" in value or reached) and (holds_secret(value) or (reached and "@" in value)):
            raise UsageError(
                f"{source}: {'.'.join(place)} must not hold credentials, a signature or a token: secrets come from the "
                "environment, see slotcar guide storage."
            )


def _texts(value: JsonValue, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str) and place:
        yield place, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*place, str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, place)


def _key_parts(name: str, override: str) -> list[str]:
    try:
        value: JsonValue = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        raise UsageError(f"--set {override} does not begin with a key: write --set section.key=value.") from None
    parts = []
    while isinstance(value, dict):
        part, value = next(iter(value.items()), ("", 0))
        parts.append(part)
    return parts


def _value(text: str, override: str) -> JsonValue:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as fault:
        if text.startswith(_TOML_OPENERS):
            raise UsageError(f"--set {override} is not valid TOML: {str(fault).rstrip('.')}.") from None
        return text
    if len(parsed) > 1 or isinstance(parsed["value"], date | time):
        return text
    return parsed["value"]


def in_words(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def keys_by_section() -> dict[str, list[str]]:
    """Section name -> its keys, in the file's order; "" holds the keys and sections of the top."""
    sections = {"": list(Document.model_fields)}
    for name, field in Document.model_fields.items():
        kind = table_kind(field.annotation)
        if kind is not None:
            sections[name] = list(kind.model_fields)
    return sections


def sentence(errors: Sequence[ErrorDetails], source: str) -> str:
    """What is wrong, in one sentence: an unknown key first, since it often explains a missing one."""
    error = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    place = [str(part) for part in error["loc"] if not (part == "[key]" or isinstance(part, int))]
    name = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{source}: {_unknown(place)}"
    if error["type"] == "missing":
        return f"{source} lacks {name}: {_description(place)}."
    if error["type"] == "value_error":
        return f"{source}: {name} {error['ctx']['error']}."
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        return f"{source}: {name} is refused: {error['msg']}."
    return f"{source}: {name} must be {expected.format(**error.get('ctx', {}))}, not {_found(error['input'])}."


# Habits from stateless training that must not come along silently: each has its own sentence.
_HABITS = {
    "shuffle": "the key {} has no place here: a stateful model is trained in the order of time, so nothing is ever "
    "shuffled; take it out",
    "batch_size": "the key {} has no place here: stateful training needs one fixed batch, which is model.slots; "
    "set that",
    "validation_split": "the key {} has no place here: a share of the rows would tear series apart; set "
    "train.validate_since to the time from which rows are held out",
}


def _unknown(place: list[str]) -> str:
    if place[-1] in _HABITS:
        return f"{_HABITS[place[-1]].format('.'.join(place))}."
    section, key = (place[0], place[-1]) if len(place) > 1 else ("", place[0])
    sections = keys_by_section()
    owners = [owner for owner, keys in sections.items() if owner and key in keys]
    inside = f"{section}." if section else ""
    near = f", the nearest one is {owners[0]}.{key}" if owners else nearest_hint(key, sections[section], inside.__add__)
    where = f"[{section}]" if section else "the file's top"
    keys = in_words(sections[section])
    return f"the key {'.'.join(place)} is unknown{near}; {where} has {keys}."


def _description(place: list[str]) -> str:
    """The first sentence of a key's meaning, to go on from a colon."""
    kind: type[BaseModel] = Document
    for part in place[:-1]:
        inner = table_kind(kind.model_fields[part].annotation)
        assert inner is not None, "only a table has keys"
        kind = inner
    first = first_sentence(str(kind.model_fields[place[-1]].description)).removesuffix(".")
    return first[:1].lower() + first[1:]


def first_sentence(text: str) -> str:
    """The text up to its first full stop that another sentence follows; all of it where none does."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`\"\[])", " ".join(text.split()), maxsplit=1)[0]


def table_kind(annotation: object) -> type[BaseModel] | None:
    """The section's class behind an annotation, which may be `Section | None`."""
    kinds = (annotation, *getattr(annotation, "__args__", ()))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _found(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else f"{value}"
    return text if len(text) <= 60 else f"{text[:57]}..."
