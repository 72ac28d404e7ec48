"""The pipeline from Parquet to staged fragments, with a sum for a model: every score tells which rows were added up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.commit import STAGED, Fragment
from cluster.core.settings import OutputSettings
from cluster.run_errors import InputBroken, NotLanded
from cluster.runtime.commit.snapshots import Snapshot, read_snapshot
from cluster.runtime.replica import pipeline as pipeline_module
from cluster.runtime.replica.feed import Feed
from cluster.runtime.replica.fragment_writer import Attempt, Destination, FragmentWriter
from cluster.runtime.replica.pipeline import QUEUE_LENGTH, Counters, Pipeline, PollReport, Saving, Stepper
from cluster.runtime.storage.local_store import LocalStore
from lstm_core.packing.packer import Packer
from tests.inputs.laid import Array, Laid, RunningSum, lay, make_arena, running_sums
from tests.inputs.series import make_series, with_nulls

pytestmark = pytest.mark.timeout(60)  # what waits for ever must fail

LENGTHS = [5, 1, 45, 9, 3, 7, 30, 2, 8, 4, 4, 12]  # two are longer than a shard
SHARD_ROWS, BLOCK_ROWS = 20, 8
NEVER_S = 1e9


@dataclass
class Job:
    """A laid-out input with everything that a pipeline needs; `run` gives what it staged."""

    laid: Laid
    output: Path
    slots: int = 3
    chunk: int = 4
    group: int = 1  # steps of a call, at most
    capacity: int = 1000
    checkpoint_s: float = NEVER_S
    rows_per_file: int = 1000
    make_model: Callable[[int], Stepper] = RunningSum
    overlap: bool = False  # pack and collect in threads of their own
    counters: Counters = field(default_factory=Counters)

    def start(self) -> Pipeline:
        arena = make_arena(self.capacity)
        packer = Packer(slots=self.slots, chunk=self.chunk)
        feed = Feed(self.laid.reader(block_rows=BLOCK_ROWS), self.laid.found, arena, packer)
        feed.group = (self.group, self.chunk)
        saving = Saving(self.writer, self.checkpoint_s)
        return Pipeline(feed, arena, self.make_model(self.slots), saving, overlap=self.overlap)

    def writer(self, attempt: Attempt) -> FragmentWriter:
        settings = OutputSettings(str(self.output), ("score",), rows_per_file=self.rows_per_file)
        return FragmentWriter(Destination(LocalStore(str(self.output)), settings, "time", "run"), attempt)

    def run(self, committed: Sequence[Fragment] = ()) -> list[Fragment]:
        """Every fragment behind those `committed`, in the order of shards; raises what a stage raised."""
        pipeline, left = self.start(), 0
        for shard in self.laid.plan.shards:
            own = [part for part in committed if part.shard == shard.index]
            if not own or not own[-1].final:
                pipeline.assign(shard, Attempt(shard.index, 2 if own else 1, len(own)), self.snapshot(own))
                left += 1
        pipeline.close()
        found: list[Fragment] = []
        while sum(fragment.final for fragment in found) < left:
            report = pipeline.report(30)
            if report.error is not None:
                raise report.error
            found += report.fragments
            self.counters = report.counters
        return sorted(found, key=lambda fragment: (fragment.shard, fragment.index))

    def snapshot(self, committed: Sequence[Fragment]) -> Snapshot | None:
        """Where an attempt behind these fragments of one shard goes on."""
        name = committed[-1].snapshot if committed else None
        return read_snapshot(LocalStore(str(self.output)), name) if name else None

    def table(self, fragments: Sequence[Fragment]) -> Any:
        """The rows of staged fragments, one after the other."""
        return pa.concat_tables(
            [pq.read_table(self.output / STAGED / (part.staged or "")) for part in fragments if part.rows]
        )


def job(folder: Path, bad: Sequence[int] = (), lengths: Sequence[int] = LENGTHS, **changes: Any) -> Job:
    table = with_nulls(make_series(lengths, extra=True), "row", bad)
    cut = ([sum(lengths) // 3, sum(lengths) - sum(lengths) // 3], [6, 11])
    return Job(lay(folder / "in", table, shard_rows=SHARD_ROWS, cut=cut, keep=("row",)), folder / "out", **changes)


def check_scores(table: Any, lengths: Sequence[int] = LENGTHS, bad: Sequence[int] = ()) -> None:
    """Each entity's rows are there up to its first bad one, each once, in order, with the sum of the rows so far."""
    numbers = np.arange(sum(lengths))
    borders = np.cumsum([0, *lengths])
    entity = np.repeat(np.arange(len(lengths)), lengths)
    ends = borders[1:].copy()
    for row in sorted(bad, reverse=True):
        ends[entity[row]] = row
    wanted = numbers[numbers < ends[entity]]
    rows = table.column("row").to_numpy()
    assert np.array_equal(np.sort(rows), wanted)
    by_entity = np.argsort(entity[rows], kind="stable")
    assert np.array_equal(rows[by_entity], wanted), "an entity's rows are out of order"
    sums = running_sums(numbers, lengths)
    assert np.array_equal(table.column("score").to_numpy(), sums[rows].astype(np.float32))


