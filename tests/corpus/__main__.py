"""`python -m tests.corpus [WORDS]`: goes the road of every entry whose name has the words, a line for each."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.corpus.entries import ENTRIES
from tests.corpus.road import Road, program, roads


def main(words: str) -> int:
    """Returns 1 where an entry fails."""
    all_roads = [*roads(ENTRIES), *roads(ENTRIES, seldom=True)]
    chosen = [(entry, order) for entry, order in all_roads if words in f"{entry.name}, {order}"]
    failed, started = 0, time.perf_counter()
    with program() as commands:
        for entry, order in chosen:
            begin, why = time.perf_counter(), ""
            with tempfile.TemporaryDirectory() as folder:
                try:
                    Road(entry, Path(folder), order, commands).go()
                except Exception as error:
                    why = "".join(traceback.format_exception_only(error)).strip().replace(folder, "...")
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    why = f"{why.splitlines()[-1][:300]} ({Path(where.filename).name}:{where.lineno})"
            failed += bool(why)
            print(
                f"{'FAILS' if why else 'holds'}  {time.perf_counter() - begin:4.1f} s  {entry.name}, {order}  {why}",
                flush=True,
            )
    print(f"{time.process_time():.0f} s of this process, {time.perf_counter() - started:.0f} s in all")
    print(f"{failed} of {len(chosen)} fail")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
