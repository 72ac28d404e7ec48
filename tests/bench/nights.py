"""`python -m tests.bench.nights`: what a short night costs, beside the run over the whole history before it.

One run over the history leaves its state; then a night with a share of the history's rows for every entity is scored
from it. A night's work should follow its rows and its entities, never the history. Both are measured in turn, and
beside them a night of one row, which costs what every run costs: starting on the first shard, and closing the output.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.machine import describe
from tests.bench.measure import SUBJECTS, run_apart
from tests.bench.options import parsed, parser
from tests.bench.task import Measured, Task, model_file
from tests.bench.workloads import Workload, written


def main(arguments: list[str] | None = None) -> int:
    """Prints work seconds and their ratio."""
    options = _parse(arguments)
    print("\n".join(describe()), flush=True)
    history = Workload("HISTORY", entities=options.entities, mean_rows=options.rows, carry=True)
    night = replace(history, name="SHORT", mean_rows=max(1, options.rows * options.percent // 100))
    least = replace(history, name="LEAST", entities=1, mean_rows=1, files=1)
    found: dict[str, list[Measured]] = {"history": [], "night": [], "one row": []}
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory(prefix="nights-", dir=options.cache) as folder:
            state = None
            for name, workload, number in (("history", history, 0), ("night", night, 30)):
                found[name].append(_score(workload, options, Path(folder) / name, number, state))
                state = Path(folder) / f"{name}-state"
            found["one row"].append(_score(least, options, Path(folder) / "least", 0, None))
    seconds = {name: statistics.median(one.work_s for one in runs) for name, runs in found.items()}
    for name, runs in found.items():
        peak = max(one.resident_bytes for one in runs) >> 20
        print(f"{name}: {runs[0].rows:,} rows, work {seconds[name]:.2f} s, peak {peak} MB")
    share, above = seconds["night"] / seconds["history"], seconds["night"] - seconds["one row"]
    print(f"ratio of work {share:.4f} for {options.percent} % of the rows", end="; ")
    print(f"{above / seconds['history']:.4f} above that of one row")
    return 0


def _score(workload: Workload, options: Any, output: Path, number: int, state: Path | None) -> Measured:
    model = model_file(workload.units, options.cache)
    task = Task(workload, written(workload, options.cache, night=number), model, output, state, options.replicas, 0.0)
    return run_apart(SUBJECTS["slotcar"], task)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser("tests.bench.nights", __doc__)
    made.add_argument("--entities", type=int, default=4_096)
    made.add_argument("--rows", type=int, default=10_000, help="rows of an entity's history")
    made.add_argument("--percent", type=int, default=1, help="rows of a night, of an entity's history")
    return parsed(made, arguments)


if __name__ == "__main__":
    sys.exit(main())
