"""JSON of a result is JSON for every reader, whatever stands in it."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.terminal.json_text import json_text


def strictly(text: str) -> Any:
    """Read by the letter: no NaN, and only what UTF-8 can say."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    value = json.loads(text.encode("ascii"), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


VALUES = [
    ({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}, {"a": 0.5, "b": 3, "c": True}),
    ([float("nan"), np.float64("inf"), -0.0], [None, None, -0.0]),
    ({"path": Path("/x"), "day": dt.date(2026, 11, 20)}, {"path": "/x", "day": "2026-11-20"}),
    (os.fsdecode(b"M\xfcnchen"), "M\\xfcnchen"),
    ({os.fsdecode(b"\xff"): "\x1b[31m\n"}, {"\\xff": "\x1b[31m\n"}),
    (b"\xff\x00", "b'\\xff\\x00'"),
    ((1, (2, None)), [1, [2, None]]),
]


@pytest.mark.parametrize(("value", "read"), VALUES, ids=repr)
def test_every_value_is_one_that_json_has(value: object, read: object) -> None:
    assert strictly(json_text(value)) == read


@given(st.recursive(st.text(st.characters(codec=None)) | st.floats() | st.none(), st.lists))
def test_it_can_always_be_read(value: object) -> None:
    strictly(json_text({"value": value}))
