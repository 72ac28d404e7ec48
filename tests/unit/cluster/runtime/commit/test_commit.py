"""Commits on a store that dies at any call: what is recorded is never lost, what is not recorded never shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.commit import COMMITS, QUARANTINE, SNAPSHOTS, STAGED, SUCCESS, Fragment, fragment_name
from cluster.run_errors import LockLost, MayHaveLanded, NotLanded, OutputRefused, RunFailed, StoreFault
from cluster.runtime.commit.commit import PLAN, RUN, Commits
from cluster.runtime.commit.lock import WallWatch, take_lock, this_process
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.store import Store
from tests.sim.faults import CALM, Call, Crash, FailAt, Fault, Schedule
from tests.sim.memory_store import MemoryDisk, MemoryStore

Stores = Callable[[], Store]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(str(tmp_path / "out")) if request.param == "local" else MemoryStore()


def fragment(shard: int, index: int = 0, *, final: bool = True, attempt: int = 1) -> Fragment:
    """Of shard 1 the rows of one entity are in quarantine."""
    name, bad = fragment_name("run", shard, index), shard == 1 and final
    return Fragment(
        shard=shard,
        index=index,
        attempt=attempt,
        final=final,
        file=name,
        staged=f"{name}.{attempt}",
        rows=4,
        entities=1,
        checksum="",
        time_min=None,
        time_max=None,
        quarantine_file=name if bad else None,
        quarantine_staged=f"quarantine-{name}.{attempt}" if bad else None,
    )


def stage(store: Store, fragment: Fragment) -> None:
    """What a replica does before it tells; the same rows whatever the attempt."""
    for source, target in fragment.moves():
        store.write(source, f"rows of {target}".encode())


def session(store: Store, attempt: int) -> None:
    """A run of two shards, the second one of two fragments, from wherever it stands."""
    commits = Commits(store)
    commits.prepare()
    if commits.run_record() is None:
        store.write(f"{PLAN}/plan.json", b"{}")
        commits.write_run_record({"run_id": "run", "identity": "same"})
    committed = commits.recover().committed
    for key in ((0, 0, False), (0, 1, True), (1, 0, True)):
        made = fragment(key[0], key[1], final=key[2], attempt=attempt)
        if (made.shard, made.index) not in committed:
            stage(store, made)
            commits.commit(made)
    commits.recover()
    commits.succeed()


def contents(disk: MemoryDisk) -> dict[str, bytes]:
    """The published files by name."""
    return {name: file.content for name, file in disk.files.items() if "_slotcar/" not in name}


def undisturbed() -> dict[str, bytes]:
    store = MemoryStore()
    session(store, 1)
    return contents(store.disk)


def crash_points(run: Callable[[Store], None]) -> list[tuple[int, Fault]]:
    """Every call of a run that goes well, and each way in which a process may die at it."""
    store = MemoryStore()
    run(store)
    kinds = (Fault.CRASH_BEFORE, Fault.CRASH_HALF, Fault.CRASH_AFTER)
    return [(call.number, kind) for call in store.calls for kind in kinds]


def died(disk: MemoryDisk, schedule: Schedule, run: Callable[[Store], None]) -> None:
    with pytest.raises(Crash):
        run(MemoryStore(disk, schedule))


def check_visible(disk: MemoryDisk) -> None:
    """At every moment: what shows is recorded and whole, and what is recorded is somewhere."""
    records = [Fragment.from_json(file.content.decode()) for name, file in disk.files.items() if COMMITS in name]
    moves = [move for record in records for move in record.moves()]
    shown = {name for name in contents(disk) if name.endswith(".parquet")}
    assert shown <= {target for _, target in moves}
    assert all(contents(disk)[name] == f"rows of {name}".encode() for name in shown)
    assert all(source in disk.files or target in disk.files for source, target in moves)
    assert SUCCESS not in disk.files or shown == set(undisturbed()) - {SUCCESS}


def first_session(store: Store) -> None:
    session(store, 1)


@pytest.mark.parametrize(("number", "kind"), crash_points(first_session))
def test_a_run_that_dies_at_any_call_is_finished_by_the_next_one(number: int, kind: Fault) -> None:
    disk = MemoryDisk()
    died(disk, FailAt(number, kind), first_session)
    check_visible(disk)
    session(MemoryStore(disk), 2)
    check_visible(disk)
    assert contents(disk) == undisturbed()
    assert not [name for name in disk.files if name.startswith(f"{STAGED}/")]


@pytest.mark.parametrize("kind", [Fault.CRASH_BEFORE, Fault.CRASH_HALF, Fault.CRASH_AFTER])
def test_a_run_that_dies_again_and_again_gets_there(kind: Fault) -> None:
    disk = MemoryDisk()
    for attempt in range(1, 100):
        store = MemoryStore(disk, FailAt(attempt % 17 + 3, kind))
        try:
            session(store, attempt)
        except Crash:
            check_visible(disk)
            continue
        break
    assert contents(disk) == undisturbed()


def test_committed_work_is_not_done_again(store: Store) -> None:
    session(store, 1)
    before = Commits(store).records()
    session(store, 2)
    assert Commits(store).records() == before
    assert {record.attempt for record in before} == {1}


def test_records_come_in_the_order_of_shards_and_fragments(store: Store) -> None:
    session(store, 1)
    assert [(record.shard, record.index) for record in Commits(store).records()] == [(0, 0), (0, 1), (1, 0)]


def test_a_commit_shows_scores_and_quarantine_and_leaves_nothing_staged(store: Store) -> None:
    commits, made = Commits(store), fragment(1)
    commits.prepare()
    stage(store, made)
    assert store.list("") == []
    commits.commit(made)
    assert (store.list(""), store.list(QUARANTINE), store.list(STAGED)) == ([made.file], [made.file], [])


def test_a_discarded_fragment_is_gone_and_the_committed_one_stays(store: Store) -> None:
    commits = Commits(store)
    commits.prepare()
    for attempt in (1, 2):
        stage(store, fragment(1, attempt=attempt))
    commits.commit(fragment(1, attempt=2))
    commits.discard(fragment(1, attempt=1))
    assert (store.list(STAGED), store.list(""), len(commits.records())) == ([], [fragment(1).file], 1)


def test_a_record_whose_rows_are_gone_is_refused_and_not_counted_as_done(store: Store) -> None:
    session(store, 1)
    store.remove(fragment(0).file or "")
    with pytest.raises(NotLanded, match="neither it nor"):
        Commits(store).recover()


def test_recovery_leaves_files_alone_that_no_run_has_written(store: Store) -> None:
    session(store, 1)
    store.write("notes.parquet", b"mine")
    store.write(f"{QUARANTINE}/notes.parquet", b"mine")
    Commits(store).recover()
    assert store.exists("notes.parquet")
    assert store.exists(f"{QUARANTINE}/notes.parquet")


# ---- whose output it is


def test_an_empty_output_is_anybodys(store: Store) -> None:
    Commits(store).check_foreign("run", "same")
    assert Commits(store).run_record() is None


def test_an_output_goes_on_for_its_own_run_only(store: Store) -> None:
    session(store, 1)
    Commits(store).check_foreign("run", "same")
    for run_id, identity, why in (
        ("other", "same", "nothing but its run_id, which is other here"),
        ("run", "changed", "its input, model or settings .* the time of its last change"),
    ):
        with pytest.raises(OutputRefused, match=rf"holds another run, run: .*{why}.*; .*output\.overwrite = true"):
            Commits(store).check_foreign(run_id, identity)


def test_a_folder_with_foreign_parquet_is_refused(store: Store) -> None:
    store.write("theirs.parquet", b"")
    with pytest.raises(OutputRefused, match=r"holds theirs\.parquet, which no run of slotcar has written"):
        Commits(store).check_foreign("run", "same")


def test_a_run_record_is_replaced_as_a_whole(store: Store) -> None:
    commits = Commits(store)
    commits.write_run_record({"a": 1})
    commits.write_run_record({"b": 2})
    assert commits.run_record() == {"b": 2}
    assert json.loads(store.read(RUN)) == {"b": 2}


def test_success_is_what_succeed_writes_last(store: Store) -> None:
    commits = Commits(store)
    assert not commits.succeeded()
    commits.succeed()
    assert commits.succeeded()


# ---- overwriting


def clear(store: Store) -> None:
    Commits(store).clear()


def finished_and_cleared(store: Store) -> None:
    session(store, 1)
    clear(store)


def test_clearing_removes_what_a_run_wrote_and_nothing_else(store: Store) -> None:
    session(store, 1)
    store.write("notes.txt", b"mine")
    clear(store)
    assert store.list("") == ["notes.txt"]
    assert [store.list(folder) for folder in (COMMITS, QUARANTINE, STAGED, PLAN)] == [[], [], [], []]
    assert not store.exists(RUN)


def test_clearing_an_empty_output_is_fine(store: Store) -> None:
    clear(store)
    assert store.list("") == []


def clearing_points() -> list[tuple[int, Fault]]:
    """The crash points of clearing alone, counted from its first call."""
    disk = MemoryDisk()
    session(MemoryStore(disk), 1)
    store = MemoryStore(disk)
    clear(store)
    return [(call.number, kind) for call in store.calls for kind in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)]


@pytest.mark.parametrize(("number", "kind"), clearing_points())
def test_a_clearing_that_dies_anywhere_never_leaves_an_output_that_looks_scored(number: int, kind: Fault) -> None:
    disk = MemoryDisk()
    session(MemoryStore(disk), 1)
    died(disk, FailAt(number, kind), clear)
    store = MemoryStore(disk, CALM)
    if store.exists(RUN):
        with pytest.raises(OutputRefused):
            Commits(store).check_foreign("other", "other")
    else:
        assert disk.files == {}
    assert not store.exists(f"{PLAN}/plan.json") or store.list(PLAN) == ["plan.json"]
    session(store, 2)
    assert contents(disk) == undisturbed()


@pytest.mark.parametrize(("number", "kind"), clearing_points())
def test_a_clearing_that_died_is_finished_by_the_next_one(number: int, kind: Fault) -> None:
    disk = MemoryDisk()
    session(MemoryStore(disk), 1)
    died(disk, FailAt(number, kind), clear)
    clear(MemoryStore(disk))
    assert disk.files == {}


# ---- a store that fails and goes on


def unanswered(kinds: tuple[Fault, ...], run: Callable[[Store], None]) -> list[tuple[int, Fault]]:
    """Every call of a run that writes, and each way in which it may fail without a crash."""
    store = MemoryStore()
    run(store)
    return [(call.number, kind) for call in store.calls if call.writes for kind in kinds]


@pytest.mark.parametrize(
    ("number", "kind"), unanswered((Fault.REFUSED, Fault.LOST, Fault.LANDED, Fault.HALF, Fault.LATE), first_session)
)
def test_a_write_that_fails_once_ends_in_the_same_output(number: int, kind: Fault) -> None:
    disk = MemoryDisk()
    try:
        session(MemoryStore(disk, FailAt(number, kind)), 1)
    except StoreFault:  # a failed stage or a failed removal: the run stops, and is resumed
        check_visible(disk)
        session(MemoryStore(disk), 2)
    disk.deliver()
    check_visible(disk)
    assert contents(disk) == undisturbed()


@pytest.mark.parametrize("kind", [Fault.REFUSED, Fault.LOST, Fault.LANDED, Fault.HALF])
@pytest.mark.parametrize("operation", ["put_if_absent", "publish"])
def test_a_commit_that_fails_once_is_done_again_without_a_word(operation: str, kind: Fault) -> None:
    store = MemoryStore(schedule=FailAt(1, kind, operation))
    session(store, 1)
    assert contents(store.disk) == undisturbed()
    assert {record.attempt for record in Commits(store).records()} == {1}


class Always:
    """A storage that has broken down for one kind of call."""

    def __init__(self, operation: str, kind: Fault) -> None:
        self.operation, self.kind = operation, kind

    def fault(self, call: Call) -> Fault | None:
        return self.kind if call.operation == self.operation else None


@pytest.mark.parametrize(("kind", "raised"), [(Fault.REFUSED, NotLanded), (Fault.LOST, MayHaveLanded)])
@pytest.mark.parametrize("operation", ["put_if_absent", "publish"])
def test_a_storage_that_stays_broken_ends_the_run_and_removes_nothing(
    operation: str, kind: Fault, raised: type[StoreFault]
) -> None:
    disk = MemoryDisk()
    with pytest.raises(raised):
        session(MemoryStore(disk, Always(operation, kind)), 1)
    assert f"{STAGED}/{fragment(0, final=False).staged}" in disk.files
    check_visible(disk)
    session(MemoryStore(disk), 2)
    assert contents(disk) == undisturbed()


def test_a_record_that_another_driver_has_written_ends_the_run_and_stays() -> None:
    store = MemoryStore()
    theirs, mine = fragment(0, attempt=1), fragment(0, attempt=2)
    for made in (theirs, mine):
        stage(store, made)
    Commits(store).commit(theirs)
    with pytest.raises(RunFailed, match="written by another driver"):
        Commits(store).commit(mine)
    assert [record.attempt for record in Commits(store).records()] == [1]
    assert Commits(store).recover().remove == (f"{STAGED}/{mine.staged}",)


def test_a_record_that_lands_late_still_finds_its_rows() -> None:
    """Its driver was taken for dead, and its put was under way when the next driver looked."""
    disk = MemoryDisk()
    old = MemoryStore(disk, Always("put_if_absent", Fault.LATE))
    with pytest.raises(MayHaveLanded):
        session(old, 1)
    new, made = Commits(MemoryStore(disk)), fragment(0, final=False, attempt=2)
    assert new.recover().committed == frozenset()
    disk.deliver()
    stage(new.store, made)
    with pytest.raises(RunFailed, match="another driver"):
        new.commit(made)
    session(MemoryStore(disk), 3)
    check_visible(disk)
    assert contents(disk) == undisturbed()


# ---- the fence


class Lost:
    """The lock of a driver that has been overtaken."""

    number = 7

    def check(self) -> None:
        raise LockLost("overtaken")


def test_a_driver_that_lost_its_lock_writes_nothing_more(store: Store) -> None:
    made = fragment(1)
    stage(store, made)
    store.write(f"{QUARANTINE}/{made.file}", b"a stray")
    before = {name: store.list(name) for name in ("", COMMITS, STAGED, QUARANTINE, "_slotcar")}
    commits = Commits(store, Lost())
    writes: list[Callable[[], object]] = [
        lambda: commits.commit(made),
        lambda: commits.publish_file(f"{STAGED}/{made.staged}", "part"),
        lambda: commits.write_run_record({}),
        commits.succeed,
        commits.recover,
        commits.clear,
    ]
    for write in writes:
        with pytest.raises(LockLost):
            write()
    assert {name: store.list(name) for name in before} == before


def test_a_record_carries_the_number_of_the_lock(store: Store) -> None:
    lock = take_lock(store, this_process("run"), WallWatch())
    made = fragment(0)
    stage(store, made)
    Commits(store, lock).commit(made)
    assert [record.fence for record in Commits(store).records()] == [lock.number]


# ---- snapshots


def test_the_snapshot_before_the_last_commit_goes(store: Store) -> None:
    commits = Commits(store)
    for index in range(3):
        made = replace(fragment(0, index, final=index == 2), snapshot=f"000000-{index:05d}.parquet.0-1")
        stage(store, made)
        store.write(f"{SNAPSHOTS}/{made.snapshot}", b"")
        commits.commit(made if index < 2 else replace(made, snapshot=None))
        assert len(store.list(SNAPSHOTS)) == 1
    assert commits.recover().remove == (f"{SNAPSHOTS}/000000-00002.parquet.0-1",)


def test_a_session_that_goes_on_removes_the_snapshot_it_went_on_from(store: Store) -> None:
    made = replace(fragment(0, final=False), snapshot="000000-00000.parquet.0-1")
    stage(store, made)
    store.write(f"{SNAPSHOTS}/{made.snapshot}", b"")
    Commits(store).commit(made)
    commits, last = Commits(store), fragment(0, 1)
    commits.recover()
    assert store.list(SNAPSHOTS) == [made.snapshot]
    stage(store, last)
    commits.commit(last)
    assert store.list(SNAPSHOTS) == []


def test_a_discarded_fragment_takes_its_snapshot_along(store: Store) -> None:
    made = replace(fragment(0, final=False), snapshot="000000-00000.parquet.0-1")
    stage(store, made)
    store.write(f"{SNAPSHOTS}/{made.snapshot}", b"")
    Commits(store).discard(made)
    assert store.list(SNAPSHOTS) == store.list(STAGED) == []
