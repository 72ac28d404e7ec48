"""When the replicas of a run begin: together, so far as they come at all.

What it decides: that a replica which has its model waits for those that have not, at most `PATIENCE_S`. One that goes
on alone takes the cores of its node from those that still compile, and with few long entities the run ends with them.
Only the first ones wait: whoever comes once others have begun is needed at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

PATIENCE_S = 1.0  # most that a run gives for it, however many replicas never find a place


class StartBarrier:
    """The waiting of one run's replicas."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s = math.inf  # no replica waits longer

    def may_begin(self, *, waiting: int, loading: int) -> bool:
        """Whether `waiting` replicas, which have their model, begin now, while `loading` have none yet."""
        now = self._clock()
        if waiting:
            self._until_s = min(self._until_s, now + PATIENCE_S)
        if not waiting or (loading and now < self._until_s):
            return False
        self._until_s = now
        return True

    def left_s(self) -> float:
        """Seconds until those that wait now begin without the others; call it while some do."""
        return max(0.0, self._until_s - self._clock())
