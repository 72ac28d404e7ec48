"""Whether what came of an input is right: scores that equal the truth, a quarantine that adds up, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fuzz.adder import WEIGHTS
from tests.fuzz.reading import Outcome
from tests.fuzz.witness import Found
from tests.harness.watched import Ended, Watched

CODES = (0, 1, 2)
TOLERANCE = 1e-4
ANSWER_S = 20  # for all that is done with an input
MEMORY_BYTES = 4 << 30  # hostile bytes ask for more


class Wrong(AssertionError):
    """What came of an input is not right."""


class Judge:
    """Two processes: one of the product, one of plain pyarrow."""

    def __init__(self) -> None:
        self.product = Watched("tests.fuzz.reading:read", ANSWER_S, ["pandas"], MEMORY_BYTES)
        self.witness = Watched("tests.fuzz.witness:look", ANSWER_S, ["pandas"], MEMORY_BYTES)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *raised: object) -> None:
        self.product.__exit__(None, None, None)
        self.witness.__exit__(None, None, None)

    def of(self, folder: Path, *, whole: bool = False) -> str:
        """What came of folder/in, in a word; `whole` inputs have no fault, and every row of theirs is scored or bad.

        Raises Wrong.
        """
        try:
            outcome: Outcome = self.product.ask(str(folder))
        except Ended as ended:
            raise Wrong(f"the process {ended}") from None
        if outcome.code:
            if whole:
                raise Wrong(f"refused: {outcome.sentence}")
            return _of_sentence(outcome)
        found: Found = self.witness.ask(str(folder / "in"))
        _add_up(outcome, found, whole=whole)
        return "scored" if outcome.rows[0] == outcome.rows[1] else "scored in part"


def _of_sentence(outcome: Outcome) -> str:
    if outcome.code not in CODES or not outcome.sentence.endswith(".") or len(outcome.sentence) < 30:
        raise Wrong(f"code {outcome.code} with {outcome.sentence!r}")
    if outcome.again == outcome.sentence:
        raise Wrong(f"the same command does not resume it: {outcome.sentence}")
    return f"code {outcome.code}"


def _add_up(outcome: Outcome, found: Found, *, whole: bool) -> None:
    rows_in, scored, quarantined, skipped = outcome.rows
    if rows_in != scored + quarantined + skipped or scored != len(outcome.scores):
        raise Wrong(f"{outcome.rows} rows do not add up, {len(outcome.scores)} are scored")
    if outcome.failures:
        raise Wrong(f"verify fails: {outcome.failures}")
    wanted = {sensor: _sums(rows) for sensor, rows in found.rows.items()}
    if whole and scored != sum(map(len, wanted.values())):
        raise Wrong(f"{scored} rows are scored, not {sum(map(len, wanted.values()))}")
    for sensor in dict.fromkeys(sensor for sensor, _, _ in outcome.scores):
        mine = [(n, score) for name, n, score in outcome.scores if name == sensor]
        truth = wanted.get(sensor, [])[: len(mine)]
        if [n for n, _ in mine] != [n for n, _ in truth]:
            raise Wrong(f"entity {sensor} has the rows {[n for n, _ in mine]}, expected {[n for n, _ in truth]}")
        gap = max(abs(ours - theirs) / (1 + abs(theirs)) for (_, ours), (_, theirs) in zip(mine, truth, strict=True))
        if not gap <= TOLERANCE:
            raise Wrong(f"entity {sensor} is off by {gap}; pyarrow cannot read {found.unreadable}")


def _sums(rows: list[tuple[object, int, int, int | None, float, float]]) -> list[tuple[int | None, float]]:
    """(number, score) of an entity's rows up to the first bad one."""
    total, sums = 0.0, []
    for _, _, _, n, a, b in sorted(rows, key=lambda row: row[:3]):  # type: ignore[arg-type]  # moments of one type
        if not np.isfinite([a, b]).all():
            break
        total += float(np.array([a, b]) @ WEIGHTS)
        sums.append((n, total))
    return sums
