"""The lock on an output, as data: who may write, and when a newcomer may take over.

A claim is a file under a number that only grows, written put-if-absent; the highest number holds. Its holder rewrites a
beat every `HEARTBEAT_S`. A newcomer never compares its clock with the holder's: it watches the beat, by its own clock.
  - Nobody ever claimed, or the last claim is released, or its process is known to be gone: take the next number.
  - The beat changes: refuse.
  - The beat does not change for `STALE_S`: take the next number.
A holder that was only paused finds the higher number before its next write, and stops: the number is the fence.

What it leaves alone: files, clocks, threads and processes; see `runtime.commit.lock`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

LOCK = "_slotcar/lock"
_CLAIM, _OF_A_CLAIM = re.compile(r"\d{1,12}\.json"), re.compile(r"\d{1,12}\.(json|beat)")
HEARTBEAT_S = 5.0
STALE_S = 20.0


@dataclass(frozen=True)
class Holder:
    """A driver's process."""

    host: str
    machine: (
        str  # what tells apart machines, their boots and their containers; a process number means nothing elsewhere
    )
    pid: int
    began: str  # when the process began, by its kernel: a number that is used again is another process
    run_id: str
    session: str  # drawn for each claim, so that a holder knows its own again
    since: str  # ISO time of the holder's own clock, for people


@dataclass(frozen=True)
class Claim:
    """One number's claim."""

    number: int
    holder: Holder
    released_at: str | None = None

    def to_json(self) -> bytes:
        """The claim's file."""
        return json.dumps(asdict(self), indent=1).encode()

    @staticmethod
    def from_json(text: bytes) -> Claim:
        """Reads a claim back. Raises ValueError where it is none."""
        values = json.loads(text)
        try:
            claim = Claim(**{**values, "holder": Holder(**values["holder"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"it is no claim of a driver: {error}") from None
        wrong = [
            name for name, value in asdict(claim.holder).items() if type(value) is not (int if name == "pid" else str)
        ]
        if wrong or type(claim.number) is not int or not isinstance(claim.released_at, str | None):
            raise ValueError(f"it is no claim of a driver: {', '.join(wrong) or 'number'} has another type")
        return claim

    def released(self, at: str) -> Claim:
        """The claim of a holder that has left."""
        return replace(self, released_at=at)

    def says(self) -> str:
        """Who holds it, for a sentence."""
        return f"process {self.holder.pid} on {self.holder.host}, since {self.holder.since}"


def claim_name(number: int) -> str:
    """Path of a claim below the output."""
    return f"{LOCK}/{number:08d}.json"


def beat_name(number: int) -> str:
    """Path of a claim's beat below the output."""
    return f"{LOCK}/{number:08d}.beat"


def highest(names: Iterable[str]) -> int:
    """The number that holds, from a listing of LOCK; 0 where nobody ever claimed."""
    return max((int(name.removesuffix(".json")) for name in names if _CLAIM.fullmatch(name)), default=0)


def outdated(names: Iterable[str], number: int) -> list[str]:
    """Files of LOCK, by their paths below the output, that mean nothing once `number` holds."""
    numbers = {name: int(name.partition(".")[0]) for name in names if _OF_A_CLAIM.fullmatch(name)}
    return [f"{LOCK}/{name}" for name, own in numbers.items() if own < number]


@dataclass(frozen=True)
class Sight:
    """What a newcomer sees at one moment."""

    claim: Claim | None  # of the highest number
    beat: bytes | None
    now_s: float  # by the newcomer's own clock
    holder_gone: bool = False  # known for certain: its process ran on this machine and is no more


@dataclass(frozen=True)
class Take:
    """Claim this number."""

    number: int


@dataclass(frozen=True)
class Wait:
    """Look again."""


@dataclass(frozen=True)
class Refuse:
    """Somebody else is at work."""

    claim: Claim


class Newcomer:
    """Decides on what it has seen so far. Invariant: `_first` shows the newest claim that is neither free nor dead."""

    def __init__(self) -> None:
        self._first: Sight | None = None

    def look(self, sight: Sight) -> Take | Wait | Refuse:
        """What to do now."""
        claim = sight.claim
        if claim is None:
            return Take(1)
        if claim.released_at is not None or sight.holder_gone:
            return Take(claim.number + 1)
        first = self._first
        if first is None or first.claim is None or first.claim.number != claim.number:
            self._first = sight
            return Wait()
        if sight.beat is not None and sight.beat != first.beat:
            return Refuse(claim)
        return Take(claim.number + 1) if sight.now_s - first.now_s >= STALE_S else Wait()
