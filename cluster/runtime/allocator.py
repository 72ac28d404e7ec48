"""Memory of processes that read and write batch after batch: which allocator Arrow's columns come from.

What it decides: jemalloc, where Arrow has it. Arrow's own choice gives the pages of a batch back to the system at once
and fetches them again for the next one, and each page that comes back must be cleared, which took a fifth of a
replica's time. The bounds on memory are kept by whoever holds rows (`lstm_core.arena`, `rowgroups`).

Arrow reads it from the environment when it is loaded, so it is set before a process starts. A user's own choice stays.
"""

from __future__ import annotations

import os

import pyarrow as pa

ALLOCATOR = "ARROW_DEFAULT_MEMORY_POOL"


def environment() -> dict[str, str]:
    """The variables that a replica's process should begin with."""
    known = "jemalloc" in pa.supported_memory_backends()
    return {ALLOCATOR: os.environ.get(ALLOCATOR, "jemalloc")} if known else {}
