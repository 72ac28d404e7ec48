"""The tables that a reader of a whole folder sees, in the folders below it too.

pyarrow, Spark and DuckDB read a folder with all folders in it, but for names that begin with `_` or `.`. So must
whoever says that nothing else lies there. On this machine links are told and not followed, and only so many names are
looked at, as a folder may be of any size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

import pyarrow.fs as pafs

from cluster.core.locations import Options, is_url
from cluster.runtime.storage.filesystems import filesystem_of

NAMES_MAX = 1_000_000
ENDINGS = (".parquet", ".parq", ".pq", ".parquet.gz")


def visible_tables(root: str, options: Options) -> list[str]:
    """Paths below the root, sorted. Raises OSError."""
    names = _remote(root, options) if is_url(root) else _local(root)
    return sorted(name for name in islice(names, NAMES_MAX) if name.lower().endswith((*ENDINGS, "/")))


def _local(root: str) -> Iterator[str]:
    for folder, below, files in os.walk(root):
        inside = os.path.relpath(folder, root)
        prefix = "" if inside == "." else f"{inside}/"
        seen = [name for name in below if name[0] not in "_."]
        yield from (f"{prefix}{name}/" for name in seen if os.path.islink(os.path.join(folder, name)))
        yield from (f"{prefix}{name}" for name in files if name[0] not in "_.")
        below[:] = seen


def _remote(root: str, options: Options) -> Iterator[str]:
    filesystem, place = filesystem_of(root, options)
    for found in filesystem.get_file_info(pafs.FileSelector(place, recursive=True, allow_not_found=True)):
        name = found.path[len(place) :].lstrip("/")
        if found.type == pafs.FileType.File and not any(part[0] in "_." for part in name.split("/") if part):
            yield name
