"""Memory of processes that read and write batch after batch: where it comes from, and in which pages.

What it decides: Arrow's columns come from jemalloc, where Arrow has it. Arrow's own choice gives the pages of a batch
back to the system at once and fetches them again for the next one, and each page that comes back must be cleared, which
took a fifth of a replica's time. And NumPy asks for no huge pages: its large arrays, the arena above all, are used once
from end to end, so they gain nothing from them, and a virtual machine that hands free memory back to its host fetches a
huge page from there anew, which was seen to take 5 ms. The bounds on memory are kept by whoever holds rows
(`lstm_core.packing.arena`, `row_groups`).

Both are read from the environment when a library is loaded, so they are set before a process starts. A user's own
choice stays.
"""

from __future__ import annotations

import os

import pyarrow as pa

ALLOCATOR = "ARROW_DEFAULT_MEMORY_POOL"
HUGE_PAGES = "NUMPY_MADVISE_HUGEPAGE"


def allocator_environment() -> dict[str, str]:
    """The variables that a replica's process should begin with."""
    wanted = {HUGE_PAGES: "0"}
    if "jemalloc" in pa.supported_memory_backends():
        wanted[ALLOCATOR] = "jemalloc"
    return {name: os.environ.get(name, value) for name, value in wanted.items()}
