"""Which folders are a table's own: those that hold the metadata of one.

Decides by what lies in a folder that it is a Delta Lake, Iceberg, Hudi, Paimon or Lance table, and that all files below
it are the table's. Which of them count only its metadata say; the others hold rows that were deleted, corrected or
moved to another file. So whoever reads plain files looks at every folder above them, once. Of a folder whose content a
listing has shown nothing is asked; the others, which are the few above `input.path`, are asked about all at once, in a
store for those marks only that no listing of a path within the table could show.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.fs as pafs

from cluster.runtime.storage.filesystems import as_bytes

DELTA, ICEBERG, HUDI, PAIMON, LANCE = "Delta", "Iceberg", "Hudi", "Paimon", "Lance"
VERSION = re.compile(r"v?(\d+).*\.metadata\.json(\.gz)?")  # as Iceberg numbers its files of metadata


@dataclass(frozen=True)
class _Mark:
    """What lies in the folder of a table, and in no other."""

    kind: str
    name: str  # of a file, or of a folder where `inside` is given
    inside: re.Pattern[str] | None = None  # a file of the folder by which it is known
    certain: bool = False  # the folder's name says enough
    asked: bool = True  # worth a request to a store


_MARKS = (
    _Mark(DELTA, "_delta_log", re.compile(".*"), certain=True),
    _Mark(ICEBERG, "metadata", VERSION),
    _Mark(HUDI, ".hoodie/hoodie.properties"),
    _Mark(HUDI, ".hoodie_partition_metadata", asked=False),  # of each partition
    _Mark(PAIMON, "schema/schema-0"),
    _Mark(LANCE, "_versions", re.compile(r".*\.manifest"), asked=False),  # whose files are no Parquet anyway
)
_LOOKS_AT_ONCE = 16
_FIRST_NAMES = frozenset(mark.name.partition("/")[0] for mark in _MARKS)
_DENIED = re.compile(r"ACCESS_DENIED|AccessDenied|[Pp]ermission ?[Dd]enied|AuthorizationFailure|\b403\b")


@dataclass(frozen=True)
class TableRoot:
    """A table, and the folder that is its own."""

    folder: str  # as the filesystem names it
    kind: str


class TableRoots:
    """The tables of one filesystem, as far as somebody has asked."""

    def __init__(self, filesystem: pafs.FileSystem) -> None:
        self._filesystem, self._local = filesystem, isinstance(filesystem, pafs.LocalFileSystem)
        self._kinds: dict[str, str | None] = {}  # folder -> the kind of table that it is
        self._above: dict[str, TableRoot | None] = {}

    def saw_names(self, folder: str, names: Collection[str]) -> None:
        """The names of all that lies in a folder: most are no table's, as is seen from them."""
        if _FIRST_NAMES.isdisjoint(names):
            self._kinds[folder] = None

    def saw_files(self, base: str, files: Sequence[str]) -> None:
        """All files below a folder, and so all tables at it and below."""
        for folder in {posixpath.dirname(file) for file in files} | {base}:
            for outer in _upwards(folder):
                if outer in self._kinds or len(outer) < len(base):
                    break
                self._kinds[outer] = None
        self._kinds |= {root: kind for root, kind in _marked(files) if len(root) >= len(base)}
        self._above.pop(base, None)

    def above(self, folder: str) -> TableRoot | None:
        """The innermost table that a folder is or lies in, or None. Raises OSError."""
        unknown = []
        for outer in _upwards(folder):
            if outer in self._above:
                break
            unknown.append(outer)
        self._ask([outer for outer in unknown if outer not in self._kinds])
        for outer in reversed(unknown):
            kind, further = self._kinds[outer], self._above.get(posixpath.dirname(outer))
            # Each partition of a Hudi table has a mark of its own.
            inner = kind is not None and not (kind == HUDI and further is not None and further.kind == HUDI)
            self._above[outer] = TableRoot(outer, str(kind)) if inner else further
        return self._above[folder]

    def _ask(self, folders: Sequence[str]) -> None:
        self._kinds |= dict.fromkeys(folders)
        marks = [mark for mark in reversed(_MARKS) if self._local or mark.asked]  # the first one has the last word
        places = [(folder, mark) for folder in folders for mark in marks]
        for (folder, mark), found in zip(places, self._looks([_at(*place) for place in places]), strict=True):
            if found is not None and self._is_there(mark, found, _at(folder, mark)):
                self._kinds[folder] = mark.kind

    def _is_there(self, mark: _Mark, found: pafs.FileInfo, name: str) -> bool:
        if mark.inside is None:
            return bool(found.type == pafs.FileType.File)
        if found.type != pafs.FileType.Directory or mark.certain:
            return bool(found.type == pafs.FileType.Directory)
        inside = self._filesystem.get_file_info(pafs.FileSelector(as_bytes(name), allow_not_found=True))
        return any(mark.inside.fullmatch(file.base_name) for file in inside)

    def _looks(self, names: list[str]) -> list[pafs.FileInfo | None]:
        if self._local or not names:
            return list(map(self._look, names))
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="slotcar-look") as looks:
            return list(looks.map(self._look, names))

    def _look(self, name: str) -> pafs.FileInfo | None:
        """What is there; None for what may not be looked at, as a bucket's root where one may read a part of it."""
        try:
            return self._filesystem.get_file_info(as_bytes(name))
        except OSError as error:
            if isinstance(error, PermissionError) or _DENIED.search(str(error)):
                return None
            raise


def _at(folder: str, mark: _Mark) -> str:
    return f"{folder.rstrip('/')}/{mark.name}"


def _upwards(folder: str) -> Iterator[str]:
    """A folder and all above it, up to the bucket or the root."""
    while folder:
        yield folder
        above = posixpath.dirname(folder)
        folder = above if above != folder else ""


def _marked(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The folders that these files mark, and the kinds of tables that they are; what has the last word comes last."""
    found = []
    for file in files:
        folder, _, name = file.rpartition("/")
        root, _, last = folder.rpartition("/")
        if name in _FIRST_NAMES or last in _FIRST_NAMES:
            found += [_marks(folder, name, ""), _marks(root, last, name)]
    for mark in reversed(_MARKS):
        yield from ((root, mark.kind) for root, known in found if known is mark)


def _marks(root: str, name: str, inside: str) -> tuple[str, _Mark | None]:
    path = f"{name}/{inside}" if inside else name
    for mark in _MARKS:
        if mark.name == path or (mark.inside is not None and mark.name == name and mark.inside.fullmatch(inside)):
            return root, mark
    return root, None
