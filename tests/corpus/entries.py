"""All entries of the corpus."""

from __future__ import annotations

from tests.corpus import column_types
from tests.corpus.entry import Entry

ENTRIES: tuple[Entry, ...] = (*column_types.ENTRIES,)
