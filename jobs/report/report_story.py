"""The timeline of a run as a story: sessions, what each replica did when, and how fast it all went.

What it decides: a run's time axis is its sessions one after the other, without the pauses between them, in seconds from
the first one's start; and what became of each attempt. It reads lines, and knows no layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from lstm_core.json_types import JsonObject

Fate = Literal["done", "lost", "given up", "open"]


@dataclass
class ReplicaAttempt:
    """One attempt at a shard."""

    shard: int
    attempt: int
    begin_s: float
    end_s: float
    fate: Fate = "open"
    rows: int = 0


@dataclass
class Lane:
    """The life of one replica."""

    name: str
    start_s: float
    ready_s: float | None = None
    lost_s: float | None = None
    cause: str = ""
    attempts: list[ReplicaAttempt] = field(default_factory=list)


@dataclass(frozen=True)
class Interval:
    """What one stretch of time brought."""

    begin_s: float
    end_s: float
    rows: int
    occupancy: float | None  # None where no step was done
    replicas: int

    @property
    def rows_per_s(self) -> float:
        """Rows in each second of it."""
        return self.rows / (self.end_s - self.begin_s)


@dataclass(frozen=True)
class Story:
    """All of it."""

    sessions: tuple[tuple[float, float], ...]  # begin and end
    lanes: tuple[Lane, ...]
    intervals: tuple[Interval, ...]

    @property
    def end_s(self) -> float:
        """The end of the time axis."""
        return self.sessions[-1][1] if self.sessions else 0.0

    def shard_s(self) -> dict[int, tuple[float, int]]:
        """Shard -> seconds from its last attempt's assignment to its last fragment, and its attempts."""
        found: dict[int, tuple[float, int]] = {}
        for attempt in sorted((one for lane in self.lanes for one in lane.attempts), key=lambda one: one.begin_s):
            count = found.get(attempt.shard, (0.0, 0))[1] + 1
            found[attempt.shard] = (attempt.end_s - attempt.begin_s, count)
        return found


def tell_story(lines: Sequence[JsonObject], slots: int) -> Story:
    """The story that the lines tell, of replicas with so many slots."""
    sessions, lanes, intervals, offset_s = [], [], [], 0.0
    numbers = sorted({line["session"] for line in lines})
    for number in numbers:
        own = [line for line in lines if line["session"] == number]
        began_s, ended_s = own[0]["at_s"], max(line["at_s"] for line in own)
        placed = [{**line, "at_s": line["at_s"] - began_s + offset_s} for line in own]
        end_s = offset_s + ended_s - began_s
        prefix = f"session {numbers.index(number) + 1}, " if len(numbers) > 1 else ""
        lanes += _lanes(placed, prefix, end_s)
        intervals += _intervals(placed, slots)
        sessions.append((offset_s, end_s))
        offset_s = end_s
    return Story(tuple(sessions), tuple(lanes), tuple(intervals))


def _lanes(lines: Iterable[JsonObject], prefix: str, end_s: float) -> list[Lane]:
    lanes: dict[int, Lane] = {}
    open_: dict[tuple[int, int], tuple[Lane, ReplicaAttempt]] = {}  # shard and attempt
    for line in lines:
        at_s, replica = line["at_s"], line.get("replica")
        match line["event"]:
            case "start":
                lanes[line["replica"]] = Lane(f"{prefix}replica {replica}", at_s)
            case "ready" if replica in lanes:
                lanes[replica].ready_s = at_s
            case "assign" if replica in lanes:
                made = ReplicaAttempt(line["shard"], line["attempt"], at_s, end_s)
                lanes[replica].attempts.append(made)
                open_[made.shard, made.attempt] = (lanes[replica], made)
            case "commit" if (line["shard"], line["attempt"]) in open_:
                _, attempt = open_[line["shard"], line["attempt"]]
                attempt.rows += line["rows"]
                if line["final"]:
                    attempt.end_s, attempt.fate = at_s, "done"
                    del open_[line["shard"], line["attempt"]]
            case "lost" if replica in lanes:
                lanes[replica].lost_s, lanes[replica].cause = at_s, line["cause"]
                for key in [key for key, (lane, _) in open_.items() if lane is lanes[replica]]:
                    attempt = open_.pop(key)[1]
                    attempt.end_s, attempt.fate = at_s, "lost"
            case "give_up":
                _mark_given_up(lanes.values(), line["shard"], line["attempt"])
    return list(lanes.values())


def _mark_given_up(lanes: Iterable[Lane], shard: int, number: int) -> None:
    for attempt in (one for lane in lanes for one in lane.attempts):
        if (attempt.shard, attempt.attempt) == (shard, number):
            attempt.fate = "given up"


def _intervals(lines: Iterable[JsonObject], slots: int) -> list[Interval]:
    samples = [line for line in lines if line["event"] == "sample"]
    return [_interval(one, other, slots) for one, other in pairwise(samples) if other["at_s"] > one["at_s"]]


def _interval(one: JsonObject, other: JsonObject, slots: int) -> Interval:
    steps = other["steps"] - one["steps"]
    busy = other["busy_slots"] - one["busy_slots"]
    occupancy = busy / (steps * slots) if steps > 0 and slots else None
    return Interval(one["at_s"], other["at_s"], max(other["rows"] - one["rows"], 0), occupancy, other["replicas"])
