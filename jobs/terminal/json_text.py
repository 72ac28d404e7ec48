"""A command's result as one JSON object that every reader takes.

Decides what becomes of values that JSON has not: NumPy's numbers are numbers, a number that is none or infinite is
null, a path or a time is its text. A byte of a text that is no UTF-8 is spelt `\\xfc`, as Python would (see
`shown_text`); all other characters, control characters too, are the text's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from lstm_core.shown_text import utf8


def json_text(value: object) -> str:
    """The value as JSON, in ASCII."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {utf8(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(value.item()) if hasattr(value, "item") else utf8(str(value))
