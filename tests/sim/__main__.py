"""`python -m tests.sim --count N`: plays seeds, says in one line what came of them, and how to see a failure again."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import zlib
from collections import Counter

from tests.sim.playing import play_all
from tests.sim.world import World


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where a seed failed."""
    options = _parse(arguments)
    if options.seed is not None:
        return _show(options.seed)
    seeds = range(options.start, options.start + options.count)
    begin, met, events, failed, digest = time.perf_counter(), Counter[str](), 0, 0, 0
    for seed, played, failure in play_all(seeds, options.jobs):
        if played is None:
            failed += 1
            print(f"seed {seed} failed: {failure.rstrip()}\n  again: python -m tests.sim --seed {seed}", flush=True)
            if failed >= options.failures:
                break
        else:
            met.update(played.met)
            events += played.events
            digest = zlib.crc32(played.trace.to_bytes(4, "big"), digest)
    spent = time.perf_counter() - begin
    rate = f"{len(seeds) / spent:.0f} seeds/s, {events} events in {spent:.1f} s"
    outcome = f"{failed or 'none'} failed; digest {digest:08x}; {rate}; met: {dict(sorted(met.items()))}"
    print(f"{len(seeds)} seeds from {options.start}: {outcome}")
    return 1 if failed else 0


def _show(seed: int) -> int:
    """One seed with its whole history."""
    world = World(seed)
    world.lines = []
    print(world.options)
    try:
        outcome = world.run()
    except Exception:
        print("\n".join(world.lines))
        traceback.print_exc()
        return 1
    print("\n".join(world.lines))
    print(outcome)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="seeds to play")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="play this one alone, and print its history")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
