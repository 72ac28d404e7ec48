"""The known name that a mistyped one was meant to be, for the sentence of its refusal.

Decides when a name is near enough to be told: one that is not would lead away from what was meant, and the sentence
lists the known names anyway.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

NEAR_MIN = 0.6  # difflib's own measure of what is a close match


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `word`, whatever its case; None where none is near."""
    by_spelling = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_spelling, n=1, cutoff=NEAR_MIN)
    return by_spelling[found[0]] if found else None


def nearest_hint(word: str, known: Iterable[str], spelt: Callable[[str], str] = repr) -> str:
    """Words that go on from "... is unknown": ", the nearest one is 'x'", or nothing where none is near."""
    found = nearest(word, known)
    return "" if found is None else f", the nearest one is {spelt(found)}"
