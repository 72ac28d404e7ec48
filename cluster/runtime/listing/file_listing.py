"""`input.path` -> the files to read.

Decides which files a path or URL means: a file, all files below a folder, those that match a glob, those of a table.
Which names count is the business of `input_names`. The list is sorted, and a file that two paths name is read once.
Links are followed, each folder once. Where a plain file lies in a table, at any depth and from whatever path, the path
is refused: some of the files there are no part of the table any more. What is no file at all is refused by what it is,
since a pipe would wait for ever. Leaves what is inside the files alone: a file that is no Parquet is named when it is
opened.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow.fs as pafs

from cluster.core.locations import is_url, parse_location
from cluster.core.plan.file_list import FileList, TableValues
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused, first_line
from cluster.runtime.listing.input_names import ANY_FOLDERS, before_magic, fits, is_plain, part_fits
from cluster.runtime.listing.table_formats import AS_PLAIN, is_metadata, table_files
from cluster.runtime.listing.table_roots import DELTA, ICEBERG, TableRoot, TableRoots
from cluster.runtime.storage.filesystems import filesystem_of

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class _Found:
    """What one path names."""

    files: dict[str, str]  # what a file really is called -> its path or URL
    table: TableValues | None = None


def list_files(settings: InputSettings) -> FileList:
    """The input's files. Raises InputRefused where a path names nothing, or files that must not be read like this."""
    found: dict[str, str] = {}
    tables = []
    for path in settings.path:
        named = _named(path, settings)
        if not named.files:
            raise InputRefused(
                f"input.path: {path!r} has no files in it: name a Parquet file, a folder with some, or a glob."
            )
        for file, called in named.files.items():
            found.setdefault(file, called)
        tables += [named.table] if named.table is not None else []
    return FileList.of(found.values(), tables)


def _named(path: str, settings: InputSettings) -> _Found:
    try:
        named = _table(path, ICEBERG, settings) if is_metadata(path) else None
        named = named or (_remote(path, settings) if is_url(path) else _local(path, settings))
    except OSError as error:
        raise InputRefused(f"input.path: {path!r} cannot be listed: {first_line(error)}.") from None
    if named.table is None and settings.version is not None:
        raise InputRefused(
            f"input.version is {settings.version}, but {path} is neither a Delta nor an Iceberg table: leave it out."
        )
    return named


def _table(path: str, kind: str, settings: InputSettings) -> _Found:
    found = table_files(path, kind, settings)
    return _Found({file if is_url(file) else os.path.realpath(file): file for file in found.files}, found.values)


def _refuse_nothing(path: str) -> InputRefused:
    return InputRefused(f"input.path: there is no file or folder {path!r}.")


def _check_outside(path: str, folders: Iterable[str], roots: TableRoots) -> None:
    """Raises InputRefused where one of the folders lies in a table."""
    for folder in folders:
        root = roots.above(folder)
        if root is not None:
            raise _inside(path, root)


def _inside(path: str, root: TableRoot) -> InputRefused:
    folder = parse_location(path).named(root.folder) if is_url(path) else root.folder
    if root.kind in (DELTA, ICEBERG):
        remedy = "name the table itself, and choose its rows by input.since and input.until"
    else:
        remedy = f"Slotcar reads no {root.kind} tables, so {AS_PLAIN}"
    return InputRefused(
        f"input.path: {path!r} reads files of the {root.kind} table {folder}, some of which may be no part of it any "
        f"more: {remedy}."
    )


# ---- on this machine


def _local(given: str, settings: InputSettings) -> _Found:
    path = os.path.abspath(given)
    filesystem, _ = filesystem_of(path, settings.storage)
    roots = TableRoots(filesystem)
    if not os.path.lexists(path) and not glob.has_magic(path):
        raise _refuse_nothing(path)
    if os.path.isdir(path):
        root = roots.above(path)
        if root is not None and root.folder == path:
            return _table(path, root.kind, settings)
    files = dict(_local_files(path, roots))
    _check_outside(path, dict.fromkeys(os.path.dirname(name) for file in files.items() for name in file), roots)
    return _Found(files)


def _local_files(path: str, roots: TableRoots) -> Iterator[tuple[str, str]]:
    """The files that a path names: what each really is called, and its path."""
    named = [path] if os.path.lexists(path) else _matches(*before_magic(path))
    seen: set[str] = set()
    for match in named:
        if os.path.isdir(match):
            yield from _walk(match, roots, seen)
        else:
            yield os.path.realpath(_checked(match)), match


