"""Text that comes from outside (names of entities, columns, files; messages of others), made fit to be shown.

Decides which characters a terminal or a log must not be sent, since they would act there or hide what stands beside
them, and how they are spelt instead: as Python would. A byte that is no UTF-8 is half a character in Python, as
`os.fsdecode` makes it, and is spelt `\\xfc`. Whatever else a text holds is left as it is: brackets are no markup here.
"""

from __future__ import annotations

import re

from lstm_core.secret_text import masked

# C0, DEL and C1; marks and overrides of direction; separators of lines; characters that take no room; halves.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_HALVES = re.compile("[\ud800-\udfff]")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: str) -> str:
    """The text in one line, every character of which can be seen, and no secret (see `secret_text`)."""
    return _ACTING.sub(_spelt, masked(text))


def shown_lines(text: str) -> str:
    """The same of a text of several lines, as a log: its line ends and tabs stay, its colours are left out."""
    plain = _COLOURS.sub("", masked(text)).replace("\r\n", "\n")
    return _ACTING.sub(lambda found: found[0] if found[0] in "\n\t" else _spelt(found), plain)


def utf8(text: str) -> str:
    """The text with nothing changed but what is no UTF-8: for JSON and for columns of text."""
    return _HALVES.sub(_spelt, text)


def _spelt(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    named = f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return _NAMED.get(character, named)
