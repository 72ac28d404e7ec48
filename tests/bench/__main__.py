"""`python -m tests.bench`: measures workloads and peers in one go, and prints a table of medians and ratios.

`--smoke` does it once on tiny sizes, all in this process, and prints the hash of the scores; it fails where a peer's
scores are others. `--gpu` says beside the table what the GPU does; see `tests.bench.gpu`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.bench import gpu, table
from tests.bench.alternate import Round, alternate
from tests.bench.compare import Disagreement
from tests.bench.machine import describe
from tests.bench.measure import SUBJECTS, Subject, missing, run_apart, run_here
from tests.bench.options import parsed, parser
from tests.bench.ray_peer import quiet_cluster
from tests.bench.task import Task, find_workload, model_file
from tests.bench.workloads import WORKLOADS, Workload, smoke, written

SMOKE = ("slotcar", "stateful", "stateless", "map_batches", "map_groups", "copy")


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where the subjects' scores differ, 2 where a GPU is asked for and there is none."""
    options = _parse(arguments)
    print("\n".join(describe()), flush=True)
    if options.gpu:
        seen = gpu.look()
        if sentence := gpu.refusal(seen, options.replicas):
            print(sentence, file=sys.stderr)
            return 2
        print(gpu.describe(seen), flush=True)
    rounds = []
    try:
        # In a smoke test all subjects share one cluster; each of them would start its own.
        with quiet_cluster(options.replicas) if options.smoke else contextlib.nullcontext():
            for workload in options.workloads:
                rounds.append(_play(workload, options))
                print("\n".join(table.lines(rounds[-1:])), flush=True)
    except Disagreement as fault:
        print(f"disagreement: {fault}")
        return 1
    _conclude(rounds)
    return 0


def _play(workload: Workload, options: argparse.Namespace) -> Round:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.cache) as folder:
        task = Task(
            workload=workload,
            input=written(workload, options.cache, night=int(workload.carry)),
            model=model_file(workload.units, options.cache),
            output=Path(folder),
            state=_state(workload, options) if workload.carry else None,
            replicas=options.replicas,
            gpus=1.0 if options.gpu else 0.0,
        )
        subjects = [subject for subject in options.subjects if _applies(subject, workload)]
        played = alternate(subjects, task, options.repeat, run_here if options.smoke else run_apart)
        if options.gpu:
            for line in gpu.report(task, run_apart, gpu.SWEEP_SMOKE if options.smoke else gpu.SWEEP):
                print(line, flush=True)
        return played


def _applies(subject: Subject, workload: Workload) -> bool:
    if lacking := missing(subject):
        print(f"{subject.name} is left out: {', '.join(lacking)} is not installed (extra `bench`)", file=sys.stderr)
    # Peers carry nothing from one run to the next; with carry-over only what could be compared is measured.
    return not lacking and not (workload.carry and subject.scores and not subject.name.startswith("slotcar"))


def _state(workload: Workload, options: argparse.Namespace) -> Path:
    """The carry-over of the night before, made once."""
    state: Path = options.cache / f"{workload.name}-{workload.identity()}-state"
    if not state.exists():
        before = options.cache / f"{workload.name}-before"
        model = model_file(workload.units, options.cache)
        task = Task(workload, written(workload, options.cache), model, before)
        (run_here if options.smoke else run_apart)(SUBJECTS["slotcar"], task)
        before.with_name(f"{before.name}-state").rename(state)
    return state


def _conclude(rounds: list[Round]) -> None:
    print("\nratios of medians:")
    for played in rounds:
        print("\n".join(f"  {line}" for line in table.ratios(played)))
    print("\n".join(f"scores of {played.task.workload.name}: {played.digest}" for played in rounds))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser("tests.bench", __doc__)
    made.add_argument("--workload", action="append", type=find_workload, metavar="NAME", help=", ".join(WORKLOADS))
    made.add_argument("--peer", action="append", choices=SUBJECTS, help="what to measure beside slotcar")
    made.set_defaults(replicas=None)  # 2, and with --gpu 1
    made.add_argument("--slots", type=int, help="of a replica; 256 unless told")
    made.add_argument("--chunk", type=int, help="timesteps of a step; 64 unless told")
    made.add_argument("--no-jit", action="store_true", help="model.jit = false: on a GPU the way to cuDNN")
    made.add_argument("--gpu", action="store_true", help="a GPU for each replica, one unless told, and what it does")
    made.add_argument("--smoke", action="store_true", help="once, on tiny sizes")
    options = parsed(made, arguments)
    options.replicas = options.replicas or (1 if options.gpu else 2)
    chosen = options.peer or (SMOKE if options.smoke else SUBJECTS)
    options.subjects = [SUBJECTS[name] for name in dict.fromkeys(["slotcar", *chosen])]
    options.workloads = options.workload or [WORKLOADS["SKEW" if options.smoke else "FULL"]]
    shape = {name: value for name in ("slots", "chunk") if (value := getattr(options, name))}
    options.workloads = [replace(workload, **shape, jit=not options.no_jit) for workload in options.workloads]
    if options.smoke:
        options.workloads, options.repeat = [smoke(workload) for workload in options.workloads], 1
    return options


if __name__ == "__main__":
    sys.exit(main())
