"""Nothing that acts on a terminal is left in a text that is shown, and nothing else is changed."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_core.shown_text import shown, shown_lines, utf8

SHOWN = {
    "pump[north] x[/] [red]y :bug: \\ ü 泵 😀": "pump[north] x[/] [red]y :bug: \\ ü 泵 😀",
    "a\x1b[31mb": "a\\x1b[31mb",
    "\x00\x07\x7f": "\\x00\\x07\\x7f",
    "\x9b2K\x85": "\\u009b2K\\u0085",
    "a\nb\r\tc": "a\\nb\\r\\tc",
    "abc\u202egnp.exe": "abc\\u202egnp.exe",
    "\u2066x\u2069\u200f\u061c": "\\u2066x\\u2069\\u200f\\u061c",
    "one\u2028two": "one\\u2028two",
    os.fsdecode(b"M\xfcnchen"): "M\\xfcnchen",
    "\ud800": "\\ud800",
}


@pytest.mark.parametrize(("text", "seen"), SHOWN.items(), ids=ascii)
def test_what_acts_is_spelt_out(text: str, seen: str) -> None:
    assert shown(text) == seen


@given(st.text(st.characters(codec=None)))
def test_all_that_is_shown_can_be_seen_and_sent(text: str) -> None:
    seen = shown(text)
    assert not {"Cc", "Cs"} & set(map(unicodedata.category, seen))
    assert not {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"} & set(
        map(unicodedata.bidirectional, seen)
    )
    assert seen.encode().decode() == seen
    assert shown(seen) == seen
    visible = [letter for letter in text if letter.isprintable()]
    assert seen if visible else True
    if len(visible) == len(text):
        assert seen == text


@given(st.text(st.characters(codec=None)))
def test_utf8_changes_only_what_is_none(text: str) -> None:
    assert utf8(text).encode().decode() == utf8(text)
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert utf8(text) == text


def test_a_log_keeps_its_lines_and_loses_its_colours() -> None:
    assert shown_lines("\x1b[36m(pid=3)\x1b[0m a\tb\r\nc\x1b[2J\n") == "(pid=3) a\tb\nc\\x1b[2J\n"
