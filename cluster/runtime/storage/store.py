"""One door to storage: what a run needs of the place that its output lies in.

The protocol asks for nothing that only a file system has. There is no rename: a file gets its last name by `publish`,
which a POSIX store does by an atomic rename and an object store by a server-side copy and a delete; and what must be
written by one writer only is written by `put_if_absent`, a link there and a conditional put here.

A write that fails says which of two things is known: `NotLanded`, nothing has changed; `MayHaveLanded`, nobody knows,
so delete nothing and read back. What is done about it is the caller's business; no store tries again by itself.
Callers name paths relative to the store's root, with `/` between the parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self, cast

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import ReadableBuffer


class Output(ABC):
    """A large file that is being written; pyarrow takes it for a file.

    Nothing stands under its name until `close`; from then on the file is whole and durable. As a context it is closed
    when the block ends and aborted where the block raises; one that is merely dropped is as if it was aborted.
    """

    closed = False

    @abstractmethod
    def write(self, content: ReadableBuffer, /) -> int:
        """Appends bytes; raises `NotLanded`."""

    @abstractmethod
    def close(self) -> None:
        """Gives the file its name; raises one of the two faults of a write, and then it is closed as well."""

    @abstractmethod
    def abort(self) -> None:
        """Drops what was written; never raises, and does nothing to a file that is closed."""

    def flush(self) -> None:  # noqa: B027  # pyarrow calls it; nothing is durable before `close`
        """Does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        self.abort()


def as_file(output: Output) -> IO[bytes]:
    """The same, for pyarrow: its stubs ask for all that a file has, itself for no more than an `Output` has."""
    return cast(IO[bytes], output)


class Store(Protocol):
    """A folder of a run's output. Every call may raise `StoreFault`; those that write, one of its two kinds."""

    @property
    def root(self) -> str:
        """Where it is, for sentences to the user."""

    @property
    def manner(self) -> str:
        """How files get their names here, for a run's log."""

    def path(self, name: str) -> str:
        """The full path of a name."""

    def exists(self, name: str) -> bool:
        """True where there is a file or folder."""

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted; an absent folder has none. Half-written files never show."""

    def read(self, name: str) -> bytes:
        """A whole file; an absent one is a fault."""

    def find(self, name: str) -> bytes | None:
        """A whole file, or None where there is none."""

    def modified_s(self, name: str) -> float:
        """When a file was last written, in seconds since 1970 by the store's own clock."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file so that it is there whole or not at all, and durable when this returns."""

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Like `write`, but only where there is no such file; False where there was one, which is left as it is."""

    def open_output(self, name: str) -> Output:
        """A large file to write, which replaces one that is there. Raises `NotLanded`."""

    def open_input(self, name: str) -> pa.NativeFile:
        """A large file to read, which seeks; to be closed. Reading raises OSError."""

    def publish(self, source: str, target: str) -> None:
        """Gives a durable file its last name, whole at once, and takes the first one away; durable when this returns.

        May be done again after any failure: where only the target is left there is nothing to do. Two sources of one
        target must have the same content. Raises `NotLanded` where neither is there.
        """

    def remove(self, name: str) -> None:
        """Removes a file; an absent one is fine."""

    def make_folder(self, folder: str) -> None:
        """Makes a folder and its parents; one that exists is fine. Object stores have nothing to do here."""

    def drop_folder(self, folder: str) -> None:
        """Removes a folder that holds nothing, and its parents up to the root that hold nothing then."""

    def sweep(self, folder: str) -> None:
        """Removes what writes that were cut off have left in a folder; only for whoever may write there alone."""
