"""A store on a POSIX file system, local or mounted.

Durable means: the file is synced before its rename, and the folder after it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class LocalStore:
    """Implements `Store` below a folder."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    @property
    def root(self) -> str:
        return str(self._root)

    def path(self, name: str) -> str:
        return str(self._root / name)

    def exists(self, name: str) -> bool:
        return (self._root / name).exists()

    def list(self, folder: str) -> list[str]:
        place = self._root / folder
        return sorted(entry.name for entry in place.iterdir() if entry.is_file()) if place.is_dir() else []

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # The process id keeps two writers' temporary files apart; the rename decides which one stays.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)

    def rename(self, source: str, target: str) -> None:
        (self._root / source).replace(self._root / target)
        sync_folder((self._root / target).parent)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            (self._root / name).unlink()

    def make_folder(self, folder: str) -> None:
        (self._root / folder).mkdir(parents=True, exist_ok=True)


def sync_file(path: str) -> None:
    """Makes a closed file durable."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
