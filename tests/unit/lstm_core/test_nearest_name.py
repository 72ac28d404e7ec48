"""A mistyped name's nearest known one: one of the known, or none where none is near."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lstm_core.nearest_name import nearest, nearest_hint

NAMES = ("slots", "chunk", "tail", "EarlyStopping")


@given(word=st.text(max_size=20), known=st.lists(st.text(max_size=20)))
def test_what_is_nearest_is_known(word: str, known: list[str]) -> None:
    assert nearest(word, known) in {*known, None}


def test_a_slip_finds_its_name_whatever_its_case() -> None:
    found = {word: nearest(word, NAMES) for word in ("slot", "SLOTS", "earlystoping", "chnuk")}
    assert found == {"slot": "slots", "SLOTS": "slots", "earlystoping": "EarlyStopping", "chnuk": "chunk"}
    assert nearest_hint("slot", NAMES) == ", the nearest one is 'slots'"


def test_what_is_like_no_name_is_sent_to_none() -> None:
    assert nearest("zzqx", NAMES) is None
    assert nearest_hint("zzqx", NAMES) == ""
    assert nearest_hint("slots", ()) == ""