@pytest.mark.parametrize("way", [{}, {"group": 4}, {"overlap": True}, {"overlap": True, "group": 3}], ids=str)
@pytest.mark.parametrize(
    ("slots", "capacity", "chunk"), [(1, 36, 8), (3, 36, 4), (3, 1000, 1), (3, 1000, 8), (64, 1000, 4)]
)
def test_every_row_is_scored_once_in_order_with_its_own_state(
    tmp_path: Path, slots: int, capacity: int, chunk: int, way: dict[str, Any]
) -> None:
    work = job(tmp_path, slots=slots, chunk=chunk, capacity=capacity, **way)
    check_scores(work.table(work.run()))


def test_scores_do_not_depend_on_slots_or_room(tmp_path: Path) -> None:
    checksums = [
        [part.checksum for part in job(tmp_path / str(slots), slots=slots, capacity=capacity).run()]
        for slots, capacity in ((1, 36), (3, 50), (40, 1000))
    ]
    assert checksums[0] == checksums[1] == checksums[2]


SHORT = [1, 4, 2, 3, 4, 4, 1, 1, 3, 2, 4, 1, 2, 4, 3, 3, 1, 4, 2, 2, 4, 1]  # one chunk at most: what a group is for


@pytest.mark.parametrize("checkpoint_s", [NEVER_S, 0])
@pytest.mark.parametrize("bad", [(), (5, 11, 40)], ids=str)
@pytest.mark.parametrize(("slots", "group"), [(1, 4), (3, 2), (3, 16), (40, 2)])
def test_short_series_are_scored_in_groups_of_steps(
    tmp_path: Path, slots: int, group: int, bad: Sequence[int], checkpoint_s: float
) -> None:
    work = job(tmp_path, bad, SHORT, slots=slots, group=group, checkpoint_s=checkpoint_s, capacity=36)
    parts = work.run()
    check_scores(work.table(parts), SHORT, bad)
    single = job(tmp_path / "single", bad, SHORT, slots=slots, capacity=36)
    if checkpoint_s:  # where a checkpoint cuts depends on the clock
        assert single.table(single.run()).equals(work.table(parts))
        assert (work.counters.rows, work.counters.steps) == (single.counters.rows, single.counters.steps)
    half = [part for part in parts if part.index < 1]
    check_scores(work.table([*half, *work.run(half)]), SHORT, bad)


@pytest.mark.parametrize("bad", [(6,), (14,), (22,), (50,), (0, 5, 6, 51, 60, 63), range(130)], ids=str)
def test_bad_rows_end_their_entity_and_nothing_else(tmp_path: Path, bad: Sequence[int]) -> None:
    work = job(tmp_path, bad)
    parts = work.run()
    if any(part.rows for part in parts):
        check_scores(work.table(parts), bad=bad)
    scored, quarantined = sum(part.rows for part in parts), sum(part.rows_quarantined for part in parts)
    assert scored + quarantined == sum(LENGTHS)
    assert sum(part.entities_quarantined for part in parts) == len({_entity(row) for row in bad})


def _entity(row: int) -> int:
    return int(np.searchsorted(np.cumsum(LENGTHS), row, side="right"))


@pytest.mark.parametrize(("bad", "rows_per_file"), [((), 1000), ((), 16), ((22, 64), 16)])
def test_fragments_count_rows_and_entities_once(tmp_path: Path, bad: Sequence[int], rows_per_file: int) -> None:
    work = job(tmp_path, bad, rows_per_file=rows_per_file)
    parts = work.run()
    assert sum(part.entities for part in parts) == len(LENGTHS)
    assert [part.rows for part in parts if part.rows] == [
        pq.read_metadata(work.output / STAGED / part.staged).num_rows for part in parts if part.staged
    ]
    for shard in work.laid.plan.shards:
        own = [part for part in parts if part.shard == shard.index]
        assert [part.index for part in own] == list(range(len(own)))
        assert [part.final for part in own] == [False] * (len(own) - 1) + [True]


