"""The corpus's columns: every kind from plan to the second night, against a truth and an accounting from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.entries import COLUMNS
from tests.corpus.entry import Entry
from tests.corpus.road import Road, program, walks
from tests.harness.watched import Watched


@pytest.fixture(scope="module")
def commands() -> Iterator[Watched]:
    with program() as watched:
        yield watched


@pytest.mark.parametrize(("entry", "order"), walks(COLUMNS))
def test_every_kind_is_scored_as_it_must_be_or_refused_in_one_sentence(
    tmp_path: Path, commands: Watched, entry: Entry, order: str
) -> None:
    Road(entry, tmp_path, order, commands).go()


@pytest.mark.soak
@pytest.mark.parametrize(("entry", "order"), walks(COLUMNS, seldom=True))
def test_every_kind_in_the_other_order_too(tmp_path: Path, commands: Watched, entry: Entry, order: str) -> None:
    Road(entry, tmp_path, order, commands).go()


def test_no_two_entries_have_one_name() -> None:
    names = [entry.name for entry in COLUMNS]
    assert sorted(set(names)) == sorted(names)
