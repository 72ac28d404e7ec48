"""The configuration reference, `guides/configuration.md`, made from the sections that check a configuration.

`python -m jobs.config.config_reference` writes it; a test fails where the file is not what the sections give. Decides
how a key is shown: its type in TOML's terms, its default as a user would write it, and its description as its meaning.
What a key means is said in `config_keys`, next to what it may hold.
"""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cluster.core.locations import OPTIONS, SECRETS
from jobs.config.config_keys import WHEN_UNSET, Document
from jobs.config.key_types import Toml
from jobs.config.toml_text import table_kind

FILE = Path(__file__).resolve().parent.parent / "guides" / "configuration.md"

_PLAIN: dict[object, str] = {str: "text", bool: "true or false", int: "whole number", float: "number"}
_OPTION_TYPES = {**_PLAIN, float: "number of seconds"}
_RANGES: tuple[tuple[type, str, str], ...] = (
    (annotated_types.Ge, "ge", "from"),
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Le, "le", "to"),
)

_HEAD = """\
# Configuration reference

Every key of a configuration: what it means, which values it takes, and what holds where you leave it out. Read it when
you write a configuration or meet a key that you do not know. [First hour](first-hour.md) makes the files of the
example.

<!-- file: delays.toml -->
```toml
# delays.toml
[model]
path = "delays.keras"
slots = 8

[input]
path = "data/flights"
entity = ["tailnum"]
time = ["time_hour", "flight"]
features = ["dep_delay", "distance"]

[input.fill]
dep_delay = 0.0

[output]
path = "scores/2026-11-21"
keep = ["carrier_code"]
```

```sh
slotcar plan delays.toml                           # reads the input, checks every key, writes nothing
slotcar plan delays.toml --set model.slots=64 --set input.until=2026-11-21 --set input.layout=clustered
```

## Rules

- The file is TOML. Every command needs `model.path`, `input.path`, `input.entity`, `input.time` and `input.features`.
  To score or to plan, `output.path` is required too; to train, `train.model` and `train.target`. Every other key has a
  default.
- Relative paths are relative to the configuration file, also those of `--set`.
- A key that does not exist is an error that names the nearest key, where one is near.
- `--set section.key=value` overrides a key of the file. It may be repeated; of two values for one key the last holds.
  The value is TOML, but a bare word, a path or a date needs no quotes: `--set input.layout=clustered`.
- `--address` overrides `cluster.address`.
- A mistake is one sentence and exit code 2, before anything is started.
- Where a list of text is expected, a single text stands for a list of one.
"""

_STORAGE = """
These options are known. A run hands each store the options of its own kind.

| option | type | stores |
| --- | --- | --- |
{options}

These names are refused, since a configuration must hold no secret. Set the secret in the environment instead:

| refused | set instead |
| --- | --- |
{secrets}

See [Storage](storage.md) for examples.
"""


def reference() -> str:
    """The guide, whole."""
    return "\n".join([_HEAD, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    top = {name: field for name, field in Document.model_fields.items() if table_kind(field.annotation) is None}
    yield _section("The top of the file", "Keys that stand before the first section.", "", {"run_id": top["run_id"]})
    for name, field in Document.model_fields.items():
        kind = table_kind(field.annotation)
        if kind is not None:
            yield _section(f"[{name}]", str(kind.__doc__), f"{name}.", kind.model_fields)
    about = textwrap.fill(str(top["storage"].description), 120)
    yield f"## [storage]\n\n{about}\n{_STORAGE.format(options=_options(), secrets=_secrets())}"


def _section(title: str, about: str, prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        _row(f"`{prefix}{name}`", _type(field), _default(field), field.description) for name, field in fields.items()
    ]
    head = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {title}\n", f"{about}\n", *head, *rows, ""])


def _row(*cells: str | None) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _type(field: FieldInfo) -> str:
    """What a user may write, with its range."""
    return " ".join([_type_of(field.annotation, field.metadata), *_range(field.metadata)])


def _type_of(annotation: object, metadata: Iterable[object] = ()) -> str:
    told = next((mark.type for mark in metadata if isinstance(mark, Toml)), None)
    if told is not None:
        return told
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(inner[0], inner[1:])
    if origin is Literal:
        *first, last = (f'"{value}"' for value in inner)
        return f"{', '.join(first)} or {last}"
    if origin in (types.UnionType, Union):
        return " or ".join(_type_of(kind) for kind in inner if kind is not types.NoneType)
    if origin is tuple:
        return f"list of {_type_of(inner[0])}"
    if origin is dict:
        return "table" if inner[1] is Any else f"table of {_type_of(inner[1])}"
    return _PLAIN[annotation]


def _range(metadata: Iterable[object]) -> Iterator[str]:
    for kind, name, word in _RANGES:
        for mark in metadata:
            if isinstance(mark, kind):
                yield f"{word} {getattr(mark, name)}"


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and WHEN_UNSET in extra:
        return str(extra[WHEN_UNSET])
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return "none" if value is None or value == {} else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _options() -> str:
    """One line per option, in the order in which the stores have them."""
    names = dict.fromkeys(name for known in OPTIONS.values() for name in known)
    stores = {name: [scheme for scheme, known in OPTIONS.items() if name in known] for name in names}
    lines = (
        _row(
            f"`storage.{name}`", _OPTION_TYPES[OPTIONS[found[0]][name]], ", ".join(f"`{scheme}://`" for scheme in found)
        )
        for name, found in stores.items()
    )
    return "\n".join(lines)


def _secrets() -> str:
    """One line per place of a secret."""
    places = dict.fromkeys(SECRETS.values())
    return "\n".join(
        _row(", ".join(f"`{name}`" for name, where in SECRETS.items() if where == place), _named(place))
        for place in places
    )


def _named(place: str) -> str:
    name = place.removeprefix("as ")
    return f"`{name}`" if name.isupper() else place


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
