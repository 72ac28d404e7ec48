"""Faults of a run on a cluster; see `lstm_core.errors` for the rules."""

from __future__ import annotations

from lstm_core.errors import EXIT_QUARANTINE, SlotcarError, UsageError


class InputRefused(UsageError):
    """The input's schema, keys or order do not fit the configuration."""


class OutputRefused(UsageError):
    """The output's folder holds something that this run must not touch."""


class ClusterRefused(UsageError):
    """The cluster cannot place what the configuration asks for."""


class RunFailed(SlotcarError):
    """The run stopped before its end; the same command resumes it."""


class InputBroken(RunFailed):
    """A file of the input could not be read, or changed while the run went on."""


class TooManyBadRows(SlotcarError):
    """Scored, but more rows in quarantine than allowed."""

    exit_code = EXIT_QUARANTINE
