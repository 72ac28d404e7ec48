"""The console of every command: it shows names and values as they are.

What it decides: that no text is rich's markup or an emoji's name, since entities, columns, files and folders stand in
it, and that what would act on a terminal is shown instead (see `shown_text`). All that a command prints goes through
one, on stdout as on stderr.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from lstm_core.shown_text import shown


class DataConsole(Console):
    """A console whose strings are data."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as it is shown, wherever it stands: printed by itself, as a title or in the cell of a table."""
        return super().render_str(shown(text), **options)
