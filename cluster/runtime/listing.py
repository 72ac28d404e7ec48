"""`input.path` -> the files to read.

Decides which files a path means: a file, all files below a folder, those that match a glob. As everywhere in this
world, names that start with `_` or `.` are not part of the input. The list is sorted, and a file that two paths name
is read once. Leaves what is inside the files alone: a file that is no Parquet is named when it is opened.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from cluster.core.settings import InputSettings
from cluster.errors import InputRefused


def list_files(settings: InputSettings) -> list[str]:
    """Absolute paths of the input's files, sorted. Raises InputRefused where a path names nothing."""
    found: dict[str, str] = {}
    for path in settings.path:
        files = [os.path.abspath(file) for file in _expand(path)]
        if not files:
            raise InputRefused(
                f"input.path: {path!r} has no files in it: name a Parquet file, a folder with some, or a glob."
            )
        for file in files:
            found.setdefault(os.path.realpath(file), file)
    return sorted(found.values())


def _expand(path: str) -> Iterator[str]:
    if "://" in path:
        raise InputRefused(f"input.path: {path!r} is not a local path, and remote input is not supported yet.")
    if os.path.isdir(path):
        yield from _walk(path, seen=set())
    elif os.path.exists(path):
        yield path
    elif glob.has_magic(path):
        for match in sorted(glob.glob(path, recursive=True)):
            if os.path.isdir(match):
                yield from _walk(match, seen=set())
            else:
                yield match
    else:
        raise InputRefused(f"input.path: there is no file or folder {path!r}.")


def _walk(folder: str, *, seen: set[str]) -> Iterator[str]:
    """All files below a folder, links followed once: a linked folder that was left out would be missing data."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] not in "_.")
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _walk(path, seen=seen)
        else:
            yield path
