"""An object store in memory: the simulation's store, and the second implementation of `Store`.

`MemoryDisk` is what is stored; `MemoryStore` is one process's view of it, with a schedule of faults of its own. So two
drivers and any number of replicas share one disk and fail apart from each other. Like an object store it knows atomic
put, put-if-absent, copy and delete, and no rename: `publish` is a copy and a delete, and may stop between the two.

Large files are staged the way a replica does it: `stage` writes without a sync, `sync` makes durable, and `lose` is the
end of a node: what was not synced is gone, or torn. Nothing here draws a number or looks at a clock by itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault
from cluster.runtime.storage.store import Output
from tests.sim.faults import CALM, CRASHES, Call, Crash, Fault, Schedule

T = TypeVar("T")


@dataclass
class Stored:
    """One file."""

    content: bytes
    modified_s: float
    writer: int | None = None  # who staged it and has not synced it yet; None where it is durable


@dataclass
class MemoryDisk:
    """What every client sees: reads follow writes at once."""

    files: dict[str, Stored] = field(default_factory=dict)
    now_s: float = 0.0  # moved by the simulation
    in_flight: list[Callable[[], object]] = field(default_factory=list)  # writes that land later
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def deliver(self) -> None:
        """Lands the writes that are under way, in their order."""
        with self.mutex:
            landing, self.in_flight = self.in_flight, []
            for land in landing:
                land()

    def lose(self, chance: random.Random, writer: int | None = None) -> list[str]:
        """The node of a writer (of all where None) goes down; returns the names that were lost or torn."""
        with self.mutex:
            unsynced = [name for name, file in self.files.items() if file.writer is not None]
            struck = [name for name in unsynced if writer is None or self.files[name].writer == writer]
            for name in struck:
                self._lose(name, chance)
            return struck

    def _lose(self, name: str, chance: random.Random) -> None:
        file = self.files[name]
        if chance.random() < 0.5:
            del self.files[name]
        else:
            kept = chance.randrange(len(file.content) + 1)
            self.files[name] = Stored(file.content[:kept], file.modified_s)

    def put(self, name: str, content: bytes, writer: int | None = None) -> None:
        """Replaces a file."""
        with self.mutex:
            self.files[name] = Stored(content, self.now_s, writer)

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """False where there is one."""
        with self.mutex:
            if name in self.files:
                return False
            self.put(name, content)
            return True

    def copy(self, source: str, target: str) -> None:
        """Copies; a source that is gone is left to the caller's check."""
        with self.mutex:
            if source in self.files:
                self.put(target, self.files[source].content, self.files[source].writer)

    def delete(self, name: str) -> None:
        """Removes; an absent one is fine."""
        with self.mutex:
            self.files.pop(name, None)


class MemoryStore:
    """Implements `Store` on a disk that others may share. `calls` tells the history."""

    def __init__(self, disk: MemoryDisk | None = None, schedule: Schedule = CALM, *, writer: int = 0) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self.schedule = schedule
        self.writer = writer
        self.calls: list[Call] = []

    @property
    def root(self) -> str:
        return "memory:"

    @property
    def manner(self) -> str:
        return "by puts in memory"

    def path(self, name: str) -> str:
        return f"memory:/{name}"

    def exists(self, name: str) -> bool:
        self._look("exists", name)
        return name in self.disk.files or any(other.startswith(f"{name}/") for other in self.disk.files)

    def list(self, folder: str) -> list[str]:
        self._look("list", folder)
        prefix = f"{folder}/" if folder else ""
        below = [name.removeprefix(prefix) for name in self.disk.files if name.startswith(prefix)]
        return sorted(name for name in below if "/" not in name)

    def read(self, name: str) -> bytes:
        self._look("read", name)
        if name not in self.disk.files:
            raise StoreFault(f"{self.path(name)} could not be read: there is no such file.")
        return self.disk.files[name].content

    def find(self, name: str) -> bytes | None:
        self._look("find", name)
        return self.disk.files[name].content if name in self.disk.files else None

    def modified_s(self, name: str) -> float:
        self._look("modified_s", name)
        if name not in self.disk.files:
            raise StoreFault(f"{self.path(name)} could not be looked at: there is no such file.")
        return self.disk.files[name].modified_s

    def write(self, name: str, content: bytes) -> None:
        self._do("write", name, lambda: self.disk.put(name, content))

    def put_if_absent(self, name: str, content: bytes) -> bool:
        return self._do("put_if_absent", name, lambda: self.disk.put_if_absent(name, content))

    def open_output(self, name: str) -> Output:
        return _MemoryOutput(self, name)

    def open_input(self, name: str) -> Any:
        return pa.BufferReader(self.read(name))

    def publish(self, source: str, target: str) -> None:
        def copy() -> None:
            self.disk.copy(source, target)

        def copy_and_delete() -> None:
            copy()
            self.disk.delete(source)

        if source not in self.disk.files and target not in self.disk.files:
            raise NotLanded(f"{self.path(target)} is committed, but neither it nor {self.path(source)} is there.")
        self._do("publish", target, copy_and_delete, copy)

    def remove(self, name: str) -> None:
        self._do("remove", name, lambda: self.disk.delete(name))

    def make_folder(self, folder: str) -> None:
        """There are no folders."""

    def drop_folder(self, folder: str) -> None:
        """There are no folders."""

    def sweep(self, folder: str) -> None:
        """A put is whole or not there."""

    def stage(self, name: str, content: bytes) -> None:
        """Writes a large file, as a replica does, without making it durable."""
        self._do("stage", name, lambda: self.disk.put(name, content, self.writer))

    def sync(self, name: str) -> None:
        """Makes a staged file durable."""
        self._do("sync", name, lambda: self._sync(name))

    def _sync(self, name: str) -> None:
        with self.disk.mutex:
            if name in self.disk.files:
                self.disk.files[name].writer = None

    def _look(self, operation: str, name: str) -> None:
        fate = self._fate(operation, name)
        if fate in CRASHES:
            raise Crash(f"{operation} {name}")
        if fate is not None:
            raise StoreFault(f"{self.path(name)}: {operation} failed.")

    def _do(self, operation: str, name: str, act: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        fate = self._fate(operation, name)
        match fate:
            case None:
                return act()
            case Fault.REFUSED:
                raise NotLanded(f"{self.path(name)}: {operation} was refused.")
            case Fault.LATE:
                self.disk.in_flight.append(act)
            case Fault.HALF | Fault.CRASH_HALF:
                (half or act)()
            case Fault.LANDED | Fault.CRASH_AFTER:
                act()
        if fate in CRASHES:
            raise Crash(f"{operation} {name}")
        raise MayHaveLanded(f"{self.path(name)}: {operation} was not answered.")

    def _fate(self, operation: str, name: str) -> Fault | None:
        call = Call(len(self.calls), operation, name)
        self.calls.append(call)
        return self.schedule.fault(call)


class _MemoryOutput(Output):
    """Bytes that are put when they are whole."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._store, self._name, self._content = store, name, bytearray()

    def write(self, content: Any, /) -> int:
        self._content += content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._store.write(self._name, bytes(self._content))

    def abort(self) -> None:
        self.closed = True
