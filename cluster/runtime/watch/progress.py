"""The progress of a run, for the person who watches: one live line on a terminal, plain lines elsewhere.

It only shows; it decides nothing. Everything goes to stderr.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from rich.live import Live
from rich.text import Text

from cluster.runtime.watch.data_console import DataConsole
from lstm_core.shown_text import shown

PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 10.0
SINGULAR = {"stragglers": "straggler", "deaths": "death", "retries": "retry"}


@dataclass(frozen=True)
class Progress:
    """How far a run is. Counts of steps are of this session."""

    rows_done: int
    rows_total: int
    entities_done: int
    entities_total: int
    shards_done: int
    shards_total: int
    replicas: int  # that can step
    replicas_wanted: int
    slots: int  # of one replica
    slot_steps: int  # slots times steps, over all replicas
    slot_steps_busy: int  # of these, with an entity
    stragglers: int  # replicas whose steps take more than twice as long as most
    replica_deaths: int
    retries: int  # attempts beyond the first of their shard

    @property
    def occupancy(self) -> float:
        """Share of the session's slot-steps that carried an entity."""
        return self.slot_steps_busy / self.slot_steps if self.slot_steps else 0.0


def count_stragglers(step_s: Sequence[float]) -> int:
    """Of the mean step times of replicas those that are more than twice the median."""
    return sum(one > 2 * median(step_s) for one in step_s) if len(step_s) > 1 else 0


class ProgressRate:
    """What the newest seconds say: rows and slots per second, and so the time that is left."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, Progress]] = deque()

    def line(self, progress: Progress, now: float) -> str:
        """The progress at `now` seconds, in one line."""
        self._history.append((now, progress))
        while now - self._history[0][0] > RATE_WINDOW_S and len(self._history) > 2:
            self._history.popleft()
        then, before = self._history[0]
        rate = (progress.rows_done - before.rows_done) / (now - then) if now > then else 0.0
        parts = [
            f"rows {progress.rows_done:,}/{progress.rows_total:,}",
            f"shards {progress.shards_done:,}/{progress.shards_total:,}",
            f"entities {progress.entities_done:,}/{progress.entities_total:,}",
            f"{rate:,.0f} rows/s",
            f"replicas {progress.replicas:,}/{progress.replicas_wanted:,}",
            f"slots in use {self._slots_busy(before, progress):,}/{progress.slots * progress.replicas:,}",
            *_troubles(progress),
            f"{_span((progress.rows_total - progress.rows_done) / rate)} left" if rate else "time left unknown",
        ]
        return " · ".join(parts)

    def _slots_busy(self, before: Progress, progress: Progress) -> int:
        steps = progress.slot_steps - before.slot_steps
        busy = progress.slot_steps_busy - before.slot_steps_busy
        share = busy / steps if steps > 0 else progress.occupancy
        return round(share * progress.slots * progress.replicas)


class ProgressLine:
    """Shows the newest `Progress`."""

    def __init__(self, console: DataConsole, live: Live | None) -> None:
        self._console, self._live = console, live
        self._pace = ProgressRate()
        self._said_at = time.monotonic()
        self._said = ""

    def show(self, progress: Progress) -> None:
        """Moves the live line, or prints a plain one every few seconds."""
        now = time.monotonic()
        line = self._pace.line(progress, now)
        if self._live is not None:
            self._live.update(Text(shown(line)))
        elif now - self._said_at >= PLAIN_EVERY_S and line != self._said:
            self._said_at, self._said = now, line
            self._console.print(line, highlight=False)

    def say(self, text: str) -> None:
        """A plain line of its own."""
        self._console.print(text, highlight=False)


def _troubles(progress: Progress) -> list[str]:
    counts = {
        "stragglers": progress.stragglers,
        "deaths": progress.replica_deaths,
        "retries": progress.retries,
    }
    return [f"{count:,} {name if count > 1 else SINGULAR[name]}" for name, count in counts.items() if count]


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """A progress line for the length of a run."""
    console = DataConsole(stderr=True, soft_wrap=True)
    if not sys.stderr.isatty():
        yield ProgressLine(console, None)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield ProgressLine(console, live)
