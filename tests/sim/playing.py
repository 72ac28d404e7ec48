"""Plays seeds, in this process or in several. Not in `__main__`, whose functions another process cannot find."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterable, Iterator

from tests.sim.world import Outcome, World

Played = tuple[int, Outcome | None, str]  # seed, outcome, what failed


def play(seed: int) -> Played:
    """One seed."""
    try:
        return seed, World(seed).run(), ""
    except Exception as error:
        return seed, None, "".join(traceback.format_exception(error)[-4:])


def play_all(seeds: Iterable[int], jobs: int) -> Iterator[Played]:
    """The seeds in order, whoever plays them."""
    if jobs == 1:
        yield from map(play, seeds)
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap(play, seeds, chunksize=100)
