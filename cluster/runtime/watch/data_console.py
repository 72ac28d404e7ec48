"""The console of every command: it shows names and values as they are.

What it decides: that no text is rich's markup or an emoji's name, since entities, columns, files and folders stand in
it, and that what would act on a terminal is shown instead (see `shown_text`). All that a command prints goes through
one, on stdout as on stderr. And that a reader who leaves, as `head` does, ends nothing: the rest goes nowhere.
"""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from lstm_core.shown_text import shown


class DataConsole(Console):
    """A console whose strings are data."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Says nothing more; rich would end the process here."""
        self.quiet = True
        send_nowhere(self.file.fileno())

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as it is shown, wherever it stands: printed by itself, as a title or in the cell of a table."""
        return super().render_str(shown(text), **options)


def send_nowhere(descriptor: int) -> None:
    """Drops what is written to a stream whose reader is gone, also what Python still flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
