"""What the product makes of an input, for a process that is watched: plan, score, report and audit."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.core.settings import ClusterSettings, InputSettings, OutputSettings, StepSettings
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import Truth, rescore
from cluster.runtime.commit.run_request import ScoreRequest, read_request
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.run.run import score
from cluster.runtime.storage.open_store import StoreSpec, open_store
from jobs.cli import exit_code
from jobs.commands.report import write_at_end
from tests.corpus.entry import texts_of
from tests.fuzz.adder import CHUNK, CONTRACT, SLOTS, adding, adding_again
from tests.harness.commands import quietly


@dataclass(frozen=True)
class Outcome:
    """What came of an input."""

    code: int
    sentence: str  # empty where it was scored
    again: str = ""  # what the same command says, where the sentence promises something of it
    rows: tuple[int, ...] = ()  # in, scored, quarantined, skipped
    scores: tuple[tuple[str, int | None, float], ...] = ()  # entity, number of the row, score, in the output's order
    failures: tuple[str, ...] = ()  # of the audit


def read(folder: str) -> Outcome:
    """The input below `folder`/in, scored into `folder`/out."""
    code, sentence = _scored(folder)
    if code:
        resumes = "same command" in sentence and "resumes" in sentence
        return Outcome(code, sentence, _scored(folder)[1] if resumes else "")
    output = Path(folder) / "out"
    return Outcome(0, "", "", _rows(output), tuple(_scores(output)), _failures(output))


def _scored(folder: str) -> tuple[int, str]:
    said = io.StringIO()
    with quietly(), redirect_stderr(said):
        code = exit_code(lambda: _score(folder))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("slotcar: ")]
    return code, lines[-1] if lines else ""


def _score(folder: str) -> int:
    settings = InputSettings(
        path=(f"{folder}/in",),
        entity=("sensor",),
        time=("t",),
        features=(("rows", ("a", "b")),),
        keep=("n",),
        chunk=CHUNK,
    )
    check_schema(settings, CONTRACT, list_files(settings))
    score(
        ScoreRequest(
            run_id="fuzz",
            identity="fuzz",
            run="0fuzz0",
            model=b"",
            contract=CONTRACT,
            input=settings,
            step=StepSettings(SLOTS, CHUNK),
            output=OutputSettings(path=f"{folder}/out", names=CONTRACT.score_names),
            cluster=ClusterSettings(replicas=1),
            quarantine_limit=1.0,
        ),
        open_cluster=adding,
        at_end=write_at_end,
    )
    return 0


def _rows(output: Path) -> tuple[int, ...]:
    import json

    run = json.loads((output / "_slotcar" / "run.json").read_text(encoding="utf-8"))
    return tuple(run[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped"))


def _scores(output: Path) -> list[tuple[str, int | None, float]]:
    found: list[Any] = []
    for path in sorted(output.glob("*.parquet")):
        table = pq.ParquetFile(path).read(["sensor", "n", "score"])
        columns = (texts_of(table.column("sensor")), table.column("n").to_pylist(), table.column("score").to_pylist())
        found += zip(*columns, strict=True)
    return found


def _failures(output: Path) -> tuple[str, ...]:
    spec = StoreSpec.named(str(output))
    store = open_store(spec)
    found = audit(store)
    request = read_request(store)
    assert request is not None, "a run keeps its request"
    again = rescore(found, store, Truth(request, CONTRACT, b"", spec), 20, adding_again)
    return tuple(f"{check.name}: {check.first}" for check in (*found.checks, again.check) if not check.holds)
