"""What has become of a run, read from its output alone; nothing is written, so it may be asked at any moment.

It decides what the files mean together: a run whose lock is held and beats is running, whatever run.json says; one that
says it is running while nobody holds it is broken. Whether a beat is old is told by this machine's clock, and by the
process itself where it ran here; the lock's own decisions never compare clocks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypedDict

from cluster.core.commit import Fragment
from cluster.core.lock import STALE_S, Sight
from cluster.core.plan.shard_plan import PlanHead
from cluster.runtime.commit.commit import Commits
from cluster.runtime.commit.lock import look_at_lock
from cluster.runtime.plan.plan_files import has_plan, read_plan
from cluster.runtime.storage.store import Store
from lstm_core.errors import UsageError

State = Literal["running", "broken", "failed", "stopped", "done", "quarantine"]
ENDED: dict[str, State] = {"failed": "failed", "stopped": "stopped", "quarantine": "quarantine"}


@dataclass(frozen=True)
class DriverSeen:
    """Who holds the output."""

    host: str
    pid: int
    since: str
    heartbeat_age_s: float | None  # None before its first beat


@dataclass(frozen=True)
class RunStatus:
    """A run, as far as it has come. Totals are None until it has a plan."""

    output: str
    run_id: str
    status: State
    error: str | None  # what ended the last session, where it failed
    started_at: str | None
    finished_at: str | None
    rows_total: int | None  # to score: all but skipped rows and those without a key
    rows_done: int  # of these, scored, in quarantine, or dropped because they were late
    rows_quarantined: int  # with those without a key
    files_lost: int  # that cannot be read, and whose rows are in no count
    entities_total: int | None
    entities_done: int  # of shards that are done
    shards_total: int | None
    shards_done: int
    fragments: int
    last_commit_at: str | None
    driver: DriverSeen | None  # where it is running


def read_status(store: Store) -> RunStatus:
    """The status of the run in an output. Raises `UsageError` where there is none."""
    commits, sight = Commits(store), look_at_lock(store, time.monotonic())
    record, driver = commits.run_record(), _driver(sight)
    holder = sight.claim.holder if sight.claim and sight.claim.released_at is None else None
    if record is None and holder is None:
        raise UsageError(
            f"{store.root} holds no run of slotcar: expected the output.path of a run that has begun; check the path."
        )
    head = read_plan(store) if has_plan(store) and record else None
    records = commits.records()
    done = {fragment.shard for fragment in records if fragment.final}
    record = record or {}
    return RunStatus(
        output=store.root,
        run_id=record.get("run_id") or (holder.run_id if holder else ""),
        status=_state(record.get("status"), succeeded=commits.succeeded(), alive=driver is not None),
        error=record.get("error"),
        started_at=record.get("started_at") or (holder.since if holder else None),
        finished_at=record.get("finished_at"),
        rows_done=sum(record.rows + record.rows_quarantined + record.rows_skipped for record in records),
        rows_quarantined=sum(fragment.rows_quarantined for fragment in records) + (head.rows_bad if head else 0),
        files_lost=head.files_lost if head else 0,
        entities_done=sum(shard.entities for shard in head.shards if shard.index in done) if head else 0,
        shards_done=len(done),
        fragments=sum(fragment.file is not None for fragment in records),
        last_commit_at=_last_commit_at(store, records),
        driver=driver,
        **_totals(head),
    )


def _state(said: str | None, *, succeeded: bool, alive: bool) -> State:
    if succeeded:
        return "done"
    if alive:
        return "running"
    return ENDED.get(said or "", "broken")  # it says that it runs, or that all is done but the last mark


class _Totals(TypedDict):
    """A part of `RunStatus`."""

    rows_total: int | None
    entities_total: int | None
    shards_total: int | None


def _totals(head: PlanHead | None) -> _Totals:
    if head is None:
        return {"rows_total": None, "entities_total": None, "shards_total": None}
    return {"rows_total": head.rows_planned, "entities_total": head.entities, "shards_total": len(head.shards)}


def _driver(sight: Sight) -> DriverSeen | None:
    """The holder, where nothing says that it is dead."""
    claim = sight.claim
    if claim is None or claim.released_at is not None or sight.holder_gone:
        return None
    said_at = sight.beat.decode(errors="replace").partition(" ")[2] if sight.beat else claim.holder.since
    try:
        age_s = max((datetime.now(UTC) - datetime.fromisoformat(said_at)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None  # a beat that no driver has written
    if age_s > STALE_S:
        return None
    holder = claim.holder
    return DriverSeen(holder.host, holder.pid, holder.since, round(age_s, 1) if sight.beat else None)


def _last_commit_at(store: Store, records: list[Fragment]) -> str | None:
    newest = {fragment.shard: fragment.record_name for fragment in records}  # records come in order
    times = [store.modified_s(name) for name in newest.values()]
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds") if times else None
