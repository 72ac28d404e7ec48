"""All entries of the corpus."""

from __future__ import annotations

from tests.corpus import column_types, containers, damaged, files_differ, folders, names, writers
from tests.corpus.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *column_types.ENTRIES,
    *containers.ENTRIES,
    *damaged.ENTRIES,
    *files_differ.ENTRIES,
    *folders.ENTRIES,
    *names.ENTRIES,
    *writers.ENTRIES,
)
