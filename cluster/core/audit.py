"""The audit, as decisions: what must hold of a run's output, and what is said where it does not.

An audit is a fixed list of checks. Each counts what it looked at and keeps its first counterexample, so that a report
of any output has one length. Here stand the checks that records and figures alone decide; those that need rows are in
`runtime.audit`, with the arithmetic of `row_accounting`. Leaves files alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import PlanHead
from lstm_core.json_types import JsonObject

# In this order: what comes first is named where several fail, so each stands before what it would drag along.
MEANINGS = {
    "records": "each shard's commit records are whole and follow each other",
    "fragments": "every recorded fragment is there, with its rows and their checksum",
    "files": "no Parquet file lies in the output that no record names",
    "quarantine": "every quarantine file is there, with its rows",
    "input": "the input's files and keys are what was planned",
    "times": "the scored rows are the input's, by entity and time",
    "order": "an entity's rows stand in time order, in one shard, in consecutive fragments",
    "exactly once": "each row of the input is scored, in quarantine or skipped, and none is twice",
    "totals": "the figures of plan, records and run.json agree",
    "request": "what was asked for is kept, and run.json and the plan say the same",
    "carry-over": "every entity's state is kept once, with the rows that were scored, or handed on",
    "scores": "entities scored again, alone and unchunked, have the same scores",
    "finished": "every shard is committed, and _SUCCESS says so",
}
FIGURES = (  # of run.json, that the plan and the records give too
    "rows_in",
    "rows_scored",
    "rows_quarantined",
    "rows_skipped",
    "entities_in",
    "entities_scored",
    "entities_quarantined",
    "files_lost",
    "shards",
    "fragments",
)
CLOSED = ("done", "quarantine")  # what run.json says of a run that has scored everything


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    counted: int  # what it looked at
    failures: int
    first: str | None  # the first counterexample

    @property
    def holds(self) -> bool:
        """True where nothing failed."""
        return self.failures == 0

    @property
    def meaning(self) -> str:
        """What was checked."""
        return MEANINGS[self.name]


@dataclass
class Tally:
    """A check under way."""

    name: str
    counted: int = 0
    failures: int = 0
    first: str | None = None

    def count(self, things: int = 1) -> None:
        """So many more have been looked at."""
        self.counted += things

    def fail(self, found: str, times: int = 1) -> None:
        """A counterexample, which stands for `times` of them."""
        self.failures += times
        self.first = self.first or found

    def expect(self, holds: bool, found: str) -> bool:
        """Looks at one thing; hands back whether it holds."""
        self.count()
        if not holds:
            self.fail(found)
        return holds

    def close(self) -> Check:
        """The outcome."""
        return Check(self.name, self.counted, self.failures, self.first)


@dataclass
class Tallies:
    """All checks of an audit, by name; one that nobody asked for is not in the report."""

    by_name: dict[str, Tally] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tally:
        assert name in MEANINGS, name
        return self.by_name.setdefault(name, Tally(name))

    def close(self) -> tuple[Check, ...]:
        """The outcomes, in the order of MEANINGS."""
        return tuple(self.by_name[name].close() for name in MEANINGS if name in self.by_name)


def audit_records(tally: Tally, shards: int, records: Sequence[Fragment]) -> dict[int, list[Fragment]]:
    """Checks that records, which have been counted, follow each other; returns those of each shard, in order."""
    of_shard: dict[int, list[Fragment]] = {}
    for record in sorted(records, key=lambda record: (record.shard, record.index)):
        of_shard.setdefault(record.shard, []).append(record)
    for shard, mine in of_shard.items():
        _require(tally, 0 <= shard < shards, f"{mine[0].record_name} is of shard {shard}, but the plan has {shards}")
        found = [record.index for record in mine]
        _require(
            tally,
            found == list(range(len(mine))),
            f"shard {shard} has the records {found}: expected 0 to {len(mine) - 1}",
        )
        early = [record for record in mine[:-1] if record.final]
        _require(tally, not early, f"{early[0].record_name if early else ''} ends shard {shard}, but records follow it")
    _expect_distinct(tally, [name for record in records for _, name in record.moves()])
    return of_shard


def _require(tally: Tally, holds: bool, found: str) -> None:
    """As `expect`, of what has been counted."""
    if not holds:
        tally.fail(found)


def _expect_distinct(tally: Tally, names: Iterable[str]) -> None:
    again = [name for name, times in Counter(names).items() if times > 1]
    _require(tally, not again, f"{again[0] if again else ''} is named by more than one record")


def audit_files(tally: Tally, present: Collection[str], named: Collection[str]) -> None:
    """Checks that no file lies in the output that nothing names; names are below the output."""
    tally.count(len(present))
    for name in sorted(set(present) - set(named)):
        tally.fail(f"{name} lies in the output, but no record names it")


def audit_totals(tally: Tally, head: PlanHead, records: Sequence[Fragment], run: JsonObject) -> None:
    """Checks that the plan's, the records' and, once the run is closed, run.json's figures agree."""
    counted = {
        "rows_in": sum(file.rows for file in head.input_files),
        "rows_scored": sum(record.rows for record in records),
        "rows_quarantined": head.rows_bad + sum(record.rows_quarantined for record in records),
        "rows_skipped": head.rows_skipped + sum(record.rows_skipped for record in records),
        "entities_in": head.entities + head.entities_lost,
        "entities_scored": sum(record.entities for record in records),
        "files_lost": head.files_lost,
        "entities_quarantined": head.entities_lost + sum(record.entities_quarantined for record in records),
        "shards": len(head.shards),
        "fragments": sum(record.file is not None for record in records),
    }
    tally.expect(
        head.rows_in == counted["rows_in"] == head.rows_planned + head.rows_skipped + head.rows_bad,
        f"the plan has {head.rows_planned:,} rows in shards, {head.rows_skipped:,} skipped and {head.rows_bad:,} bad, "
        f"but its files have {counted['rows_in']:,}",
    )
    if run.get("status") not in CLOSED:
        return
    parts = counted["rows_scored"] + counted["rows_quarantined"] + counted["rows_skipped"]
    tally.expect(
        parts == counted["rows_in"],
        f"{counted['rows_scored']:,} rows are scored, {counted['rows_quarantined']:,} in quarantine and "
        f"{counted['rows_skipped']:,} skipped, but the input has {counted['rows_in']:,}",
    )
    for name in FIGURES:
        tally.expect(
            run.get(name) == counted[name],
            f"run.json has {name} = {run.get(name)}, but the records say {counted[name]}",
        )


