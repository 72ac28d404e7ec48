"""All entries of the corpus."""

from __future__ import annotations

from tests.corpus import column_types, containers, damaged, files_differ, folders, names, writers
from tests.corpus.entry import Entry

COLUMNS: tuple[Entry, ...] = (*column_types.ENTRIES, *files_differ.ENTRIES)
FILES: tuple[Entry, ...] = (
    *containers.ENTRIES,
    *damaged.ENTRIES,
    *folders.ENTRIES,
    *names.ENTRIES,
    *writers.ENTRIES,
)
ENTRIES: tuple[Entry, ...] = (*COLUMNS, *FILES)