def _matches(base: str, parts: list[str]) -> Iterator[str]:
    """What the parts of a pattern name below a folder; a folder is looked at once for a part, as links may go round."""
    todo, seen = [(base, os.path.realpath(base), parts)], set()
    while todo:
        folder, real, left = todo.pop()
        if not left:
            yield folder
        elif (real, len(left)) not in seen and os.path.isdir(folder):
            seen.add((real, len(left)))
            steps = [(os.path.join(folder, name) if name else folder, rest) for name, rest in _steps(folder, left)]
            todo += [(path, _real(path, folder, real), rest) for path, rest in reversed(steps)]


def _steps(folder: str, parts: list[str]) -> list[tuple[str, list[str]]]:
    """What the first part of a pattern names in a folder, and the parts left for it; "" is the folder itself."""
    part, *rest = parts
    if part == ANY_FOLDERS:
        below = _names(folder) if rest else []  # with nothing left all of the folder is meant
        inner = [name for name, is_folder in below if is_folder and is_plain(name, folder=True)]
        return [("", rest), *((name, parts) for name in inner)]
    names = _names(folder) if glob.has_magic(part) else [(part, os.path.lexists(os.path.join(folder, part)))]
    found = [name for name, is_folder in names if part_fits(name, part, folder=is_folder)]
    return [(name, rest) for name in found if os.path.lexists(os.path.join(folder, name))]


def _real(path: str, folder: str, real: str) -> str:
    """What a path is really called, in a folder or the folder itself, of which that is known."""
    if os.path.islink(path):
        return os.path.realpath(path)
    return real if path == folder else os.path.join(real, os.path.basename(path))


def _names(folder: str) -> list[tuple[str, bool]]:
    """What lies in a folder, and whether it is one, sorted; nothing where that may not be seen, as `lost+found`."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, _is_folder(entry)) for entry in entries)
    except PermissionError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _walk(top: str, roots: TableRoots, seen: set[str]) -> Iterator[tuple[str, str]]:
    """All files below a folder, links followed once: a linked folder that was left out would be missing data."""
    folders = [(top, os.path.realpath(top))]
    while folders:
        folder, real = folders.pop()
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        names = [entry.name for entry in entries]
        roots.saw_names(folder, names)
        roots.saw_names(real, names)
        below = []
        for entry in entries:
            is_folder = _is_folder(entry)
            if not is_plain(entry.name, folder=is_folder):
                continue
            really = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            if is_folder:
                below.append((entry.path, really))
            else:
                yield really if _is_file(entry) else _checked(entry.path), entry.path
        folders += reversed(below)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _checked(path: str) -> str:
    """A path that leads to a file. Raises InputRefused with what it is where it does not."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputRefused(
            f"input.path: {path} is a link to {os.readlink(path)}, where nothing is: put the file there, or remove the "
            "link."
        ) from None
    except OSError as error:
        raise InputRefused(f"input.path: {path} leads to no file ({error.strerror}): remove it.") from None
    if stat.S_ISREG(mode):
        return path
    what = next((name for matches, name in _KINDS if matches(mode)), "no file")
    raise InputRefused(
        f"input.path: {path} is {what}, and a run reads files, more than once: write its rows to a Parquet file, or "
        "take it out of the input."
    )


# ---- in a store


def _remote(url: str, settings: InputSettings) -> _Found:
    place = parse_location(url)
    filesystem, name = filesystem_of(url, settings.storage)
    roots = TableRoots(filesystem)
    kind = filesystem.get_file_info(name).type
    if kind == pafs.FileType.File:
        _check_outside(url, [name.rpartition("/")[0]], roots)
        return _Found({url: url})
    base, parts = before_magic(name) if kind == pafs.FileType.NotFound and glob.has_magic(place.key) else (name, [])
    if kind == pafs.FileType.NotFound and not parts:
        raise _refuse_nothing(url)
    root = roots.above(base)
    if root is not None and root.folder == base and not parts:
        return _table(url, root.kind, settings)
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    below = [found.path for found in filesystem.get_file_info(selector) if found.type == pafs.FileType.File]
    files = [file for file in below if fits(file[len(base) :].lstrip("/").split("/"), parts)]
    roots.saw_files(base, below)
    root = roots.above(base)  # a store may let one list what it lets nobody look at, and show it later
    if root is not None and root.folder == base and not parts:
        return _table(url, root.kind, settings)
    _check_outside(url, dict.fromkeys([base, *(file.rpartition("/")[0] for file in files)]), roots)
    return _Found({place.named(file): place.named(file) for file in files})
