"""Which names below a given path are input: one rule for folders, globs and remote stores.

Decides that what begins with `_` or `.` is no part of the input, nor is anything below such a folder: there lie
`_temporary` files of a writer that died, the logs of tables, a run's own `_slotcar`. A folder such as `_day=7` is a
partition and stays one. A path that is given names what it names; so does a part of a pattern that spells the first
character itself. A wildcard stands for plain names only, and `**` for any number of plain folders.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Sequence

ANY_FOLDERS = "**"


def is_plain(name: str, *, folder: bool) -> bool:
    """Whether a name counts without being named."""
    return name[0] not in "_." or (folder and name[0] == "_" and "=" in name)


def before_magic(path: str) -> tuple[str, list[str]]:
    """The folder above the first part of a path that has a wildcard, and the parts from there on."""
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or "/", parts[first:]


def part_fits(name: str, part: str, *, folder: bool) -> bool:
    """Whether one part of a pattern, which is not `**`, names a file or folder."""
    if not glob.has_magic(part):
        return name == part
    return fnmatch.fnmatchcase(name, part) and (part[0] == name[0] or is_plain(name, folder=folder))


def fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts of a pattern name a file, or a folder above it from which only plain names lead to it.

    `names` are the folders above the file, from where the pattern begins, and the file itself.
    """
    if not parts:
        return all(is_plain(name, folder=at + 1 < len(names)) for at, name in enumerate(names))
    if not names:
        return False
    above = len(names) > 1
    if parts[0] == ANY_FOLDERS:
        inner = above and is_plain(names[0], folder=True) and fits(names[1:], parts)
        return inner or fits(names, parts[1:])
    return part_fits(names[0], parts[0], folder=above) and fits(names[1:], parts[1:])
