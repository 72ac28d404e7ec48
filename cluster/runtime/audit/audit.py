"""The audit of a run from storage alone: reads the plan, the records, the output and the input's keys, and compares.

What it decides: in which order things are read, so that an audit beside a running driver sees nothing that is not
committed. It believes no record: it counts rows, takes checksums, and finds every scored row's place in the input
again. Memory follows a shard, the entities' keys and one batch of rows. It writes nothing and mends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.core.audit import (
    CLOSED,
    MEANINGS,
    Check,
    End,
    Tallies,
    audit_end,
    audit_files,
    audit_records,
    audit_request,
    audit_totals,
)
from cluster.core.commit import COMMITS, QUARANTINE, STAGED, SUCCESS, Fragment
from cluster.core.plan.shard_plan import PlanHead, Shard
from cluster.core.row_accounting import Coverage
from cluster.run_errors import InputBroken, OutputRefused, StoreFault, first_line
from cluster.runtime.audit.audit_rows import ShardRows, shard_keys
from cluster.runtime.audit.bucket_audit import audit_origins
from cluster.runtime.audit.carry_audit import CarryAudit
from cluster.runtime.audit.coverage_audit import audit_coverage, audit_entities, count_rows, rows_left
from cluster.runtime.audit.own_rows import OwnRows, access_of
from cluster.runtime.audit.shard_audit import UNREADABLE, ShardAudit
from cluster.runtime.audit.trust import NOTHING_NAMED, Trust
from cluster.runtime.commit.commit import RUN
from cluster.runtime.commit.run_json import read_run_json
from cluster.runtime.commit.run_request import RequestFile, read_request
from cluster.runtime.input.source_files import check_unchanged
from cluster.runtime.plan.plan_files import Extents, has_plan, read_bad, read_plan
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.run.quarantine import BAD_ROWS, LOST_FILES
from cluster.runtime.storage.parquet_tables import rows_in_file
from cluster.runtime.storage.store import Store
from cluster.runtime.storage.visible_tables import visible_tables
from lstm_core.array_types import Ints
from lstm_core.json_types import JsonObject


@dataclass(frozen=True)
class ScoredEntity:
    """An entity that has scores: where it is, and how many."""

    shard: int
    entity: int  # ordinal in the shard
    rows: int


@dataclass(frozen=True)
class Audit:
    """What an audit found; `done` are the shards that are wholly committed."""

    run: JsonObject  # run.json
    checks: tuple[Check, ...]
    done: tuple[Shard, ...]
    longest: ScoredEntity | None  # of the shards that are done
    shortest: ScoredEntity | None
    records: dict[int, list[Fragment]]  # of each shard
    unscored: dict[int, Ints]  # shard -> ordinals of its entities without a score, rising; where it is done and has any
    head: PlanHead | None


def audit(store: Store, trust: Trust = NOTHING_NAMED) -> Audit:
    """Audits the run in a store; what it names elsewhere is asked as far as `trust` names it too.

    Raises OutputRefused where there is no run, or one on a server that nobody has named, and RunFailed where its plan,
    its request or run.json cannot be read.
    """
    return _Audit(store, read_run(store), trust).to_its_end()


def read_run(store: Store) -> JsonObject:
    """run.json. Raises OutputRefused where there is none, RunFailed where it cannot be read."""
    run = read_run_json(store, RUN)
    if run is None:
        raise OutputRefused(
            f"{store.root} holds no run: there is no {RUN} in it; give the folder that output.path of a run names."
        )
    return run


def locate(store: Store, run: JsonObject, name: str, staged: str | None) -> str | None:
    """Where a recorded file lies: in the output, or, while a run is not closed, still where it was staged."""
    if store.exists(name):
        return name
    waiting = f"{STAGED}/{staged}"
    if run.get("status") not in CLOSED and staged and store.exists(waiting):
        return waiting
    return name if store.exists(name) else None  # it may have been published just now


class _Audit:
    """One audit under way."""

    def __init__(self, store: Store, run: JsonObject, trust: Trust) -> None:
        self._store, self._run, self._trust = store, run, trust
        self._tallies = Tallies()
        self._done: list[Shard] = []
        self._longest: ScoredEntity | None = None
        self._shortest: ScoredEntity | None = None
        self._unscored: dict[int, Ints] = {}

    def to_its_end(self) -> Audit:
        """Every check but that of the scores."""
        store, tallies = self._store, self._tallies
        # Files first, records next: what is published in between has a record that is read.
        present = self._present()
        quarantined = [f"{QUARANTINE}/{name}" for name in store.list(QUARANTINE) if name.endswith(".parquet")]
        records = self._read_records()
        head = None
        of_shard: dict[int, list[Fragment]] = {}
        if has_plan(store):
            head, request = read_plan(store), read_request(store)
            self._trust.check(head)
            request = None if request is None else self._trust.believed(request)
            of_shard = audit_records(tallies["records"], len(head.shards), records)
            self._audit_rows(head, of_shard, request)
            self._audit_unowned(head, quarantined)
            for name in MEANINGS.keys() - {"scores"}:
                tallies[name].count(0)  # in the report, also where there was nothing to look at
            audit_totals(tallies["totals"], head, records, self._run)
            audit_request(tallies["request"], self._run, None if request is None else request.told(), head)
        named = {name for record in records for _, name in record.moves()}
        own = _own_files(head) if head else {}
        named |= {name for name in quarantined for begin, lines in own.items() if lines and name.startswith(begin)}
        audit_files(tallies["files"], [*present, *quarantined], named)
        shards = len(head.shards) if head else 0
        end = End(str(self._run.get("status")), shards, len(self._done), store.exists(SUCCESS))
        audit_end(tallies["finished"], end)
        return Audit(
            self._run, tallies.close(), tuple(self._done), self._longest, self._shortest, of_shard, self._unscored, head
        )

    def _present(self) -> list[str]:
        """What a reader of the whole output would take for tables of it, in the folders below it too."""
        direct = [name for name in self._store.list("") if name.endswith(".parquet")]
        try:
            return sorted({*direct, *visible_tables(self._store.root, self._trust.storage)})
        except OSError as error:
            self._tallies["files"].fail(f"the folders of the output cannot be listed: {first_line(error)}")
            return direct

    def _read_records(self) -> list[Fragment]:
        records, tally = [], self._tallies["records"]
        for name in [name for name in self._store.list(COMMITS) if name.endswith(".json")]:
            tally.count()
            try:
                record = Fragment.from_json(self._store.read(f"{COMMITS}/{name}").decode())
            except (StoreFault, ValueError, TypeError, RecursionError) as error:
                tally.fail(f"{COMMITS}/{name} cannot be read: {first_line(error)}")
                continue
            if record.record_name != f"{COMMITS}/{name}":
                tally.fail(f"{COMMITS}/{name} says that it is {record.record_name}")
                continue
            records.append(record)
        return records

    def _audit_rows(self, head: PlanHead, of_shard: dict[int, list[Fragment]], request: RequestFile | None) -> None:
        tally, store = self._tallies["input"], self._store
        settings = request.input if request is not None else None
        storage = self._trust.storage
        tally.count(len(head.input_files))
        try:
            check_unchanged(head, storage)
            count_rows(tally, head, storage)
        except InputBroken as error:
            tally.fail(str(error).rstrip("."))
        checksums = settings is None or settings.page_checksums
        access = access_of(head, storage, checksums=checksums)
        reader = OwnRows(InputFiles.of(head, store, storage).files, (*head.entity, *head.time), access)
        coverage = Coverage()
        extents = Extents(store)
        keys = [shard_keys(extents.of(shard.index)) for shard in head.shards]
        carry = CarryAudit(self._tallies["carry-over"], request, keys) if request and request.state.used else None
        for shard in head.shards:
            rows = ShardRows(reader, head, shard, extents.of(shard.index))
            coverage.add(rows.file, rows.start, rows.count)
            if shard.index in of_shard:
                audit = ShardAudit(self._tallies, rows, shard.index, store, settings)
                self._audit_shard(shard, audit, of_shard[shard.index], carry)
        audit_entities(self._tallies["order"], keys)
        if carry is not None and self._run.get("status") == "done":
            carry.close()
        try:
            once = self._tallies["exactly once"]
            left = rows_left(once, head, coverage)
            left = audit_origins(tally, head, store, (storage, checksums)) if head.sources else left
            audit_coverage(once, head, left, read_bad(store), settings)
        except (InputBroken, *UNREADABLE) as error:
            tally.fail(str(error).rstrip("."))

    def _audit_shard(self, shard: Shard, audit: ShardAudit, records: list[Fragment], carry: CarryAudit | None) -> None:
        if carry is not None:
            audit.expect_late(carry)
        for record in records:
            if record.file is not None:
                audit.fragment(record, locate(self._store, self._run, record.file, record.staged))
            if record.quarantine_file is not None:
                name = f"{QUARANTINE}/{record.quarantine_file}"
                audit.quarantine(record, locate(self._store, self._run, name, record.quarantine_staged))
        done = records[-1].final
        audit.close(done=done, entities_recorded=sum(record.entities for record in records))
        if carry is not None:
            carry.shard(shard.index, audit.ledger, records)
        if done:
            self._done.append(shard)
            self._remember(shard.index, audit.ledger.scored)

    def _remember(self, shard: int, scored: Ints) -> None:
        known = np.flatnonzero(scored)
        if len(known) < len(scored):
            self._unscored[shard] = np.flatnonzero(scored == 0)
        if not len(known):
            return
        most, least = known[np.argmax(scored[known])], known[np.argmin(scored[known])]
        if self._longest is None or scored[most] > self._longest.rows:
            self._longest = ScoredEntity(shard, int(most), int(scored[most]))
        if self._shortest is None or scored[least] < self._shortest.rows:
            self._shortest = ScoredEntity(shard, int(least), int(scored[least]))

    def _audit_unowned(self, head: PlanHead, quarantined: list[str]) -> None:
        """What no shard has in quarantine lies in files of its own, written when all else is committed."""
        if self._run.get("status") not in CLOSED:
            return
        for begin, lines in _own_files(head).items():
            if lines:
                self._audit_own(begin, lines, [name for name in quarantined if name.startswith(begin)])

    def _audit_own(self, begin: str, lines: int, found: list[str]) -> None:
        tally = self._tallies["quarantine"]
        if not tally.expect(len(found) == 1, f"{begin}*.parquet are {len(found)} files, expected 1"):
            return
        try:
            rows = rows_in_file(self._store, found[0])
        except UNREADABLE as error:
            return tally.fail(f"{found[0]} cannot be read: {first_line(error)}")
        tally.expect(rows == lines, f"{found[0]} holds {rows:,} rows, but the plan found {lines:,}")


def _own_files(head: PlanHead) -> dict[str, int]:
    """How quarantine's own files begin -> the lines that each has; it is there where it has any."""
    return {f"{QUARANTINE}/{BAD_ROWS}": head.rows_bad, f"{QUARANTINE}/{LOST_FILES}": head.files_lost}
