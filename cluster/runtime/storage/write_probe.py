"""Whether this process may write in a place: a small file is written there, read back, and removed.

What it decides: a place is writable where all three of them are done, in as many tries as any other write gets. Every
call has a name of its own, in which no shard's numbers stand: whoever dies over it leaves a file that the next recovery
takes for nobody's, and removes with what is left of staged files. That of a run that begins just now may come between
a write and its reading back, and so this is tried again as well.
"""

from __future__ import annotations

import os
import secrets

from cluster.run_errors import StoreFault, first_line
from cluster.runtime.storage.store import Store
from cluster.runtime.storage.write_retries import TRIES, write_until_landed

PROBE = "probe."  # how the names of such files begin


def why_unwritable(store: Store, folder: str) -> str | None:
    """What keeps this process from writing in a folder of a store; None where nothing does."""
    name, content = f"{folder}/{PROBE}{secrets.token_hex(8)}", os.uname().nodename.encode()  # whose it is
    try:
        if any(_is_read_back(store, name, content) for _ in range(TRIES)):
            return None
    except StoreFault as fault:
        return _what_happened(fault)
    return f"{store.path(name)} was written, and was not there to be read"


def _is_read_back(store: Store, name: str, content: bytes) -> bool:
    write_until_landed(lambda: store.write(name, content), lambda: store.find(name) == content)
    found = store.find(name)
    write_until_landed(lambda: store.remove(name), lambda: not store.exists(name))
    return found == content


def _what_happened(fault: StoreFault) -> str:
    """Without the store's own remedy: the storage needs no mending where others can write to it."""
    return first_line(fault).partition(": mend ")[0]
