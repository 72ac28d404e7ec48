"""A process that answers one question after the other, and is watched: it may die or hang, and the test goes on.

`python -m tests.harness.watched FD MODULE:FUNCTION MEMORY [WITHOUT ...]` is the process: what comes through the pipe FD
is given to the function, and what that returns goes back. It may take MEMORY bytes of addresses, 0 for any, and finds
none of the modules WITHOUT, as if they were not installed. One that has died or hung is replaced at the next question.
"""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.paths import ROOT

STARTS_S = 120  # what its imports may take on a busy machine
LINES_SHOWN = 15


class Ended(AssertionError):
    """The process has not answered: it raised, died or hung."""


class Watched:
    """The other side of the pipe."""

    def __init__(self, function: str, timeout_s: float, without: Sequence[str] = (), memory_bytes: int = 0) -> None:
        """`function` is MODULE:FUNCTION; an answer may take `timeout_s`."""
        self._arguments, self._timeout_s = [function, str(memory_bytes), *without], timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._log.close()

    def ask(self, *question: Any) -> Any:
        """The answer. Raises Ended."""
        pipe = self._ready()
        try:
            pipe.send(question)
            if not pipe.poll(self._timeout_s):
                self._end()
                raise Ended(f"hangs: no answer after {self._timeout_s} s")
            answer, raised = pipe.recv()
        except (EOFError, OSError):
            assert self._process is not None, "it is running"
            code = self._process.wait()
            self._end()
            raise Ended(f"ended with code {code}: {self._said()}") from None
        if raised is not None:
            raise Ended(f"raises {raised}")
        return answer

    def _ready(self) -> Connection:
        if self._pipe is None:
            ours, theirs = Pipe()
            program = [sys.executable, "-m", "tests.harness.watched", str(theirs.fileno()), *self._arguments]
            self._log.truncate(0)
            self._process = subprocess.Popen(
                program,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # whatever it does to a terminal, it is not ours
            )
            theirs.close()
            self._pipe = ours
            if not ours.poll(STARTS_S):
                self._end()
                raise Ended(f"does not start: {self._said()}")
            try:
                ours.recv()
            except (EOFError, OSError):
                self._end()
                raise Ended(f"does not start: {self._said()}") from None
        return self._pipe

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _said(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LINES_SHOWN:])


class _Missing:
    """As if modules were not installed: the first that Python asks where one lies."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"no {name} in this process", name=name)


def _answer(fd: int, function: str) -> None:
    pipe = Connection(fd)
    module, _, name = function.partition(":")
    ask = getattr(importlib.import_module(module), name)
    pipe.send("ready")
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((ask(*question), None))
        except Exception as error:
            where = [
                f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
            ]
            what = "".join(traceback.format_exception_only(error)).strip()
            pipe.send((None, f"{what} ({' < '.join(reversed(where[-6:]))})"))


if __name__ == "__main__":
    if int(sys.argv[3]):
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[3])))
    sys.meta_path.insert(0, _Missing(sys.argv[4:]))
    _answer(int(sys.argv[1]), sys.argv[2])
