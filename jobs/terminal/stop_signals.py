"""Signals that ask a run to stop, as an exception in the main thread.

SIGTERM and SIGINT raise `Stopped`, which is no `Exception`, so that no handler of faults mistakes it for one. Ray's
`init` installs a handler of its own for SIGTERM, which raises SystemExit(15): `as_stopped` knows it, and whoever starts
Ray may call `stop_on_signals` again.
"""

from __future__ import annotations

import signal
from types import FrameType

from lstm_core.exit_codes import EXIT_STOPPED


class Stopped(BaseException):
    """A signal asked the process to stop."""

    exit_code = EXIT_STOPPED

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(
            f"Stopped by {self.name}: give the same command again; a run goes on from what is committed, a training "
            "behind its last whole epoch, and all else begins anew."
        )


def stop_on_signals() -> None:
    """Makes SIGTERM and SIGINT raise `Stopped`; only the main thread may call it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def as_stopped(fault: BaseException) -> Stopped | None:
    """The stop that `fault` stands for, in its own shape, Python's or Ray's; None where it is something else."""
    if isinstance(fault, Stopped):
        return fault
    if isinstance(fault, KeyboardInterrupt):
        return Stopped(signal.SIGINT)
    if isinstance(fault, SystemExit) and fault.code == signal.SIGTERM:
        return Stopped(signal.SIGTERM)
    return None
