"""When a store's calls fail, and how: a schedule that is handed in, so that one seed reproduces every fault.

A schedule is asked before each call and names its fate. `CALM` has none; `FailAt` picks the n-th call, for every n in a
row; `Seeded` draws from a generator of its own until it is told that calm has come.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Fault(Enum):
    """What becomes of one call."""

    REFUSED = "nothing happens, and that is said"
    LOST = "nothing happens, and nobody knows"
    LANDED = "it is done, and nobody knows"
    HALF = "a publish has copied but not deleted, and nobody knows; any other call is as LANDED"
    LATE = "nobody knows; it is done when the disk delivers what is in flight"
    CRASH_BEFORE = "the process dies before it"
    CRASH_HALF = "the process dies in the middle, as HALF"
    CRASH_AFTER = "the process dies after it"


CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_HALF, Fault.CRASH_AFTER)
READS = ("exists", "list", "read", "find", "modified_s")


class Crash(BaseException):
    """The process that made the call is dead; no handler of faults may go on."""


@dataclass(frozen=True)
class Call:
    """One call of a store's client, before it happens."""

    number: int  # 0, 1, ... of this client
    operation: str
    name: str

    @property
    def writes(self) -> bool:
        """True where the call may change something."""
        return self.operation not in READS


class Schedule(Protocol):
    """Decides the fate of calls."""

    def fault(self, call: Call) -> Fault | None:
        """None lets it succeed."""


class Calm:
    """Every call succeeds."""

    def fault(self, call: Call) -> Fault | None:
        return None


CALM = Calm()


@dataclass
class FailAt:
    """One call fails: the n-th, of those of one operation where that is given."""

    number: int
    kind: Fault
    operation: str | None = None
    seen: int = 0
    struck: bool = False

    def fault(self, call: Call) -> Fault | None:
        if self.operation not in (None, call.operation):
            return None
        self.seen += 1
        if self.seen - 1 != self.number:
            return None
        self.struck = True
        return self.kind


@dataclass
class Seeded:
    """A share of the calls fails, each in one of `kinds`, until `calm` is set."""

    random: random.Random
    share: float
    kinds: Sequence[Fault] = tuple(Fault)
    operations: Collection[str] | None = None
    calm: bool = False

    def fault(self, call: Call) -> Fault | None:
        if self.calm or (self.operations is not None and call.operation not in self.operations):
            return None
        return self.random.choice(self.kinds) if self.random.random() < self.share else None
