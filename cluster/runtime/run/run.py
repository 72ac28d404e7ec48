"""One run, from a request to `_SUCCESS`.

What it decides: the order of a run's stages, that the input is looked at while the cluster starts, and that replicas
import TensorFlow and compile while the plan is made. The same request on a broken run goes on from its commit records,
on a finished one does nothing. Whatever is written is written under the lock on the output; a driver that has lost it
writes nothing more, not even that it failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace

from cluster.core.plan.expected_steps import expected_steps
from cluster.core.plan.lost_files import refuse_gone
from cluster.core.plan.shard_plan import PlanHead, choose_shard_entities, choose_shard_rows, make_plan
from cluster.core.settings import ClusterSettings
from cluster.run_errors import LockLost, NotLanded, OutputRefused, RunFailed, StoreFault, TooManyBadRows
from cluster.runtime.carry.carry_plan import absent_counts, settle_types, write_carry_plan
from cluster.runtime.carry.carry_table import make_mark
from cluster.runtime.carry.carry_writer import HandOn, hand_on_parts
from cluster.runtime.commit.commit import RUN, Commits
from cluster.runtime.commit.lock import Lock, hold_lock
from cluster.runtime.commit.run_request import RequestFile, ScoreRequest, write_request
from cluster.runtime.fleet.ray_cluster import Cluster, Replicas, ray_cluster
from cluster.runtime.input.source_files import check_unchanged
from cluster.runtime.plan.plan_files import has_plan, read_plan, write_plan
from cluster.runtime.plan.planned_places import check_places
from cluster.runtime.replica.node_check import NodeNeeds, SharedLocation, installed_versions
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.replica.replica_actor import ReplicaSpec, Sources, row_layout
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.run.delta_output import append_to_delta
from cluster.runtime.run.driver import Clock, Driver, Work
from cluster.runtime.run.early_scan import EarlyScan
from cluster.runtime.run.lost_shards import LostCarry, LostShards
from cluster.runtime.run.quarantine import publish_unowned
from cluster.runtime.run.run_record import Session, closing_record, opening_record, record_with_plan
from cluster.runtime.shuffle.shuffle import keep_buckets, shuffle_where_needed, strip_buckets
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.store import Store
from cluster.runtime.watch.progress import Progress, ProgressLine, count_stragglers, progress_line
from cluster.runtime.watch.timeline import Moment, Timeline, WatchedScheduler
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_STOPPED
from lstm_core.json_types import JsonObject
from lstm_core.secret_text import masked
from lstm_core.shown_text import utf8

ARENA_BYTES = 64 << 20  # rows at hand; the next ones take the place of the last, so that few pages are ever touched
ARENA_ROWS_MAX = 8 << 20
CACHE_BYTES = 64 << 20
BLOCK_CHUNKS = 512  # chunks of a long entity that are read at once


AtEnd = Callable[[StoreSpec], None]  # is told the output of a session that ends, before `_SUCCESS`; never raises
OpenCluster = Callable[[ClusterSettings], AbstractContextManager[Cluster]]
OpenStore = Callable[[StoreSpec], Store]


def _nothing(output: StoreSpec) -> None:
    """What follows a session by default."""


def score(
    request: ScoreRequest,
    open_cluster: OpenCluster = ray_cluster,
    open_store: OpenStore = open_store,
    at_end: AtEnd = _nothing,
) -> JsonObject:
    """Runs `request` to its end and returns its run.json.

    Raises `UsageError` where nothing was started, `RunFailed` where the same request resumes, `TooManyBadRows` where
    all is scored but `_SUCCESS` is withheld.
    """
    store = open_store(StoreSpec.of(request.output))
    carry = open_store(request.carry.write) if request.carry and request.carry.write else None
    record = _finished(Commits(store, carry=carry), request)
    if record is not None:
        return record
    with _lock(store, request.run_id) as lock:
        commits = Commits(store, lock, carry)
        if request.output.overwrite and not _is_same_unfinished(commits, request):
            commits.clear()
        # Asked again: while this driver waited for the lock, another may have begun or finished.
        commits.check_foreign(request.run_id, request.identity)
        record = commits.run_record() if commits.succeeded() else None
        if record is None:
            commits.claim_carry(request.run_id, request.identity)
        return record or _Run(request, commits, at_end).to_its_end(open_cluster)


def _finished(commits: Commits, request: ScoreRequest) -> JsonObject | None:
    """The record of a run with which nothing is left to do; refuses what is not ours, and touches nothing."""
    record, overwrite = commits.run_record(), request.output.overwrite
    commits.check_carry(request.run_id, request.identity, overwrite=overwrite)
    if record is None or not overwrite:
        commits.check_foreign(request.run_id, request.identity)
    return record if commits.succeeded() and not overwrite else None


def _is_same_unfinished(commits: Commits, request: ScoreRequest) -> bool:
    record = commits.run_record()
    return record is not None and record.get("identity") == request.identity and not commits.succeeded()


@contextmanager
def _lock(store: Store, run_id: str) -> Iterator[Lock]:
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(hold_lock(store, run_id))
        except NotLanded as fault:
            if store.exists(RUN):
                raise
            raise OutputRefused(f"output.path {store.root} cannot be written: {fault.__cause__}.") from fault
        yield lock


@contextmanager
def _files_translated() -> Iterator[None]:
    """Faults of the operating system that no store has translated."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"Reading or writing files failed ({error}): mend the storage (space, permissions, connection); what is "
            "committed stays, and the same command resumes the run."
        ) from error