def audit_request(tally: Tally, run: JsonObject, asked: JsonObject | None, head: PlanHead) -> None:
    """Checks that run.json and the plan are of what was asked for, which `asked` says by their names."""
    if not tally.expect(asked is not None, "request.json, which says what was asked for, is not there"):
        return
    assert asked is not None
    planned = {"entity": list(head.entity), "time": list(head.time)}
    for name, value in planned.items():
        tally.expect(list(asked[name]) == value, f"request.json has {name} {list(asked[name])}, but the plan {value}")
    for name in ("run_id", "identity", "model_fingerprint", "slots", "chunk", "versions"):
        if name == "versions" and (asked[name] is None or run.get("status") not in CLOSED):
            continue  # of an earlier version, or of a session that has not ended
        tally.expect(
            run.get(name) == asked[name], f"run.json has {name} = {run.get(name)}, but request.json says {asked[name]}"
        )


@dataclass(frozen=True)
class End:
    """How far a run has come."""

    status: str  # of run.json
    shards: int
    done: int  # shards that are wholly committed
    success: bool  # _SUCCESS is there


def audit_end(tally: Tally, end: End) -> None:
    """Checks that the run is done, and that `_SUCCESS` is there just then."""
    tally.count(end.shards)
    whole = end.done == end.shards and end.status == "done"
    if end.success and not whole:
        tally.fail(f"_SUCCESS is there, but {progress(end)}", max(1, end.shards - end.done))
    elif not whole:
        tally.fail(f"the run is not finished: {progress(end)}", max(1, end.shards - end.done))
    elif not end.success:
        tally.fail("every shard is committed, but _SUCCESS is not there: the same command finishes the run")


def progress(end: End) -> str:
    """How far, in words."""
    why = ", more rows are in quarantine than allowed" if end.status == "quarantine" else ""
    return f"{end.done:,} of {end.shards:,} shards are committed, and run.json has the status {end.status!r}{why}"
