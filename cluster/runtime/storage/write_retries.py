"""Writes that are done again until they have landed, at most `TRIES` times in all.

What it decides: a write of which nobody knows whether it was done is looked for before it is done again.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.run_errors import MayHaveLanded, NotLanded

TRIES = 3


def write_until_landed(act: Callable[[], None], landed: Callable[[], bool]) -> None:
    """Does what may be done again until it has landed; the last fault is raised."""
    for tries_left in reversed(range(TRIES)):
        try:
            return act()
        except MayHaveLanded:
            if landed():
                return None
            if not tries_left:
                raise
        except NotLanded:
            if not tries_left:
                raise
    return None
