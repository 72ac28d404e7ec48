"""`python -m tests.bench.startup`: how long a run of 100,000 rows takes from its command to its end, beside its floor.

The floor is the sum of what no run can do without, each measured alone, in a process of its own: importing TensorFlow
and Keras, importing and starting Ray, and compiling the model once. They take turns with the run, which is a command
line of its own and ends with Ray stopped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.machine import describe
from tests.bench.measure import SUBJECTS, run_apart
from tests.bench.options import parsed, parser
from tests.bench.subjects.slotcar import configuration
from tests.bench.task import Task, model_file
from tests.bench.workloads import Workload, written

SMALL = Workload("SMALL", entities=100, mean_rows=1_000)
ENGINES = "import tensorflow, keras"
RAY = (
    "from cluster.core.settings import ClusterSettings; from cluster.runtime.fleet.ray_session import connected; "
    "there = connected(ClusterSettings(replicas=2)); there.__enter__()"
)
TIMED = "import os, time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"


def main(arguments: list[str] | None = None) -> int:
    """Prints the medians, and what the run takes beyond the floor."""
    options = parsed(parser("tests.bench.startup", __doc__), arguments)
    print("\n".join(describe()), flush=True)
    floor: dict[str, Callable[[Task], float]] = {
        "importing TensorFlow": lambda task: _timed(ENGINES),
        "starting Ray": _started_ray,
        "compiling once": lambda task: run_apart(SUBJECTS["step"], task).startup_s,
    }
    found: dict[str, list[float]] = {name: [] for name in [*floor, "run"]}
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory(prefix="startup-", dir=options.cache) as folder:
            task = _task(options, Path(folder, "out"))
            for name, measure in floor.items():
                found[name].append(measure(task))
            found["run"].append(_run(task))
    median = {name: statistics.median(seconds) for name, seconds in found.items()}
    for name, seconds in found.items():
        print(f"{name}: {median[name]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
    least = sum(median[name] for name in floor)
    print(f"the floor is {least:.2f} s; the run takes {median['run'] - least:.2f} s more")
    return 0


def _task(options: argparse.Namespace, output: Path) -> Task:
    model = model_file(SMALL.units, options.cache)
    return Task(SMALL, written(SMALL, options.cache), model, output, None, options.replicas)


def _run(task: Task) -> float:
    """Seconds from the command to its end."""
    config = task.output.with_suffix(".toml")
    config.write_text(configuration(task))
    begin = time.perf_counter()
    command = [sys.executable, "-m", "jobs", "score", str(config)]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    return time.perf_counter() - begin


def _started_ray(task: Task) -> float:
    """Seconds to start Ray as an embedded cluster is started; it is stopped by the end of the process that did."""
    ended = "there.__exit__(None, None, None)"
    return _timed(f"{RAY}; taken = time.perf_counter() - begin; {ended}; begin = time.perf_counter() - taken")


def _timed(code: str) -> float:
    ended = subprocess.run(
        [sys.executable, "-c", TIMED.format(code)], check=True, capture_output=True, text=True, env=_environment()
    )
    return float(ended.stdout.split()[-1])


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "3", "RAY_worker_niceness": "0"}


if __name__ == "__main__":
    sys.exit(main())