@pytest.mark.parametrize(("overlap", "group"), [(False, 1), (False, 3), (True, 1)])
@pytest.mark.parametrize("slots", [1, 3, 64])
def test_checkpoints_at_every_step_lose_nothing_and_change_nothing(
    tmp_path: Path, slots: int, overlap: bool, group: int
) -> None:
    work = job(tmp_path, slots=slots, checkpoint_s=0, overlap=overlap, group=group)
    parts = work.run()
    assert len(parts) > 2 * len(work.laid.plan.shards) / group
    check_scores(work.table(parts))


def test_a_checkpoint_of_a_long_entity_holds_its_rows_and_its_state(tmp_path: Path) -> None:
    work = job(tmp_path, lengths=[45], checkpoint_s=0)
    done = 0
    for part in work.run():
        done += part.rows
        if part.snapshot is not None:
            snapshot = read_snapshot(LocalStore(str(work.output)), part.snapshot)
            assert snapshot.rows_done.tolist() == [done]
            assert snapshot.states[0].ravel().tolist() == [done * (done - 1) / 2]
    assert done == 45


@pytest.mark.parametrize("group", [1, 2])
def test_a_checkpoint_of_a_shard_holds_the_state_of_whoever_is_under_way(tmp_path: Path, group: int) -> None:
    lengths = [9, 2, 6, 3]
    work = job(tmp_path, lengths=lengths, slots=2, checkpoint_s=0, group=group)
    begins = np.cumsum([0, *lengths])
    for part in work.run():
        if part.snapshot is None:
            continue
        snapshot = read_snapshot(LocalStore(str(work.output)), part.snapshot)
        done = snapshot.rows_done[snapshot.under_way]
        first = begins[snapshot.entity[snapshot.under_way]]
        sums = [sum(range(begin, begin + rows)) for begin, rows in zip(first, done, strict=True)]
        assert snapshot.states[0].ravel().tolist() == sums


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("bad", [(), (38,), (22, 64, 90)], ids=str)
def test_whoever_takes_over_goes_on_from_any_snapshot(tmp_path: Path, bad: Sequence[int], group: int) -> None:
    work = job(tmp_path, bad, checkpoint_s=0, group=group)
    parts = work.run()
    longest = max(part.index for part in parts)
    assert longest >= 2
    for kept in range(1, longest + 1, 5 if group == 1 else 1):
        committed = [part for part in parts if part.index < kept]
        rest = work.run(committed)
        check_scores(work.table([*committed, *rest]), bad=bad)
        assert sum(part.rows_quarantined for part in [*committed, *rest]) == sum(
            part.rows_quarantined for part in parts
        )
        assert sum(part.entities for part in [*committed, *rest]) == len(LENGTHS)


# ---- what the driver hears


def test_counters_count_real_rows_and_busy_slots(tmp_path: Path) -> None:
    work = job(tmp_path, lengths=[4, 4, 6])
    work.run()
    counters = work.counters
    assert (counters.steps, counters.rows, counters.busy_slots) == (2, 14, 4)
    assert min(counters.read_s, counters.pack_s, counters.compute_s, counters.write_s) > 0


def test_an_idle_pipeline_wants_shards_and_has_no_news(tmp_path: Path) -> None:
    report = job(tmp_path, slots=5, capacity=100).start().report(0)
    assert (report.fragments, report.error) == ((), None)
    demand = report.demand
    assert (demand.wanted_entities, demand.shards_ahead, demand.rows_free) == (10, 0, 100)
    assert demand.stream_rows == 2 * BLOCK_ROWS


def test_a_fragment_is_told_once(tmp_path: Path) -> None:
    work = job(tmp_path, lengths=[3])
    pipeline = work.start()
    pipeline.assign(work.laid.plan.shards[0], Attempt(0, 1))
    told: list[Fragment] = []
    while not told:
        told += pipeline.report(30).fragments
    assert (len(told), pipeline.report(0).fragments) == (1, ())


