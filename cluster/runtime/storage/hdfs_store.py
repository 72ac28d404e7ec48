"""A store on HDFS, through pyarrow.fs.

A file is written under a name that no listing shows, and gets its own by a rename, which HDFS does at once for all who
look. What pyarrow makes of it decides the rest:
  - Its `move` of a file onto a file removes the target first, so neither is it atomic there nor does it refuse. A file
    that must not replace another is therefore moved *into its folder*, out of a folder of its own, under the name that
    it has already: HDFS refuses where the folder has that name, and pyarrow has nothing to remove.
  - A file that replaces another is whole under a second name, its successor's, before the first is removed; whoever
    finds no file under a name reads the successor. So a driver that dies between the two has lost nothing.
  - Its removal of a folder takes along what is in it, so folders stay, and one that holds no file counts as absent.
  - Its look at a file says "not there" also where nobody answered, so a file is absent only where opening it says so.

What is known of a failure: until a file gets its name nothing has changed; from then on only refusals that name a
reason are taken at their word. It was never run on a real HDFS, but on a file system that behaves like it and pyarrow.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.core.locations import Location, Options
from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault
from cluster.runtime.storage.filesystems import remote
from cluster.runtime.storage.local_store import REFUSALS, faults, is_temporary
from cluster.runtime.storage.store import Output

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NEXT = ".next"  # behind a file's name: its successor, whole, which has not got the name yet


class HdfsStore:
    """Implements `Store` below a folder."""

    def __init__(self, place: Location, options: Options) -> None:
        self._place = place
        with faults(StoreFault, place.url, "opened"):
            self._files = remote(place, options)

    @property
    def root(self) -> str:
        return self._place.url

    @property
    def manner(self) -> str:
        return "by renames of HDFS"

    def path(self, name: str) -> str:
        return self._place.below(name)

    def exists(self, name: str) -> bool:
        with faults(StoreFault, self.path(name), "looked for"):
            if self._files.get_file_info(self._full(name)).type == pafs.FileType.Directory:
                return any(self._whole_files(name)) or any(map(self.exists, self._folders(name)))
            return self._place_of(name) is not None

    def list(self, folder: str) -> list[str]:
        with faults(StoreFault, self.path(folder), "listed"):
            return sorted(set(self._whole_files(folder)))

    def read(self, name: str) -> bytes:
        content = self.find(name)
        if content is None:
            raise StoreFault(f"{self.path(name)} could not be read: there is no such file.")
        return content

    def find(self, name: str) -> bytes | None:
        with faults(StoreFault, self.path(name), "read"):
            file = self._opened(name)
            if file is None:
                return None
            with file:
                return bytes(file.read())

    def modified_s(self, name: str) -> float:
        with faults(StoreFault, self.path(name), "looked at"):
            for full in (self._full(name), _successor(self._full(name))):
                found = self._files.get_file_info(full)
                if found.type == pafs.FileType.File:
                    return float(found.mtime_ns or 0) / 1e9
        raise StoreFault(f"{self.path(name)} could not be looked at: there is no such file.")

    def write(self, name: str, content: bytes) -> None:
        with self.open_output(name) as file:
            file.write(content)

    def put_if_absent(self, name: str, content: bytes) -> bool:
        folder, base = posixpath.split(self._full(name))
        own = posixpath.join(folder, _temporary(base))
        source = posixpath.join(own, base)
        try:
            with faults(NotLanded, self.path(name), "written"):
                if self._place_of(name) is not None:
                    return False
                with self._files.open_output_stream(source) as file:
                    file.write(content)
            with faults(MayHaveLanded, self.path(name), "written", REFUSALS):
                return self._move_in(source, folder)
        finally:
            with suppress(OSError):
                self._files.delete_dir(own)

    def open_output(self, name: str) -> Output:
        return _HdfsOutput(self, name)

    def open_input(self, name: str) -> pa.NativeFile:
        with faults(StoreFault, self.path(name), "read"):
            file = self._opened(name)
        if file is None:
            raise StoreFault(f"{self.path(name)} could not be read: there is no such file.")
        return file

    def publish(self, source: str, target: str) -> None:
        with faults(NotLanded, self.path(target), "published"):
            self._files.create_dir(posixpath.dirname(self._full(target)))
        with faults(MayHaveLanded, self.path(target), "published", REFUSALS):
            place, there = self._place_of(source), self._place_of(target) is not None
            if place is None and not there:
                raise NotLanded(
                    f"{self.path(target)} is committed, but neither it nor {self.path(source)} is there: somebody has "
                    "removed it; score again with output.overwrite = true."
                )
            if there:  # from this source or another of the same content: what stands is not touched
                self.remove(source)
            elif place is not None:
                self._files.move(place, self._full(target))

    def remove(self, name: str) -> None:
        with faults(MayHaveLanded, self.path(name), "removed", REFUSALS):
            for full in (_successor(self._full(name)), self._full(name)):  # or the successor would take its place
                self._delete(full)

    def make_folder(self, folder: str) -> None:
        """A folder is made with its first file."""

    def drop_folder(self, folder: str) -> None:
        """Folders stay: removing one would take along what somebody has just written there."""

    def sweep(self, folder: str) -> None:
        with faults(MayHaveLanded, self.path(folder), "swept"):
            for entry in self._entries(folder):
                if entry.type == pafs.FileType.Directory and is_temporary(entry.base_name):
                    self._files.delete_dir(entry.path)
                elif is_temporary(entry.base_name):
                    self._delete(entry.path)

    def stream(self, name: str) -> tuple[str, pa.NativeFile]:
        """A file of its own beside a name, which no listing shows: its full path, and the stream to write it."""
        folder, base = posixpath.split(self._full(name))
        temporary = posixpath.join(folder, _temporary(base))
        return temporary, self._files.open_output_stream(temporary)

    def replace(self, temporary: str, name: str) -> None:
        """Gives a whole file a name that another may have."""
        full, successor = self._full(name), _successor(self._full(name))
        if not self._is_there(full) and self._is_there(successor):  # of a driver that died over it
            self._files.move(successor, full)
        if self._is_there(full):
            self._files.move(temporary, successor)
            temporary = successor
        self._files.move(temporary, full)

    def discard(self, temporary: str) -> None:
        """Removes a file that never got its name."""
        with suppress(OSError):
            self._delete(temporary)

    def _full(self, name: str) -> str:
        return posixpath.join(self._place.fs_path, name).rstrip("/") or "/"

    def _opened(self, name: str) -> pa.NativeFile | None:
        """A whole file, to be read; None where neither it nor a successor is there."""
        for one in _places(self._full(name)):
            with suppress(FileNotFoundError, NotADirectoryError):
                return self._files.open_input_file(one)
        return None

    def _place_of(self, name: str) -> str | None:
        """Where a whole file is; None where it is not."""
        return next((one for one in _places(self._full(name)) if self._is_there(one)), None)

    def _entries(self, folder: str) -> Iterator[pafs.FileInfo]:
        with suppress(FileNotFoundError, NotADirectoryError):
            if self._files.get_file_info(self._full(folder)).type != pafs.FileType.File:
                yield from self._files.get_file_info(pafs.FileSelector(self._full(folder)))

    def _whole_files(self, folder: str) -> Iterator[str]:
        for entry in self._entries(folder):
            base = entry.base_name
            if entry.type == pafs.FileType.File and not is_temporary(base):
                yield base[1 : -len(_NEXT)] if base.startswith(".") and base.endswith(_NEXT) else base

    def _folders(self, folder: str) -> Iterator[str]:
        for entry in self._entries(folder):
            if entry.type == pafs.FileType.Directory and not is_temporary(entry.base_name):
                yield posixpath.join(folder, entry.base_name)

    def _move_in(self, source: str, folder: str) -> bool:
        """Moves a file into a folder under its own name; False where there is one. Only a move takes the source away,
        so that it is there still, beside a file of its name, says that it was refused."""
        try:
            self._files.move(source, folder)
        except OSError:
            target = posixpath.join(folder, posixpath.basename(source))
            if self._is_file(source) and self._is_file(target):
                return False
            raise
        return True

    def _is_file(self, full: str) -> bool:
        return bool(self._files.get_file_info(full).type == pafs.FileType.File)

    def _delete(self, full: str) -> None:
        """Removes a file; an absent one is fine."""
        try:
            self._files.delete_file(full)
        except OSError:
            if self._is_there(full):
                raise

    def _is_there(self, full: str) -> bool:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._files.open_input_file(full).close()
            return True
        return False


class _HdfsOutput(Output):
    """A file under a name of its own, which takes the other when it is closed."""

    def __init__(self, store: HdfsStore, name: str) -> None:
        self.closed = True  # until the file is there, there is nothing to abort
        self._store, self._name = store, name
        with self._not_landed():
            self._temporary, self._stream = store.stream(name)
        self.closed = False

    def write(self, content: ReadableBuffer, /) -> int:
        with self._not_landed():
            return int(self._stream.write(content) or memoryview(content).nbytes)

    def close(self) -> None:
        if self.closed:
            return
        try:
            with self._not_landed():
                self._stream.close()
            with faults(MayHaveLanded, self._store.path(self._name), "written", REFUSALS):
                self._store.replace(self._temporary, self._name)
        except StoreFault:
            self.abort()
            raise
        self.closed = True

    def abort(self) -> None:
        if self.closed:
            return
        self.closed = True
        with suppress(OSError):
            self._stream.close()
        self._store.discard(self._temporary)

    @contextmanager
    def _not_landed(self) -> Iterator[None]:
        with faults(NotLanded, self._store.path(self._name), "written"):
            yield


def _temporary(base: str) -> str:
    return f".{base}.{secrets.token_hex(6)}.tmp"


def _successor(full: str) -> str:
    folder, base = posixpath.split(full)
    return posixpath.join(folder, f".{base}{_NEXT}")


def _places(full: str) -> tuple[str, str, str]:
    """Where to look for a file; twice under its name, for a successor that got it meanwhile."""
    return full, _successor(full), full
