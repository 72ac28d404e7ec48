"""The code blocks of a Markdown text, what is said of them, and the words between them.

A block is what stands between two fences. A comment on the line before its first fence may say `file: NAME`, under
which the block is written to the folder of the guide, or `not run: REASON`. A shell block is split into commands as a
shell would split it, but nothing is expanded, so a block that needs a shell is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)\s*$")
_COMMENT = re.compile(r"^\s*<!-- (?P<kind>file|not run): (?P<said>.+) -->\s*$")
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", re.DOTALL)
_FOR_A_SHELL = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    line: int  # of the opening fence, from 1
    language: str  # empty where the fence names none
    text: str  # without the indentation of the fence
    file: str | None = None  # under which it is written
    not_run: str | None = None  # why it is not run


def blocks_of(text: str) -> list[Block]:
    """The blocks of a Markdown text, in order. Raises ValueError where one has no end."""
    return [block for _, block in _split(text) if block is not None]


def prose_of(text: str) -> str:
    """The lines outside of blocks and of the comments about them."""
    lines = (line for line, block in _split(text) if block is None)
    return "\n".join(line for line in lines if not _COMMENT.match(line))


def inline_code(text: str) -> list[str]:
    """What stands in single backticks outside of blocks, each on one line."""
    return [" ".join(found.split()) for found in _INLINE.findall(prose_of(text))]


def links_of(text: str) -> list[str]:
    """Where the links outside of blocks lead."""
    return [str(target) for target in _LINK.findall(prose_of(text))]


def anchors_of(text: str) -> set[str]:
    """The headings, as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands_of(text: str) -> list[list[str]]:
    """The commands of a shell block, as words. Raises ValueError for what only a shell would understand."""
    whole = re.sub(r"\\\n\s*", " ", text)
    found = [shlex.split(line, comments=True) for line in whole.splitlines()]
    for words in found:
        if _FOR_A_SHELL & set(words) or any("$" in word for word in words):
            raise ValueError(f"{shlex.join(words)!r} needs a shell: write plain commands, or mark the block as not run")
    return [words for words in found if words]


def _split(text: str) -> Iterator[tuple[str, Block | None]]:
    """Every line outside of a block, and every block once."""
    lines, at = text.split("\n"), 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            yield lines[at], None
            at += 1
            continue
        end = _end(lines, at, fence)
        yield "", _block(lines, at, end, fence)
        at = end + 1


def _end(lines: Sequence[str], at: int, fence: re.Match[str]) -> int:
    closing = fence["indent"] + fence["ticks"]
    for number in range(at + 1, len(lines)):
        if lines[number].rstrip() == closing:
            return number
    raise ValueError(f"the block that begins in line {at + 1} has no end")


def _block(lines: Sequence[str], at: int, end: int, fence: re.Match[str]) -> Block:
    indent = len(fence["indent"])
    text = "".join(f"{line[indent:]}\n" for line in lines[at + 1 : end])
    said = _COMMENT.match(lines[at - 1]) if at else None
    told = {said["kind"].replace(" ", "_"): said["said"]} if said else {}
    return Block(at + 1, fence["language"], text, **told)