class Held(RunningSum):
    """A model whose steps are slow: they end when it is let go."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.go = threading.Event()

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        self.go.wait()
        return super().step(rows, reset, lengths)


class HeldOnceBegun(RunningSum):
    """A model whose steps are slow once so many series have begun, in whichever steps that was."""

    def __init__(self, slots: int, series: int) -> None:
        super().__init__(slots)
        self.go, self._to_begin = threading.Event(), series

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        if self._to_begin <= 0:
            self.go.wait()
        self._to_begin -= int((reset & (lengths > 0)).sum())
        return super().step(rows, reset, lengths)


def test_a_fragment_waits_for_other_news_while_rows_are_left_to_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "LINGER_S", NEVER_S)
    model = HeldOnceBegun(2, series=2)
    work = job(tmp_path, lengths=[4, 400], slots=2, make_model=lambda slots: model)
    pipeline = work.start()
    for shard in work.laid.plan.shards:  # of one entity each: the long one has rows left when the short one is done
        pipeline.assign(shard, Attempt(shard.index, 1))
    while pipeline.report(30).demand.shards_ahead:
        pass
    told: list[PollReport] = []
    asking = threading.Thread(target=lambda: told.append(pipeline.report(30)))
    asking.start()
    while not LocalStore(str(work.output)).list(STAGED):
        asking.join(0.01)
    assert not told
    model.go.set()
    asking.join()
    assert len(told[0].fragments) == 2


def test_nothing_waits_for_news_that_will_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "LINGER_S", NEVER_S)
    work = job(tmp_path)
    check_scores(work.table(work.run()))


def test_what_waits_for_a_slow_step_is_counted_until_it_is_done(tmp_path: Path) -> None:
    model = Held(3)
    work = job(tmp_path, lengths=[60], make_model=lambda slots: model, overlap=True)
    pipeline = work.start()
    pipeline.assign(work.laid.plan.shards[0], Attempt(0, 1))
    while pipeline.report(0.01).counters.batches_waiting < QUEUE_LENGTH:
        pass
    model.go.set()
    report = pipeline.report(30)
    while not any(fragment.final for fragment in report.fragments):
        report = pipeline.report(30)
    counters = pipeline.report(0).counters
    assert (counters.batches_waiting, counters.results_waiting, counters.cuts_waiting) == (0, 0, 0)


class Failing(RunningSum):
    """A model that runs out of memory."""

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        raise MemoryError("no memory on the device")


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_in_the_step_is_told(tmp_path: Path, overlap: bool) -> None:
    with pytest.raises(MemoryError, match="no memory on the device"):
        job(tmp_path, make_model=Failing, overlap=overlap).run()


class Located(RunningSum):
    """A model that knows the threads in which it was stepped."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.threads: set[str] = set()

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        self.threads.add(threading.current_thread().name)
        return super().step(rows, reset, lengths)


@pytest.mark.parametrize(("overlap", "thread"), [(False, "pack"), (True, "take_batches")])
def test_the_step_has_a_thread_of_its_own_where_it_overlaps(tmp_path: Path, overlap: bool, thread: str) -> None:
    models: list[Located] = []

    def make(slots: int) -> Located:
        models.append(Located(slots))
        return models[0]

    job(tmp_path, make_model=make, overlap=overlap).run()
    assert models[0].threads == {thread}


def test_an_error_in_reading_is_told(tmp_path: Path) -> None:
    work = job(tmp_path)
    Path(work.laid.files[0]).write_bytes(b"no more")
    with pytest.raises(InputBroken, match=r"part-000\.parquet is damaged"):
        work.run()


def test_an_error_in_writing_is_told(tmp_path: Path) -> None:
    work = job(tmp_path)
    (work.output / STAGED).parent.mkdir(parents=True)
    (work.output / STAGED).touch()  # no folder
    with pytest.raises(NotLanded, match="staged"):
        work.run()


# ---- planted bugs: the sums must see them


class NeverReset(RunningSum):
    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        return super().step(rows, np.zeros_like(reset), lengths)


class WrongSlot(RunningSum):
    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        return super().step(rows, np.roll(reset, 1), lengths)


class SwappedSlots(RunningSum):
    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        (sums,) = super().step(rows, reset, lengths)
        return [np.roll(sums, 1, axis=0)]


@pytest.mark.parametrize("model", [NeverReset, WrongSlot, SwappedSlots])
def test_a_wrong_state_is_seen_by_these_tests(tmp_path: Path, model: type[RunningSum]) -> None:
    work = job(tmp_path, make_model=model)
    with pytest.raises(AssertionError):
        check_scores(work.table(work.run()))
