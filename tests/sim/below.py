"""A store below a folder of another one: the place for carry-over, on the same disk and under the same faults."""

from __future__ import annotations

from typing import Any

from cluster.runtime.storage.store import Output
from tests.sim.memory_store import MemoryStore


class Below:
    """Implements `Store` by the calls of another, each name with the folder's before it."""

    def __init__(self, store: MemoryStore, folder: str) -> None:
        self._store, self._folder = store, folder

    def _named(self, name: str) -> str:
        return f"{self._folder}/{name}" if name else self._folder

    @property
    def root(self) -> str:
        return f"{self._store.root}{self._folder}"

    @property
    def manner(self) -> str:
        return self._store.manner

    def path(self, name: str) -> str:
        return self._store.path(self._named(name))

    def exists(self, name: str) -> bool:
        return self._store.exists(self._named(name))

    def list(self, folder: str) -> list[str]:
        return self._store.list(self._named(folder))

    def read(self, name: str) -> bytes:
        return self._store.read(self._named(name))

    def find(self, name: str) -> bytes | None:
        return self._store.find(self._named(name))

    def modified_s(self, name: str) -> float:
        return self._store.modified_s(self._named(name))

    def write(self, name: str, content: bytes) -> None:
        self._store.write(self._named(name), content)

    def put_if_absent(self, name: str, content: bytes) -> bool:
        return self._store.put_if_absent(self._named(name), content)

    def open_output(self, name: str) -> Output:
        return self._store.open_output(self._named(name))

    def open_input(self, name: str) -> Any:
        return self._store.open_input(self._named(name))

    def publish(self, source: str, target: str) -> None:
        self._store.publish(self._named(source), self._named(target))

    def remove(self, name: str) -> None:
        self._store.remove(self._named(name))

    def make_folder(self, folder: str) -> None:
        self._store.make_folder(self._named(folder))

    def drop_folder(self, folder: str) -> None:
        self._store.drop_folder(self._named(folder))

    def sweep(self, folder: str) -> None:
        self._store.sweep(self._named(folder))
