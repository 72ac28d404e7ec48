"""A store on a POSIX file system, local or mounted.

Durable means: the file is synced before it gets its name, and the folder after it. A file that must not replace another
gets its name by a hard link, which fails where there is one; so no name ever stands for half a file.

What is known of a failure: until a file gets its name nothing has changed; from then on nobody can tell, since a
mounted file system may do what it is asked and lose the answer. Only refusals that name a reason (no space, no
permission, read-only) are taken at their word.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault
from cluster.runtime.storage.filesystems import as_bytes
from cluster.runtime.storage.store import Output

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

READ_BYTES_MAX = 256 << 20  # of a file that is read whole: records, requests with their vocabularies
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EOPNOTSUPP}


class LocalStore:
    """Implements `Store` below a folder."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    @property
    def root(self) -> str:
        return str(self._root)

    @property
    def manner(self) -> str:
        return "by renames and hard links of a file system"

    def path(self, name: str) -> str:
        return str(self._root / name)

    def exists(self, name: str) -> bool:
        with faults(StoreFault, self._place(name), "looked for"):
            return self._place(name).exists()

    def list(self, folder: str) -> list[str]:
        place = self._folder(folder)
        absent = suppress(FileNotFoundError, NotADirectoryError)
        with faults(StoreFault, place, "listed"), absent, os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.is_file() and not is_temporary(entry.name))
        return []

    def read(self, name: str) -> bytes:
        with faults(StoreFault, self._place(name), "read"):
            return _content(self._place(name))

    def find(self, name: str) -> bytes | None:
        with faults(StoreFault, self._place(name), "read"), suppress(FileNotFoundError, NotADirectoryError):
            return _content(self._place(name))
        return None

    def modified_s(self, name: str) -> float:
        with faults(StoreFault, self._place(name), "looked at"):
            return self._place(name).stat().st_mtime

    def write(self, name: str, content: bytes) -> None:
        with self._written(self._place(name), content) as temporary:
            temporary.replace(self._place(name))

    def put_if_absent(self, name: str, content: bytes) -> bool:
        with self._written(self._place(name), content) as temporary:
            try:
                os.link(temporary, self._place(name))
            except FileExistsError:
                return False
        return True

    def open_output(self, name: str) -> Output:
        return _LocalOutput(self._place(name))

    def open_input(self, name: str) -> pa.NativeFile:
        with faults(StoreFault, self._place(name), "read"):
            with _opened(self._place(name)):
                pass  # it is a file: a pipe would be waited for
            return pa.OSFile(as_bytes(str(self._place(name))), "r")

    def publish(self, source: str, target: str) -> None:
        place = self._place(target)
        with faults(NotLanded, place, "published"):
            place.parent.mkdir(parents=True, exist_ok=True)
        with faults(MayHaveLanded, place, "published", REFUSALS):
            try:
                self._place(source).replace(place)
            except FileNotFoundError:
                # Done before: by whoever read the record first, or by a call whose answer was lost.
                if not place.exists():
                    raise NotLanded(
                        f"{place} is committed, but neither it nor {self._place(source)} is there: somebody has "
                        "removed it; score again with output.overwrite = true."
                    ) from None
        with faults(MayHaveLanded, place, "published"):
            sync_folder(place.parent)

    def remove(self, name: str) -> None:
        with (
            faults(MayHaveLanded, self._place(name), "removed", REFUSALS),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            self._place(name).unlink()

    def make_folder(self, folder: str) -> None:
        with faults(MayHaveLanded, self._folder(folder), "made", REFUSALS):
            self._folder(folder).mkdir(parents=True, exist_ok=True)

    def drop_folder(self, folder: str) -> None:
        place = self._folder(folder)
        with suppress(OSError):  # not empty, or not there
            while place.is_relative_to(self._root):
                place.rmdir()
                place = place.parent

    def sweep(self, folder: str) -> None:
        place = self._folder(folder)
        with faults(MayHaveLanded, place, "swept"), suppress(FileNotFoundError):
            for entry in list(place.iterdir()):
                if is_temporary(entry.name):
                    entry.unlink(missing_ok=True)

    def _folder(self, name: str) -> Path:
        """Where a folder is, itself no link either."""
        return self._place(f"{name}/x").parent if name else self._root

    def _place(self, name: str) -> Path:
        """Where a name is. Raises NotLanded where it leads out of the root: by its parts, or by a folder's link.

        Whoever else may write here could name files elsewhere so, for this run to read, overwrite or remove.
        """
        place = self._root
        for part in name.split("/") if name else ():
            if place != self._root and os.path.islink(place):
                raise NotLanded(
                    f"{place} is a link, but the folders of a run are its own: expected a folder; see what has put the "
                    "link there, and remove it or choose another output."
                )
            if part in ("", ".", ".."):
                raise NotLanded(f"{name!r} is no name of a file in {self._root}; see who else may write there.")
            place = place / part
        return place

    @contextmanager
    def _written(self, target: Path, content: bytes) -> Iterator[Path]:
        """A whole, synced file beside `target`, to be given that name in the block; the name is synced after it."""
        temporary = _beside(target)
        try:
            with faults(NotLanded, target, "written"):
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_synced(temporary, content)
            with faults(MayHaveLanded, target, "written", REFUSALS):
                yield temporary
            with faults(MayHaveLanded, target, "written"):
                sync_folder(target.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def faults(kind: type[StoreFault], path: Path | str, done: str, refusals: Container[int] = ()) -> Iterator[None]:
    """Translates what the operating system says: to `NotLanded` where it is one of `refusals`, else to `kind`."""
    try:
        yield
    except OSError as error:
        kind = NotLanded if error.errno in refusals else kind
        raise kind(
            f"{path} could not be {done} ({error.strerror or error}): mend the storage (space, permissions, "
            "connection); what is committed stays, and the same command resumes the run."
        ) from error


class _LocalOutput(Output):
    """A file beside `target`, which takes its name when it is closed."""

    def __init__(self, target: Path) -> None:
        self.closed = True  # until the file is there, there is nothing to abort
        self._target, self._temporary = target, _beside(target)
        with faults(NotLanded, target, "written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb")
        self.closed = False

    def write(self, content: ReadableBuffer, /) -> int:
        with faults(NotLanded, self._target, "written"):
            return self._file.write(content)

    def close(self) -> None:
        if self.closed:
            return
        try:
            with faults(NotLanded, self._target, "written"):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            with faults(MayHaveLanded, self._target, "written", REFUSALS):
                self._temporary.replace(self._target)
            with faults(MayHaveLanded, self._target, "written"):
                sync_folder(self._target.parent)
        finally:
            self.abort()

    def abort(self) -> None:
        if self.closed:
            return
        self.closed = True
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The descriptor of a plain file: what has no end, or waits for somebody to write, is not taken for one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        yield descriptor
    finally:
        os.close(descriptor)


def _content(path: Path) -> bytes:
    with _opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        content = file.read(READ_BYTES_MAX + 1)
        if len(content) > READ_BYTES_MAX:
            raise OSError(errno.EFBIG, f"it has more than {READ_BYTES_MAX >> 20} MiB, as no record of a run")
        return content


def _beside(target: Path) -> Path:
    """A name of its own in the target's folder, which no listing shows."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def is_temporary(name: str) -> bool:
    """True for a file that has not got its name yet."""
    return name.startswith(".") and name.endswith(".tmp")


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
