"""`input.path` -> the files to read.

Decides which files a path or URL means: a file, all files below a folder, those that match a glob, those of a table.
As everywhere in this world, names that start with `_` or `.` are not part of the input. The list is sorted, and a file
that two paths name is read once. A table below a folder is refused: its folder has files that are no longer part of it.
Leaves what is inside the files alone: a file that is no Parquet is named when it is opened.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

import pyarrow.fs as pafs

from cluster.core.locations import Options, is_url, parse_location
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused, first_line
from cluster.runtime.input.table_formats import DELTA_LOG, table_files
from cluster.runtime.storage.filesystems import remote


def list_files(settings: InputSettings) -> list[str]:
    """Absolute paths and URLs of the input's files, sorted. Raises InputRefused where a path names nothing."""
    found: dict[str, str] = {}
    for path in settings.path:
        files = _files(path, settings)
        if not files:
            raise InputRefused(
                f"input.path: {path!r} has no files in it: name a Parquet file, a folder with some, or a glob."
            )
        for file in files:
            found.setdefault(file if is_url(file) else os.path.realpath(file), file)
    return sorted(found.values())


def _files(path: str, settings: InputSettings) -> list[str]:
    try:
        of_table = table_files(path, settings)
    except OSError as error:
        raise InputRefused(f"input.path: {path!r} cannot be looked at: {first_line(error)}.") from None
    if of_table is not None:
        return of_table
    return list(_remote_files(path, settings.storage) if is_url(path) else map(os.path.abspath, _expand(path)))


def _expand(path: str) -> Iterator[str]:
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
    _refuse_table(folder if os.path.isdir(os.path.join(folder, DELTA_LOG)) else None)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] not in "_.")
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _walk(path, seen=seen)
        else:
            yield path


def _refuse_table(folder: str | None) -> None:
    if folder is not None:
        raise InputRefused(
            f"input.path: there is a Delta table in {folder}, some of whose files may be no part of it any more: name "
            "the table itself."
        )


def _remote_files(url: str, options: Options) -> Iterator[str]:
    place = parse_location(url)
    try:
        filesystem = remote(place, options)
        info = filesystem.get_file_info(place.fs_path)
        if info.type == pafs.FileType.File:
            yield url
            return
        magic = info.type == pafs.FileType.NotFound and glob.has_magic(place.key)
        if info.type == pafs.FileType.NotFound and not magic:
            raise InputRefused(f"input.path: there is no file or folder {url!r}.")
        base = _before_magic(place.fs_path) if magic else place.fs_path
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
        below = [found.path for found in filesystem.get_file_info(selector) if found.type == pafs.FileType.File]
    except OSError as error:
        raise InputRefused(f"input.path: {url!r} cannot be listed: {first_line(error)}.") from None
    matches = re.compile(_pattern(place.fs_path) if magic else re.escape(place.fs_path) + "/")
    _refuse_table(next((path.partition(f"/{DELTA_LOG}/")[0] for path in below if f"/{DELTA_LOG}/" in path), None))
    for path in below:
        match = matches.match(path)
        # What a pattern names counts whatever its name begins with; of what lies below it, only plain names do.
        if match and not any(name[0] in "_." for name in path[match.end() :].split("/") if name):
            yield place.named(path)


def _before_magic(path: str) -> str:
    """The folder above the first part with a wildcard."""
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first])


def _pattern(path: str) -> str:
    """A glob as a regular expression for a file that it names, or for the folder above files."""
    translated = []
    for part in path.split("/"):
        if part == "**":
            translated.append("(?:(?![_.])[^/]+/)*")
            continue
        translated.append(re.sub(r"\\\*|\\\?|\\\[(.+?)\\\]", _wildcard, re.escape(part)) + "/")
    return "".join(translated).rstrip("/") + r"(?=/|$)"


def _wildcard(found: re.Match[str]) -> str:
    if found[1] is None:
        return "[^/]*" if found[0] == r"\*" else "[^/]"
    inside = found[1].replace("\\-", "-")
    return f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
