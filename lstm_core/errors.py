"""The world's faults, as one clear sentence each.

A bug is an `assert`; everything that a user, a file or a cluster can do wrong is a `SlotcarError`. Its text says what,
what was expected, what was found, on which object, and what to do next. `exit_code` is the process's exit code for it.
"""

from __future__ import annotations

from lstm_core.exit_codes import EXIT_FAILED, EXIT_USAGE
from lstm_core.secret_text import masked


class SlotcarError(Exception):
    """A fault with a sentence for the user; never shown as a traceback."""

    exit_code = EXIT_FAILED

    def __init__(self, *parts: object) -> None:
        """A secret that a foreign text has brought into the sentence is masked, wherever the sentence will go."""
        super().__init__(*(masked(part) if isinstance(part, str) else part for part in parts))


class UsageError(SlotcarError):
    """Wrong usage, configuration, model or schema: nothing was started."""

    exit_code = EXIT_USAGE


class ModelRefused(UsageError):
    """The model cannot be scored in chunks, or does not fit the configuration."""
