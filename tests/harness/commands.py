"""A command of the program, run in the test's own process, which is left as it was: its signals and its log."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from jobs import cli

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def command(*arguments: str) -> int:
    """The code that `slotcar ARGUMENTS` ends with."""
    with quietly():
        return cli.exit_code(lambda: cli._command(arguments))


@contextmanager
def quietly() -> Iterator[None]:
    """What a command does to signals and to the log ends with it."""
    log, handlers = logging.getLogger("slotcar"), [signal.getsignal(number) for number in SIGNALS]
    kept = list(log.handlers), log.propagate, log.level
    try:
        yield
    finally:
        log.handlers[:], log.propagate, level = kept
        log.setLevel(level)
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
