"""`python -m tests.fuzz --count N --seed S`: plays N seeds from S on, and says of each that fails what is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import write
from tests.fuzz.judge import Judge, Wrong


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="seeds to play")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--keep", type=Path, help="a folder in which the inputs of failed seeds stay")
    options = parser.parse_args(arguments)
    begin, met, failed = time.perf_counter(), Counter[str](), 0
    with Judge() as judge:
        for seed in range(options.seed, options.seed + options.count):
            why = _play(seed, judge, met, options.keep)
            failed += bool(why)
            if why:
                print(f"seed {seed} fails: {why}\n  add it to tests/fuzz/seeds.txt", flush=True)
    spent = time.perf_counter() - begin
    print(f"{options.count} seeds from {options.seed}, {options.count / spent:.1f} a second; met: {dict(met)}")
    return 1 if failed else 0


def _play(seed: int, judge: Judge, met: Counter[str], keep: Path | None) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) if keep is None else keep / str(seed)
        folder.mkdir(exist_ok=True, parents=True)
        case = write(seed, folder / "in")
        try:
            met[judge.of(folder)] += 1
        except Wrong as wrong:
            met["wrong"] += 1
            return f"{wrong}; {case.faults}, {case.options}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
