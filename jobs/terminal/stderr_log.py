"""Where the log goes: stderr, one line per transition of a run.

On a terminal, where the live line shows how a run goes, only what costs work is said; in a file, every transition with
the time of day. SLOTCAR_LOG in the environment (DEBUG, INFO, WARNING, ERROR) overrides both.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lstm_core.shown_text import shown


class _Shown(logging.Formatter):
    """One line for each message, whatever data stand in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = shown(record.message)
        return super().formatMessage(record)


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment: a live line moves below it.

    Who reads it may leave, and no run ends by that.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(BrokenPipeError):
            print(self.format(record), file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Sends the log to stderr; a second call changes nothing."""
    log = logging.getLogger("slotcar")
    if any(isinstance(handler, _Stderr) for handler in log.handlers):
        return
    handler = _Stderr()
    handler.setFormatter(_Shown("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.propagate = False
    wanted = os.environ.get("SLOTCAR_LOG", "").upper()
    level = logging.getLevelNamesMapping().get(wanted, logging.WARNING if sys.stderr.isatty() else logging.INFO)
    log.setLevel(level)


@contextmanager
def native_log_dropped() -> Iterator[None]:
    """Drops what libraries in C++ write to the process's stderr by themselves: TensorFlow does, whatever its level.

    What Python raises is raised; what it prints to stderr meanwhile is dropped too.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
