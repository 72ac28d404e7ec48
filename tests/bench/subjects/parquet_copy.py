"""Roofline: a plain Parquet copy, on two threads: the workload's columns in, the columns of its scores out.

What is written are the keys and one float per row, f0 in the place of the score; with carry-over also the state's
table, copied as it is. Files are taken one at a time by each thread.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

from tests.bench.task import Measured, Task

THREADS = 2


def run(task: Task) -> Measured:
    """Copies the workload."""
    task.output.mkdir(parents=True)
    state = sorted(task.state.glob("*.parquet")) if task.state else []
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        rows = sum(threads.map(lambda path: _copy(path, task.output), task.files))
        list(threads.map(lambda path: _copy_whole(path, task.output / f"state-{path.name}"), state))
    return Measured(time.perf_counter() - begin, rows)


def _copy(path: Path, output: Path) -> int:
    table = pq.read_table(path, use_threads=False)
    scores = table.select(["entity", "time", "f0"]).rename_columns(["entity", "time", "score"])
    pq.write_table(scores, output / path.name, compression="zstd")
    return int(table.num_rows)


def _copy_whole(path: Path, output: Path) -> None:
    table = pq.read_table(path, use_threads=False)
    # With a dictionary of states, no two of which are alike, a copy would take ten times as long.
    alike = [name for name in table.column_names if not name.startswith("state__")]
    pq.write_table(table, output, compression="zstd", use_dictionary=alike)
