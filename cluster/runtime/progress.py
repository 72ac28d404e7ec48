"""The progress of a run, for the person who watches: one live line on a terminal, plain lines elsewhere.

It only shows; it decides nothing. Everything goes to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 10.0


@dataclass(frozen=True)
class Progress:
    """What the line says."""

    rows_done: int
    rows_total: int
    entities_done: int
    entities_total: int
    occupancy: float
    replicas: int


class ProgressLine:
    """Shows the newest `Progress`."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live
        self._history: list[tuple[float, int]] = []
        self._said_at = time.monotonic()
        self._said = ""

    def show(self, progress: Progress) -> None:
        """Moves the live line, or prints a plain one every few seconds."""
        now = time.monotonic()
        line = self._line(progress, now)
        if self._live is not None:
            self._live.update(Text(line))
        elif now - self._said_at >= PLAIN_EVERY_S and line != self._said:
            self._said_at, self._said = now, line
            self._console.print(line, highlight=False)

    def say(self, text: str) -> None:
        """A plain line of its own."""
        self._console.print(text, highlight=False)

    def _line(self, progress: Progress, now: float) -> str:
        self._history.append((now, progress.rows_done))
        while now - self._history[0][0] > RATE_WINDOW_S and len(self._history) > 2:
            self._history.pop(0)
        then, before = self._history[0]
        seconds = now - then
        rate = (progress.rows_done - before) / seconds if seconds > 0 else 0.0
        left = f"{(progress.rows_total - progress.rows_done) / rate:,.0f} s left" if rate else "time left unknown"
        return (
            f"rows {progress.rows_done:,}/{progress.rows_total:,} · entities {progress.entities_done:,}/"
            f"{progress.entities_total:,} · {rate:,.0f} rows/s · slot occupancy {progress.occupancy:.1%} · "
            f"{progress.replicas} replicas · {left}"
        )


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """A progress line for the length of a run."""
    console = Console(stderr=True, soft_wrap=True)
    if not sys.stderr.isatty():
        yield ProgressLine(console, None)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield ProgressLine(console, live)
