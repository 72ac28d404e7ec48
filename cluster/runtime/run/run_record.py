"""run.json: what a run did, as numbers that add up.

Counts of rows, entities and fragments come from the plan and the commit records, so they are the same however often the
run was broken and resumed. Attempts, deaths, steps and stage seconds are summed over all sessions of the run; times of
day and `wall_s`, `startup_s`, `work_s` are those of the session that ended last.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from cluster.core.audit import FIGURES
from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.settings import StepSettings
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.run.driver import Clock
from lstm_core.json_types import JsonObject

STAGES = ("plan", "shuffle", "read", "pack", "compute", "write", "commit")
COUNTS = (*FIGURES, "attempts", "replica_deaths", "steps")


@dataclass(frozen=True)
class Session:
    """What this process adds to the run's record."""

    clock: Clock
    counters: Sequence[Counters]
    attempts: int
    replica_deaths: int
    replicas: int


def opening_record(
    run_id: str, identity: str, step: StepSettings, fingerprint: str, before: JsonObject | None
) -> JsonObject:
    """The record of a run that begins, or goes on from `before`."""
    fresh: JsonObject = {
        "run_id": run_id,
        "identity": identity,
        "status": "running",
        "started_at": now(),
        "finished_at": None,
        "wall_s": 0.0,
        "startup_s": 0.0,
        "work_s": 0.0,
        **dict.fromkeys(COUNTS, 0),
        "slots": step.slots,
        "chunk": step.chunk,
        "replicas": 0,
        "slot_occupancy": 0.0,
        "kernel": "",
        "stage_s": dict.fromkeys(STAGES, 0.0),
        "model_fingerprint": fingerprint,
        "versions": versions(),
    }
    return {**fresh, **(before or {}), "status": "running", "finished_at": None, "versions": fresh["versions"]}


def record_with_plan(record: JsonObject, head: PlanHead) -> JsonObject:
    """The record once the plan is known."""
    planned = {"rows_in": head.rows_in, "rows_skipped": head.rows_skipped, "files_lost": head.files_lost}
    planned |= {"entities_in": head.entities + head.entities_lost, "entities_quarantined": head.entities_lost}
    return {**record, **planned, "shards": len(head.shards), "rows_quarantined": head.rows_bad}


def closing_record(
    record: JsonObject, status: str, head: PlanHead, fragments: Sequence[Fragment], session: Session
) -> JsonObject:
    """The record of a run that ends, in whatever way."""
    clock, done = session.clock, [fragment for fragment in fragments if fragment.file]
    ended = time.perf_counter()
    ready = clock.first_ready or ended
    steps = sum(counter.steps for counter in session.counters)
    busy = sum(counter.busy_slots for counter in session.counters)
    slot_steps_before = record["slot_occupancy"] * record["steps"] * record["slots"]
    all_steps = record["steps"] + steps
    return {
        **record_with_plan(record, head),
        "status": status,
        "finished_at": now(),
        "wall_s": round(ended - clock.started, 3),
        "startup_s": round(ready - clock.started, 3),
        "work_s": round(max((clock.last_commit or ready) - ready, 0.0), 3),
        "rows_scored": sum(fragment.rows for fragment in fragments),
        "rows_quarantined": head.rows_bad + sum(fragment.rows_quarantined for fragment in fragments),
        "rows_skipped": head.rows_skipped + sum(fragment.rows_skipped for fragment in fragments),
        "entities_scored": sum(fragment.entities for fragment in fragments),
        "entities_quarantined": head.entities_lost + sum(fragment.entities_quarantined for fragment in fragments),
        "fragments": len(done),
        "attempts": record["attempts"] + session.attempts,
        "replica_deaths": record["replica_deaths"] + session.replica_deaths,
        "steps": all_steps,
        "replicas": session.replicas,
        "slot_occupancy": round((slot_steps_before + busy) / (all_steps * record["slots"]), 6) if all_steps else 0.0,
        "kernel": next((counter.kernel for counter in session.counters if counter.kernel), record.get("kernel", "")),
        "stage_s": _stages(record["stage_s"], session),
    }


def _stages(before: dict[str, float], session: Session) -> dict[str, float]:
    spent = {name: sum(getattr(counter, f"{name}_s") for counter in session.counters) for name in STAGES[2:6]}
    spent |= {"plan": session.clock.plan_s, "shuffle": session.clock.shuffle_s, "commit": session.clock.commit_s}
    return {name: round(before[name] + spent[name], 3) for name in STAGES}


def versions() -> dict[str, str]:
    """Versions of what a score may depend on; read from package metadata, so that nothing is imported for it."""
    names = ("slotcar", "tensorflow", "keras", "ray", "pyarrow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def now() -> str:
    """The time of day, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
