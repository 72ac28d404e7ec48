"""`slotcar verify OUTPUT`: the audit of a run, from its output and its input alone.

A report says of every check what was looked at and what does not hold; the process ends with 0 only when all of it
holds and the run is done. With `--rescore N` the model scores N entities again, each alone and unchunked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from cluster.core.audit import MEANINGS, Check
from cluster.run_errors import AuditFailed
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import Rescored, find_truth, rescore
from cluster.runtime.audit.rescore_actor import OpenRescore, ray_rescore
from cluster.runtime.audit.trust import NOTHING_NAMED, Trust
from cluster.runtime.commit.run_json import only_looking
from cluster.runtime.storage.open_store import StoreSpec, open_store
from jobs.config.configuration import Config
from lstm_core.contract.custom_code import CustomCode
from lstm_core.json_types import JsonObject


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    output: str
    run_id: str
    status: str  # run.json's
    checks: tuple[Check, ...]
    rescored: tuple[Rescored, ...]

    @property
    def holds(self) -> bool:
        """True where every check does, and so the run is done."""
        return all(check.holds for check in self.checks)

    @property
    def difference(self) -> float | None:
        """The largest difference between a committed score and the same one made alone and unchunked."""
        return max((entity.difference for entity in self.rescored), default=None)

    def as_dict(self) -> JsonObject:
        """The report as plain values, for JSON."""
        found: JsonObject = {"output": self.output, "run_id": self.run_id, "status": self.status}
        found |= {"holds": self.holds, "checks": [{**asdict(check), "holds": check.holds} for check in self.checks]}
        if self.rescored:
            entities = [asdict(one) | {"difference": _finite(one.difference)} for one in self.rescored]
            found |= {"difference": _finite(self.difference), "rescored": entities}
        return found

    def render(self) -> RenderableType:
        """The report as tables for a terminal."""
        verdict = "everything holds" if self.holds else "not everything holds"
        table = Table(title=f"{self.output}, run {self.run_id}: {verdict}", title_justify="left")
        for name in ("check", "that", "looked at", "found"):
            table.add_column(name, justify="right" if name == "looked at" else "left")
        for check in self.checks:
            found = "holds" if check.holds else f"{check.failures:,} fail, the first: {check.first}"
            table.add_row(check.name, check.meaning, f"{check.counted:,}", found)
        return Group(table, *self._truth())

    def sentence(self) -> str:
        """What the first check that does not hold found."""
        first = next(check for check in self.checks if not check.holds)
        others = [check.name for check in self.checks if not check.holds and check is not first]
        more = f" (and these checks fail too: {', '.join(others)})" if others else ""
        if first.name == "finished":
            return f"{self.output}: what is committed holds, but {first.first}."
        return f"{self.output} does not hold in the check {first.name!r}: {first.first}{more}."

    def _truth(self) -> list[RenderableType]:
        if not self.rescored:
            return []
        table = Table()
        for name in ("entity", "rows", "largest difference"):
            table.add_column(name, justify="left" if name == "entity" else "right")
        for entity in self.rescored:
            table.add_row(entity.entity, f"{entity.rows:,}", f"{entity.difference:.3g}")
        return [f"scored again, alone and unchunked: the largest difference is {self.difference:.3g}", table]


def trusted(modules: Sequence[str] = (), inputs: Sequence[str] = (), config: Config | None = None) -> Trust:
    """What the caller names: modules, looked for where the command is given; places; those of a configuration.

    Raises UsageError where a place is none.
    """
    trust = NOTHING_NAMED
    if config is not None:
        state = config.document.state
        urls = [*config.input.path, config.output.path, *(url for url in (state.read, state.write) if url)]
        trust = Trust(config.code).naming(StoreSpec(url, config.document.storage) for url in urls)
    if modules:
        trust = replace(trust, code=CustomCode(tuple(modules), (os.getcwd(),)))
    return trust.naming(StoreSpec.named(url) for url in inputs)


def run(
    output: str | Path,
    rescore_count: int = 0,
    open_rescore: OpenRescore = ray_rescore,
    trust: Trust = NOTHING_NAMED,
) -> Verification:
    """Audits the run in `output`, and scores `rescore_count` of its entities again.

    Nothing is imported and no server asked because the output names it: `trust` has what the caller names. Raises
    UsageError where there is no run, or no model to score with, RunFailed where its plan cannot be read.
    """
    spec = StoreSpec.named(str(output))
    with only_looking(str(output)):
        store, trust = open_store(spec), trust.naming([spec])
        truth = find_truth(store, spec, trust) if rescore_count else None
        found = audit(store, trust)
        checks = list(found.checks)
        rescored: tuple[Rescored, ...] = ()
        if truth is not None:
            outcome = rescore(found, store, truth, rescore_count, open_rescore)
            checks, rescored = [*checks, outcome.check], outcome.entities
    checks.sort(key=lambda check: list(MEANINGS).index(check.name))
    return Verification(
        str(output), str(found.run.get("run_id")), str(found.run.get("status")), tuple(checks), rescored
    )


def _finite(difference: float | None) -> float | None:
    """JSON knows no infinity: null where a score is no number, which the check says."""
    return difference if difference is not None and math.isfinite(difference) else None


def expect_holds(found: Verification) -> None:
    """Raises AuditFailed with one sentence where anything does not hold."""
    if not found.holds:
        raise AuditFailed(found.sentence())
