"""One door to storage: what a run needs of the place that its output lies in.

Two ways to finish a file exist. `rename` is atomic on POSIX file systems; a store without it would offer put-if-absent
and a server-side copy instead. Callers name paths relative to the store's root, with `/` between the parts.
"""

from __future__ import annotations

from typing import Protocol


class Store(Protocol):
    """A folder of a run's output."""

    @property
    def root(self) -> str:
        """Where it is, for sentences to the user."""

    def path(self, name: str) -> str:
        """The full path of a name."""

    def exists(self, name: str) -> bool:
        """True where there is a file or folder."""

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted; an absent folder has none."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file so that it is there whole or not at all, and durable when this returns."""

    def rename(self, source: str, target: str) -> None:
        """Moves a durable file, atomically, over `target` if that exists; durable when this returns."""

    def remove(self, name: str) -> None:
        """Removes a file; an absent one is fine."""

    def make_folder(self, folder: str) -> None:
        """Makes a folder and its parents; one that exists is fine. Object stores have nothing to do here."""
