"""`slotcar guide [TOPIC]`: the guides that ship with the package, on the terminal.

Decides which topics there are and in which order a newcomer would read them, and how a guide is shown: rendered and
page by page on a terminal, as its plain Markdown elsewhere. A guide is read as it is: its first line is its title, the
paragraph below it says what it is good for.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from importlib import resources

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from jobs.config.toml_text import first_sentence
from jobs.terminal.result_text import reader_may_leave
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject
from lstm_core.nearest_name import nearest_hint

# In the order of reading: begin, use every night, run somewhere else, look something up.
TOPICS = (
    "first-hour",
    "models",
    "input",
    "output",
    "nights",
    "training",
    "serving",
    "clusters",
    "storage",
    "gpu",
    "operating",
    "audit",
    "speed",
    "guarantees",
    "trust",
    "configuration",
    "glossary",
    "state-saver",
)


@dataclass(frozen=True)
class Guide:
    """One guide; `text` is its Markdown."""

    topic: str
    title: str
    text: str

    @property
    def about(self) -> str:
        """What it is good for, in one sentence."""
        return first_sentence(self.text.split("\n\n")[1])

    def as_dict(self) -> JsonObject:
        """The guide as plain values, for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """The guide for a terminal; a link is shown with the file that it names, whose stem is a topic."""
        return Markdown(self.text, hyperlinks=False)


@dataclass(frozen=True)
class Topics:
    """All guides, as a list."""

    guides: tuple[Guide, ...]

    def as_dict(self) -> JsonObject:
        """The list without the texts, for JSON."""
        return {"topics": [{"topic": one.topic, "title": one.title, "about": one.about} for one in self.guides]}

    def render(self) -> RenderableType:
        """The list for a terminal. The sentences are shown as they stand: a bracket in them is no markup."""
        table = Table("topic", "good for", title="slotcar guide TOPIC", title_justify="left")
        table.columns[0].no_wrap = True  # a topic is typed as it stands, however narrow the terminal
        for one in self.guides:
            table.add_row(one.topic, Text(one.about))
        return table


def topics() -> Topics:
    """Every guide, in the order of reading."""
    return Topics(tuple(map(_read, TOPICS)))


def find(topic: str) -> Guide:
    """The guide on a topic, given by its name or its file's. Raises UsageError with the nearest topic."""
    name = topic.lower().removesuffix(".md")
    if name not in TOPICS:
        raise UsageError(f"There is no guide {topic!r}{nearest_hint(name, TOPICS, str)}: slotcar guide lists them all.")
    return _read(name)


def show(guide: Guide) -> None:
    """Shows a guide on stdout."""
    if not sys.stdout.isatty():
        with reader_may_leave():
            sys.stdout.write(guide.text)
        return
    os.environ.setdefault(
        "LESS", "-FRX"
    )  # else less, which is the pager where PAGER names none, shows colours as codes
    console = Console()
    with console.pager(styles=True):
        console.print(guide.render())


def _read(topic: str) -> Guide:
    text = resources.files("jobs").joinpath("guides", f"{topic}.md").read_text(encoding="utf-8")
    return Guide(topic, text.partition("\n")[0].removeprefix("# "), text)
