"""What is wrong with a file of the input: the one place that turns pyarrow's errors about one into a sentence.

Decides which faults lie in a file's bytes (it is *damaged*, and so are its rows, wherever it is read), which in what
pyarrow can read at all (it is *unsupported*: encrypted, or of an unknown type, codec or encoding), and which on the way
to them, so that they may pass. A sentence says what the file is. Leaves what follows to its callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from cluster.core.locations import Options
from cluster.core.plan.inventory import UNREAD
from cluster.run_errors import (
    OVER_VALUES,
    InputBroken,
    InputDamaged,
    InputRefused,
    InputUnsupported,
    first_line,
    told,
)
from cluster.runtime.input.file_kinds import HEAD_BYTES, TAIL_BYTES, FileKind, kind_of
from cluster.runtime.storage.filesystems import open_file

_SERVICES = (
    "AWS Error",
    "HTTP",
    "curl",
    "CURL",
    "Azure",
    "GCS",
    "google::cloud",
    "HDFS",
    "libhdfs",
    "libjvm",
    "timed out",
)
_ENCRYPTED = ("encrypted", "Decrypt", "decrypt")
_UNKNOWN = (
    "Not yet implemented",
    "NotImplemented",
    "Unsupported",
    "not supported",
    "Unhandled",
    "Unrecognized",
    "Unknown encoding",
    "Invalid physical column type",
    "Support for codec",
)
_UNREAD = FileKind(UNREAD, "write it again or take it out of the input")


@contextmanager
def input_faults(path: str, storage: Options | None = None, place: Callable[[], str] = str) -> Iterator[None]:
    """Whatever goes wrong while reading `path` is raised with its name, and with what it is.

    As InputDamaged where its bytes are wrong, InputUnsupported where pyarrow reads no such file, else InputBroken.
    `place` is asked where damage lies; it goes on from "is damaged".
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputBroken(f"{path} is gone: it was there when the input was listed; start the run again.") from error
    except PermissionError as error:
        raise InputBroken(f"{path} may not be read by this user: allow it, then start the run again.") from error
    except (pa.ArrowException, OSError) as error:
        unsupported = why_unsupported(error)
        if unsupported is not None:
            raise InputUnsupported(f"{path} {unsupported}, then start the run again.") from error
        if not is_damage(error):
            raise InputBroken(f"{path} cannot be read ({first_line(error)}): start the run again.") from error
        raise _damaged(path, error, storage or {}, place) from error


@contextmanager
def value_faults(path: str) -> Iterator[None]:
    """What no check has foreseen of a file's values is raised as InputRefused with its name."""
    try:
        yield
    except OVER_VALUES as error:
        raise InputRefused(
            f"{path} holds a value that this run cannot work with ({told(error)}): write the columns that it reads "
            "with other types, or take the file out of the input."
        ) from error


def why_unsupported(error: BaseException) -> str | None:
    """What a file has that pyarrow cannot read, and what to do, to go on from its name; None for other faults."""
    text, service = str(error), is_of_service(error)
    if not service and any(word in text for word in _ENCRYPTED):
        return "is encrypted, and there is no key for it: write a copy that is not encrypted and name that"
    if isinstance(error, pa.ArrowNotImplementedError) or (not service and any(word in text for word in _UNKNOWN)):
        return (
            f"has something that pyarrow {pa.__version__} does not read ({first_line(error)}): write it with another "
            "type, codec or encoding, or take it out of the input"
        )
    return None


def is_damage(error: BaseException | None) -> bool:
    """Whether a fault of reading lies in the file's bytes, and not in the way to them.

    pyarrow raises OSError for both: without a number of the system, and naming no service, it is about the bytes.
    """
    if error is None or why_unsupported(error) is not None:
        return False
    if isinstance(error, pa.ArrowInvalid):
        return True
    return isinstance(error, OSError) and error.errno is None and not is_of_service(error)


def is_of_service(error: BaseException) -> bool:
    """Whether a remote store, or the way to it, is what an error speaks of."""
    return any(word in str(error) for word in _SERVICES)


def damaged(path: str, why: str) -> InputDamaged:
    """A file whose bytes are not what its footer says."""
    return InputDamaged(f"{path} {why}: {_UNREAD.remedy}, then start the run again.", what="is damaged")


def _damaged(path: str, error: BaseException, storage: Options, place: Callable[[], str]) -> InputDamaged:
    kind = _look(path, storage)
    why = "" if kind.certain else f"{place()} ({first_line(error)})"
    stray = kind.certain and "take it out" in kind.remedy and not path.endswith(".parquet")
    hint = " (an input.path that ends in **/*.parquet means only files of such a name)" if stray else ""
    return InputDamaged(f"{path} {kind.what}{why}: {kind.remedy}{hint}, then start the run again.", what=kind.what)


def _look(path: str, storage: Options) -> FileKind:
    """What the file is; `_UNREAD` where not even that can be seen."""
    try:
        with open_file(path, storage) as file:
            size = file.size()
            head = file.read(min(size, HEAD_BYTES))
            file.seek(max(size - TAIL_BYTES, 0))
            tail = file.read(min(size, TAIL_BYTES))
    except (OSError, pa.ArrowException):
        return _UNREAD
    return kind_of(head, tail, size)
