"""A command of the program, run in the test's own process, which is left as it was: its signals and its log."""

from __future__ import annotations

import logging
import signal

from jobs import cli

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def command(*arguments: str) -> int:
    """The code that `slotcar ARGUMENTS` ends with."""
    log, handlers = logging.getLogger("slotcar"), [signal.getsignal(number) for number in SIGNALS]
    kept = list(log.handlers), log.propagate, log.level
    try:
        return cli.exit_code(lambda: cli._command(arguments))
    finally:
        log.handlers[:], log.propagate, level = kept
        log.setLevel(level)
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
