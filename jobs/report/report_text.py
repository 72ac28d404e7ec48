"""How text is put into the page: what would act in HTML is escaped, and what cannot be seen is spelt out."""

from __future__ import annotations

import html

from lstm_core.shown_text import shown


def escape(text: str) -> str:
    """The text as a page shows it, in an element or in an attribute."""
    return html.escape(shown(text))
