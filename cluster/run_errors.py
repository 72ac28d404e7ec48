"""Faults of a run on a cluster; see `lstm_core.errors` for the rules."""

from __future__ import annotations

import pyarrow as pa

from lstm_core.errors import SlotcarError, UsageError
from lstm_core.exit_codes import EXIT_QUARANTINE, EXIT_STOPPED
from lstm_core.json_types import JsonObject
from lstm_core.secret_text import masked


class InputRefused(UsageError):
    """The input's schema, keys or order do not fit the configuration."""


class OutputRefused(UsageError):
    """The output's folder holds something that this run must not touch."""


class ClusterRefused(UsageError):
    """The cluster cannot place what the configuration asks for."""


class InputUnsupported(InputRefused):
    """A file of the input has something that cannot be read: it is encrypted, or of an unknown type or codec."""


class RunFailed(SlotcarError):
    """The run stopped before its end; the same command resumes it, unless it would meet the same `again`."""

    again = False


class StoreFault(RunFailed):
    """The output's storage refused a call. A write raises one of the two below, never this."""


class NotLanded(StoreFault):
    """A write that changed nothing: it may simply be done again."""


class MayHaveLanded(StoreFault):
    """A write of which nobody knows whether it was done: remove nothing that it names, read back."""


class LockLost(RunFailed):
    """Another driver has taken the output over: this one must write nothing more."""


class JobStopped(RunFailed):
    """A job on a cluster was stopped before its run was done; the same call resumes it."""

    exit_code = EXIT_STOPPED


class WorkerLost(RunFailed):
    """A process or node that did some of the run's work is gone; the work itself is not to blame."""


class InputBroken(RunFailed):
    """A file of the input could not be read, or changed while the run went on."""


class InputDamaged(InputBroken):
    """A file of the input is there, but not what Parquet says: some of its bytes are wrong."""

    again = True

    def __init__(self, sentence: str, what: str = "is damaged") -> None:
        """`what` goes on from the file's name: what is known of it in a few words."""
        super().__init__(sentence, what)
        self.what = what

    def __str__(self) -> str:
        return str(self.args[0])


class InputUnfit(InputBroken):
    """The input has what this run, as it was asked for, must not or cannot score: it would meet that again."""

    again = True


class TooManyBadRows(SlotcarError):
    """Scored, but more rows in quarantine than allowed."""

    exit_code = EXIT_QUARANTINE

    def __init__(self, sentence: str, record: JsonObject | None = None) -> None:
        """`record` is the run.json of what was scored, where it is at hand."""
        super().__init__(sentence, record)
        self.record = record

    def __str__(self) -> str:
        return str(self.args[0])


class AuditFailed(SlotcarError):
    """A run's output is not what its records and its input say, or the run is not done."""


# What a library raises over a value that it cannot work with; a bug of ours is an AssertionError, and is none of them.
OVER_VALUES = (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError)


def told(error: BaseException) -> str:
    """A foreign error in a few words, for use in a sentence of ours: its kind and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of a foreign error's text, without its full stop and secrets, for use in a sentence of ours."""
    return masked((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))
