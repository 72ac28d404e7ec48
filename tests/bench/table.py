"""The table of a round, in Markdown, and the ratios that are promised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.alternate import Outcome, Round
from tests.bench.subjects.parquet_copy import THREADS as COPY_THREADS

HEAD = (
    "| workload | subject | work_s, median (least to most) | M rows/s | x slotcar | total_s | GB | largest difference |"
)


def lines(rounds: Sequence[Round]) -> Iterator[str]:
    """The table: a line per workload and subject."""
    yield HEAD
    yield "| --- " * (HEAD.count("|") - 1) + "|"
    for played in rounds:
        for outcome in played.outcomes.values():
            yield _line(played, outcome)


def _line(played: Round, outcome: Outcome) -> str:
    ours = played.outcomes.get("slotcar")
    work = [run.work_s for run in outcome.runs]
    cells = [
        played.task.workload.name,
        outcome.subject.name,
        f"{outcome.work_s:.2f} ({min(work):.2f} to {max(work):.2f})",
        f"{outcome.rows_per_s / 1e6:.3f}",
        f"{ours.rows_per_s / outcome.rows_per_s:.2f}" if ours else "",
        f"{outcome.median(lambda run: run.total_s):.1f}" if outcome.subject.scores else "",
        f"{max(run.resident_bytes for run in outcome.runs) / 1e9:.2f}" if outcome.subject.scores else "",
        "" if outcome.difference is None else f"{outcome.difference:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def ratios(played: Round) -> Iterator[str]:
    """What the promises are about: our rate over that of others, and their own limits."""
    rates = {name: outcome.rows_per_s for name, outcome in played.outcomes.items()}
    ours, name = rates.get("slotcar"), played.task.workload.name
    if ours is None:
        return
    for peers, what in (
        (("stateful", "stateless"), "the best single process"),
        (("map_batches", "map_groups"), "the best of Ray Data"),
        (("map_groups",), "map_groups"),
        (("copy",), "a plain Parquet copy"),
        (("slotcar-1",), "one replica on one core"),
    ):
        known = [rates[peer] for peer in peers if peer in rates]
        if known:
            yield f"{name}: {ours / max(known):.2f} times {what}"
    if "step" in rates:
        yield f"{name}: {ours / (played.task.replicas * rates['step']):.2f} of {played.task.replicas} steps alone"
    if played.task.workload.carry and {"step", "copy"} <= rates.keys():
        yield f"{name}: {_beyond_us(played):.1f} us of a core per entity beyond the step and the copy"
    if {"own-step", "onnx"} <= rates.keys():
        yield f"{name}: our step alone is {rates['own-step'] / rates['onnx']:.2f} times ONNX Runtime's LSTM"


def _beyond_us(played: Round) -> float:
    """Core time per entity that is neither the model nor a plain copy of rows and states, all cores counted as busy."""
    ours, step, copy = (played.outcomes[name] for name in ("slotcar", "step", "copy"))
    rows = ours.runs[0].rows
    beyond_s = ours.work_s * played.task.replicas - rows / step.rows_per_s - copy.work_s * COPY_THREADS
    return beyond_s / played.task.workload.entities * 1e6
