"""What HDFS does, and what pyarrow makes of it, on a folder of this machine: no HDFS can run here.

As HDFS does: a rename refuses a target that is there, moves into a folder where the target is one, and is one step for
all who look; a file's parents are made with it. As `pyarrow.fs.HadoopFileSystem` does: `move` of a file onto a file
removes that one and renames again, `create_dir` is content with a folder that is there, `delete_dir` takes along what
is in it, and a look at a file says "not there" whenever it fails. Faults are planned for calls to come.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from cluster.runtime.storage import filesystems

HOST = "hdfs://namenode:8020"


@dataclass
class Planned:
    """What befalls the next call of a kind: something comes between, or an error, before or after it was done."""

    kind: str  # "rename", "delete", "mkdirs", "open" to read, "create", "list", "look"
    error: OSError | None = None
    part: str = ""  # of the path; of a rename, its target
    landed: bool = False
    meanwhile: Callable[[], object] = lambda: None


@dataclass
class Hadoop:
    """The name node: one lock, one folder, and the faults to come."""

    folder: Path
    planned: list[Planned] = field(default_factory=list)
    mutex: threading.RLock = field(default_factory=threading.RLock)
    calls_left: int | None = None  # after so many changes nobody answers any more

    def real(self, path: str) -> Path:
        """Where a path of HDFS lies here."""
        assert path.startswith("/"), path
        return self.folder / path.strip("/")

    def do(self, kind: str, path: str, act: Callable[[], Any]) -> Any:
        """One step for all who look, or a planned fault."""
        with self.mutex:
            self._answer(kind)
            plan = next((one for one in self.planned if one.kind == kind and one.part in path), None)
            if plan is None:
                return act()
            self.planned.remove(plan)
            plan.meanwhile()
            done = act() if plan.error is None or plan.landed else None
            if plan.error is not None:
                raise plan.error
            return done

    def _answer(self, kind: str) -> None:
        if self.calls_left == 0:
            raise OSError("HDFS call failed: connection refused")
        if self.calls_left is not None and kind in ("rename", "delete", "create"):
            self.calls_left -= 1

    def rename(self, source: str, target: str) -> None:
        """HDFS's own."""
        self.do("rename", target, lambda: self._rename(self.real(source), self.real(target)))

    def _rename(self, source: Path, target: Path) -> None:
        target = target / source.name if target.is_dir() else target
        if target.exists() or not source.exists() or not target.parent.is_dir():
            raise OSError("HDFS Rename failed")
        source.rename(target)


class Client(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Implements a file system of pyarrow."""

    def __init__(self, hadoop: Hadoop) -> None:
        self._hadoop = hadoop
        self._local = pafs.LocalFileSystem()

    def get_type_name(self) -> str:
        return "hdfs"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        base = selector.base_dir
        try:
            names = self._hadoop.do("list", base, lambda: sorted(os.listdir(self._hadoop.real(base))))
        except OSError:
            if selector.allow_not_found and self._info(base).type == pafs.FileType.NotFound:
                return []
            raise
        found = [self._info(f"{base.rstrip('/')}/{name}") for name in names]
        folders = [one.path for one in found if selector.recursive and one.type == pafs.FileType.Directory]
        return found + [info for path in folders for info in self.get_file_info_selector(_below(path))]

    def create_dir(self, path: str, recursive: bool) -> None:
        self._hadoop.do("mkdirs", path, lambda: self._hadoop.real(path).mkdir(parents=True, exist_ok=True))

    def delete_dir(self, path: str) -> None:
        self._hadoop.do("delete", path, lambda: shutil.rmtree(self._hadoop.real(path)))

    def delete_file(self, path: str) -> None:
        self._hadoop.do("delete", path, lambda: self._hadoop.real(path).unlink())

    def move(self, src: str, dest: str) -> None:
        try:
            self._hadoop.rename(src, dest)
        except OSError:
            if not (self._is_file(src) and self._is_file(dest)):
                raise
            self.delete_file(dest)
            self._hadoop.rename(src, dest)

    def open_input_file(self, path: str) -> Any:
        return self._hadoop.do("open", path, lambda: self._local.open_input_file(str(self._hadoop.real(path))))

    open_input_stream = open_input_file

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        def create() -> Any:
            self._hadoop.real(path).parent.mkdir(parents=True, exist_ok=True)
            return self._local.open_output_stream(str(self._hadoop.real(path)))

        return self._hadoop.do("create", path, create)

    def _info(self, path: str) -> Any:
        real = self._hadoop.real(path)
        try:
            found = self._hadoop.do("look", path, real.stat)
        except OSError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        kind = pafs.FileType.Directory if real.is_dir() else pafs.FileType.File
        return pafs.FileInfo(path, kind, size=found.st_size, mtime=found.st_mtime)

    def _is_file(self, path: str) -> bool:
        return bool(self._info(path).type == pafs.FileType.File)

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError


def _below(path: str) -> Any:
    return pafs.FileSelector(path, recursive=True)


@contextmanager
def hadoop(folder: Path) -> Iterator[Hadoop]:
    """In the block hdfs:// leads to a folder, in this process."""
    server = Hadoop(folder)

    def connect(host: str, port: int, **options: Any) -> Any:
        assert f"hdfs://{host}:{port}" == HOST
        return pafs.PyFileSystem(Client(server))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pafs, "HadoopFileSystem", connect)
        filesystems._remote.cache_clear()
        yield server
    filesystems._remote.cache_clear()