class _Run:
    """One session of a run."""

    def __init__(self, request: ScoreRequest, commits: Commits, at_end: AtEnd) -> None:
        self._request, self._commits, self._at_end = request, commits, at_end
        self._clock = Clock()
        before = commits.run_record()
        if before is not None:
            before.pop("error", None)
        self._record = opening_record(
            request.run_id, request.identity, request.step, request.contract.fingerprint, before
        )
        self._resumes = before is not None
        self._early_scan = EarlyScan(request.input, request.output.rows_per_file)
        self._head: PlanHead | None = None
        self._scheduler: WatchedScheduler | None = None
        self._timeline = Timeline(commits, request.run_id)
        self._replica_count = 0
        self._counters: list[Counters] = []
        self._rows_before = 0

    def to_its_end(self, open_cluster: OpenCluster) -> JsonObject:
        """Plans, scores and finishes; returns run.json."""
        with (
            progress_line() as line,
            self._looking(),
            open_cluster(self._request.cluster) as cluster,
            self._recorded(),
        ):
            cluster.check(self._needs())
            self._replica_count = cluster.replica_count()
            self._timeline.watcher = cluster.metrics(self._request.run_id)
            self._replicas = cluster.replicas(self._spec(), self._request.model)
            try:
                for number in range(self._replica_count):
                    self._replicas.start(number)
                self._plan(cluster, line)
                self._drive(self._replicas, line)
            finally:
                self._counters = self._replicas.counters
                self._replicas.stop()
            self._cut_down_buckets(cluster)
            return self._finish(cluster)

    def _spec(self) -> ReplicaSpec:
        request, cluster = self._request, self._request.cluster
        block_rows = BLOCK_CHUNKS * request.step.chunk
        row_bytes = row_layout(request.contract).row_bytes
        fitting = max(ARENA_BYTES // row_bytes, 2 * request.output.rows_per_file, 4 * block_rows)
        return ReplicaSpec(
            contract=request.contract,
            input=request.input,
            step=request.step,
            output=request.output,
            run=request.run,
            threads=max(1, int(cluster.cpus_per_replica)),
            gpu=cluster.gpus_per_replica > 0,
            checkpoint_s=cluster.checkpoint_s,
            fence=self._commits.fence.number,
            arena_rows=min(fitting, max(ARENA_ROWS_MAX, 4 * block_rows)),
            block_rows=block_rows,
            cache_bytes=CACHE_BYTES,
            carry=request.carry,
            needs=self._needs() if cluster.address else None,
        )

    def _needs(self) -> NodeNeeds:
        request, shared = self._request, SharedLocation(StoreSpec.of(self._request.output))
        return NodeNeeds(installed_versions(), shared, request.carry, request.some_files, request.input.storage)

    def _looking(self) -> AbstractContextManager[None]:
        """The early scan begins before there is a cluster, unless there is a plan."""
        return nullcontext() if self._resumes else self._early_scan.begun()

    def _plan(self, cluster: Cluster, line: ProgressLine) -> None:
        begin = time.perf_counter()
        store = self._commits.store
        # A plan without run.json is left of a session that died before its first record, perhaps with other settings.
        there = self._commits.run_record() is not None and has_plan(store)
        self._head = head = read_plan(store) if there else self._make_plan(cluster)
        if self._request.carry is not None:
            self._request = replace(self._request, carry=self._request.carry.in_types(head.carry_types))
        if there:
            check_places(head, self._request.input)
            check_unchanged(head, self._request.input.storage)
        self._clock.plan_s = self._early_scan.ahead_s + time.perf_counter() - begin - self._clock.shuffle_s
        lost = f"; {head.files_lost:,} files cannot be read: their entities go into quarantine"
        line.say(
            f"{self._request.run_id}: {head.entities:,} entities, {head.rows_planned:,} rows to score in "
            f"{len(head.shards)} shards, layout {head.layout}; committed {store.manner}"
            f"{lost if head.files_lost else ''}"
        )

    def _make_plan(self, cluster: Cluster) -> PlanHead:
        settings, output = self._request.input, self._request.output
        place, check = StoreSpec.of(output), self._commits.fence.check
        taken = shuffle_where_needed(settings, place, cluster.map, check, self._early_scan.finish(cluster.map))
        inventory, self._clock.shuffle_s = taken.inventory, taken.shuffle_s
        carry = self._request.carry
        if carry is not None and carry.write is not None:
            refuse_gone(inventory)
        settled = settle_types(carry, inventory, settings) if carry is not None else None
        plan = make_plan(
            inventory,
            shard_rows=choose_shard_rows(inventory.rows_in, rows_per_file=output.rows_per_file),
            shard_entities=choose_shard_entities(carry.schema.state_bytes) if carry else None,
        )
        if carry is not None and settled is not None and not settled.schema.types.equals(carry.schema.types):
            plan = replace(plan, head=replace(plan.head, carry_types=settled.schema.types))
        self._commits.prepare()
        if settled is not None and settled.read is not None:
            write_carry_plan(self._commits.store, plan, settled)
        write_plan(self._commits.store, plan)
        keep_buckets(self._commits.store, inventory)
        return plan.head

    def _drive(self, replicas: Replicas, line: ProgressLine) -> None:
        head, request = self._head, self._request
        assert head is not None
        self._commits.prepare()
        self._commits.write_run_record(record_with_plan(self._record, head))
        write_request(self._commits.store, RequestFile.of(request, self._record["versions"]))
        recovery = self._commits.recover()
        self._rows_before = sum(fragment.rows for fragment in self._commits.records())
        scheduler = WatchedScheduler(
            head.shards,
            replicas=self._replica_count,
            max_attempts=request.cluster.max_attempts,
            done=recovery.done,
            committed=recovery.committed,
        )
        self._scheduler = scheduler
        scheduler.timeline = self._timeline
        settings = request.input
        files = InputFiles.of(head, self._commits.store, settings.storage, checksums=settings.page_checksums)
        # Where entities are few or short, each replica's steps will be smaller from the first to the last.
        slots, chunk = request.step.slots, request.step.chunk
        expected = expected_steps(head, replicas=self._replica_count, slots=slots, chunk=chunk)
        replicas.begin(Sources(files, expected, head.carry_types))
        shards = {shard.index: shard for shard in head.shards}
        Driver(Work(shards, self._lost_shards(head).stage), scheduler, replicas, self._commits, self._clock).run(
            lambda: self._tick(replicas.counters, line)
        )

    def _tick(self, counters: list[Counters], line: ProgressLine) -> None:
        moment = Moment(self._progress(counters), counters)
        line.show(moment.progress)
        self._timeline.tick(moment)

    def _lost_shards(self, head: PlanHead) -> LostShards:
        request = self._request
        carry = LostCarry(request.input, request.carry) if request.carry is not None else None
        return LostShards(self._commits, head, request.run, request.output, carry)

    def _progress(self, counters: list[Counters]) -> Progress:
        head, scheduler = self._head, self._scheduler
        assert head is not None
        assert scheduler is not None
        done = [shard for shard in head.shards if scheduler.is_done(shard.index)]
        slots = self._request.step.slots
        return Progress(
            rows_done=min(self._rows_before + sum(counter.rows for counter in counters), head.rows_planned),
            rows_total=head.rows_planned,
            entities_done=sum(shard.entities for shard in done),
            entities_total=head.entities,
            shards_done=len(done),
            shards_total=len(head.shards),
            replicas=scheduler.replicas_ready,
            replicas_wanted=scheduler.replicas_wanted,
            slots=slots,
            slot_steps=slots * sum(counter.steps for counter in counters),
            slot_steps_busy=sum(counter.busy_slots for counter in counters),
            stragglers=count_stragglers([one.compute_s / one.steps for one in counters if one.steps]),
            replica_deaths=scheduler.replica_deaths,
            retries=sum(scheduler.attempts.values()) - len(scheduler.attempts),
        )

    def _cut_down_buckets(self, cluster: Cluster) -> None:
        head, request = self._head, self._request
        assert head is not None
        if head.sources:
            names = [file.path for file in head.files]
            strip_buckets(StoreSpec.of(request.output), names, request.input, cluster.map)

    def _finish(self, cluster: Cluster) -> JsonObject:
        head = self._head
        assert head is not None
        publish_unowned(self._commits, head, self._request.run, self._request.output)
        self._commits.recover()
        record = self._close("done")
        bad, allowed = record["rows_quarantined"], self._request.quarantine_limit
        if record["rows_in"] and bad / record["rows_in"] > allowed:
            record = {**record, "status": "quarantine"}
            self._commits.write_run_record(record)
            self._at_end(StoreSpec.of(self._request.output))
            carry = self._request.carry
            into = "output.path and state.write" if carry is not None and carry.write is not None else "output.path"
            # A file with mended rows is another input: in the same folders its run would be refused.
            raise TooManyBadRows(
                f"{bad:,} of {record['rows_in']:,} rows ({bad / record['rows_in']:.2%}) are in quarantine, more than "
                f"the {allowed:.2%} that faults.quarantine_limit allows; {self._request.output.path}/_quarantine says "
                f"which and why: mend them and give a new {into}, or give the same command a higher limit.",
                record,
            )
        self._finish_carry(cluster)
        append_to_delta(self._commits, self._request.output, self._request.run, self._request.run_id)
        self._commits.write_run_record(record)
        self._at_end(StoreSpec.of(self._request.output))
        self._commits.succeed()
        return record

    def _finish_carry(self, cluster: Cluster) -> None:
        """Hands on what tonight's input did not name, and marks the carry-over as whole."""
        carry, store = self._request.carry, self._commits.store
        if carry is None or carry.write is None:
            return
        kept: list[tuple[str, int, str]] = []
        if carry.read is not None:
            task = HandOn(StoreSpec.of(self._request.output), carry, self._request.output.compression)
            kept = list(cluster.map(task, hand_on_parts(carry.schema, absent_counts(store, len(carry.files)))))
        parts = [
            (record.carry_file, record.carry_rows, record.carry_checksum or "")
            for record in self._commits.records()
            if record.carry_file
        ]
        self._commits.succeed_carry(make_mark(carry.schema.fingerprint, [*parts, *kept]))

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Whatever ends the session, run.json says so, as far as the run had got."""
        try:
            with _files_translated():
                yield
        except (TooManyBadRows, LockLost):
            raise
        except BaseException as error:
            if isinstance(error, RunFailed) and error.exit_code != EXIT_STOPPED:
                self._check_overtaken()
            if self._scheduler is not None:
                with suppress(SlotcarError):  # the fault that ended the run is the one to tell
                    self._commits.write_run_record(self._broken_off(error))
                    if isinstance(error, SlotcarError):  # a stop is in a hurry
                        self._at_end(StoreSpec.of(self._request.output))
            raise

    def _check_overtaken(self) -> None:
        """Raises LockLost where another driver holds the output: it has cleared away what this one then misses."""
        with suppress(StoreFault):
            self._commits.fence.check()

    def _broken_off(self, error: BaseException) -> JsonObject:
        if isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", None) == EXIT_STOPPED:
            return self._close("stopped")
        return {**self._close("failed"), "error": utf8(masked(str(error).strip())) or type(error).__name__}

    def _close(self, status: str) -> JsonObject:
        scheduler, head = self._scheduler, self._head
        assert scheduler is not None
        assert head is not None
        self._timeline.end(status, Moment(self._progress(self._counters), self._counters))
        attempts = sum(scheduler.attempts.values())
        session = Session(self._clock, self._counters, attempts, scheduler.replica_deaths, self._replica_count)
        return closing_record(self._record, status, head, self._commits.records(), session)
