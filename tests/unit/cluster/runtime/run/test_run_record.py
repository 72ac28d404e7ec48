"""run.json: every field that was promised, and numbers that add up however often a run is resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.settings import StepSettings
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.run.driver import Clock
from cluster.runtime.run.run_record import STAGES, Session, closing_record, opening_record, record_with_plan
from tests.inputs.laid import lay
from tests.inputs.series import make_series, with_nulls

PROMISED = [
    "run_id",
    "status",
    "started_at",
    "finished_at",
    "wall_s",
    "startup_s",
    "work_s",
    "rows_in",
    "rows_scored",
    "rows_quarantined",
    "rows_skipped",
    "entities_in",
    "entities_scored",
    "entities_quarantined",
    "shards",
    "fragments",
    "attempts",
    "replica_deaths",
    "steps",
    "slots",
    "chunk",
    "replicas",
    "slot_occupancy",
    "stage_s",
    "model_fingerprint",
    "versions",
]

STEP = StepSettings(slots=4, chunk=8)
LENGTHS = [10, 10, 10]


@pytest.fixture
def head(tmp_path: Path) -> PlanHead:
    """Three shards of 10 rows; of 30 rows 2 have no entity, and the first 3 of entity 0 are skipped."""
    table = with_nulls(make_series(LENGTHS, extra=True), "entity", [15, 16])
    since = str(table.column("time").to_pylist()[3])
    laid = lay(tmp_path, table.slice(0, 10), shard_rows=10, since=since)
    skipped = laid.plan.head
    bad = lay(tmp_path / "bad", table.slice(10), shard_rows=10).plan.head
    return replace(
        bad,
        shards=(*skipped.shards, *bad.shards),
        rows_in=30,
        rows_skipped=skipped.rows_skipped,
        entities=skipped.entities + bad.entities,
    )


def fragment(shard: int, rows: int, *, index: int = 0, quarantined: int = 0, final: bool = True) -> Fragment:
    name = f"part-{shard}-{index}" if rows else None
    entities = int(index == 0 and rows > 0)
    return Fragment(
        shard, index, 1, final, name, name, rows, entities, "", None, None, rows_quarantined=quarantined,
        entities_quarantined=int(quarantined > 0),
    )  # fmt: skip


ALL = [
    fragment(0, 4, final=False),
    fragment(0, 3, index=1),
    fragment(1, 5, quarantined=3),
    fragment(2, 0, quarantined=10),
]


def opened(before: dict[str, Any] | None = None) -> dict[str, Any]:
    return opening_record("run", "identity", STEP, "fingerprint", before)


def session(**changes: Any) -> Session:
    counters = Counters(steps=5, rows=30, busy_slots=10, read_s=1, pack_s=2, compute_s=3, write_s=4)
    clock = Clock(started=100.0, first_ready=101.5, last_commit=104.0, commit_s=0.5, plan_s=0.25)
    return replace(Session(clock, [counters, counters], attempts=3, replica_deaths=1, replicas=2), **changes)


def add_up(record: dict[str, Any]) -> bool:
    return bool(record["rows_in"] == record["rows_scored"] + record["rows_quarantined"] + record["rows_skipped"])


def test_every_promised_field_is_there_from_the_first_record_on(head: PlanHead) -> None:
    for record in (opened(), record_with_plan(opened(), head), closing_record(opened(), "done", head, ALL, session())):
        assert set(PROMISED) <= set(record)
        assert set(record) - set(PROMISED) == {"identity", "kernel", "files_lost"}
        assert (
            list(record["stage_s"]) == list(STAGES) == ["plan", "shuffle", "read", "pack", "compute", "write", "commit"]
        )
        assert json.loads(json.dumps(record)) == record


def test_rows_of_a_finished_run_add_up(head: PlanHead) -> None:
    record = closing_record(opened(), "done", head, ALL, session())
    assert add_up(record)
    counted = {name: record[name] for name in ("rows_in", "rows_scored", "rows_quarantined", "rows_skipped")}
    assert counted == {"rows_in": 30, "rows_scored": 12, "rows_quarantined": 15, "rows_skipped": 3}


def test_entities_and_fragments_are_counted_once(head: PlanHead) -> None:
    record = closing_record(opened(), "done", head, ALL, session())
    assert (record["entities_in"], record["entities_scored"], record["entities_quarantined"]) == (3, 2, 2)
    assert (record["shards"], record["fragments"]) == (3, 3)


def test_what_is_planned_is_known_before_anything_is_scored(head: PlanHead) -> None:
    record = record_with_plan(opened(), head)
    assert (record["status"], record["rows_in"], record["rows_skipped"], record["shards"]) == ("running", 30, 3, 3)
    assert (record["rows_quarantined"], record["rows_scored"], record["finished_at"]) == (2, 0, None)


def test_times_and_stages_are_what_the_clock_and_the_replicas_say(head: PlanHead) -> None:
    record = closing_record(opened(), "done", head, ALL, session())
    assert (record["startup_s"], record["work_s"]) == (1.5, 2.5)
    assert record["stage_s"] == {
        "plan": 0.25, "shuffle": 0.0, "read": 2, "pack": 4, "compute": 6, "write": 8, "commit": 0.5,
    }  # fmt: skip
    assert record["slot_occupancy"] == 20 / (10 * 4)
    assert (record["steps"], record["replicas"], record["attempts"], record["replica_deaths"]) == (10, 2, 3, 1)


def test_a_run_that_never_stepped_has_a_record_too(head: PlanHead) -> None:
    idle = session(clock=Clock(), counters=[], attempts=0, replica_deaths=0)
    record = closing_record(opened(), "failed", head, [], idle)
    assert (record["status"], record["steps"], record["slot_occupancy"], record["work_s"]) == ("failed", 0, 0.0, 0.0)
    assert 0 <= record["startup_s"] <= record["wall_s"]


def test_a_resumed_run_counts_the_work_of_all_sessions_and_its_rows_once(head: PlanHead) -> None:
    first = closing_record(opened(), "stopped", head, ALL[:1], session())
    assert (first["rows_scored"], first["rows_quarantined"]) == (4, 2)
    again = opened(first)
    assert (again["status"], again["finished_at"], again["started_at"]) == ("running", None, first["started_at"])
    record = closing_record(again, "done", head, ALL, session(counters=[Counters(steps=10, busy_slots=40, read_s=1)]))
    assert add_up(record)
    assert record["rows_scored"] == 12
    assert (record["steps"], record["attempts"], record["replica_deaths"]) == (20, 6, 2)
    assert record["slot_occupancy"] == (20 + 40) / (20 * 4)
    assert (record["stage_s"]["read"], record["stage_s"]["plan"]) == (3, 0.5)


@pytest.mark.parametrize("seen", [[], ALL[:2], ALL])
def test_a_finished_run_that_is_opened_again_keeps_its_counts(head: PlanHead, seen: Sequence[Fragment]) -> None:
    first = closing_record(opened(), "stopped", head, seen, session())
    nothing = session(counters=[], attempts=0, replica_deaths=0)
    again = closing_record(opened(first), "stopped", head, seen, nothing)
    for name in (
        "rows_scored",
        "rows_quarantined",
        "entities_scored",
        "fragments",
        "steps",
        "attempts",
        "slot_occupancy",
    ):
        assert again[name] == first[name], name


def test_versions_name_what_a_score_depends_on() -> None:
    versions = opened()["versions"]
    assert {"slotcar", "python", "tensorflow", "keras", "ray", "pyarrow", "numpy"} <= set(versions)
    assert all(versions.values())
