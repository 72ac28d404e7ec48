"""The lock on a store: of all drivers, one; and the one that was overtaken writes nothing more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.lock import LOCK, STALE_S, Claim, Holder, beat_name, claim_name
from cluster.run_errors import LockLost, NotLanded, OutputRefused
from cluster.runtime.commit.lock import Lock, hold_lock, is_gone, take_lock, this_process
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.store import Store
from tests.sim.faults import FailAt, Fault
from tests.sim.memory_store import MemoryDisk, MemoryStore


class Hands:
    """A clock that only a pause moves; what happens meanwhile is the test's."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.seconds, self.meanwhile = 0.0, meanwhile

    def now_s(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.meanwhile()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(str(tmp_path / "out")) if request.param == "local" else MemoryStore()


def here() -> Holder:
    return this_process("run")


def elsewhere() -> Holder:
    return replace(here(), host="elsewhere", machine="another", run_id="theirs")


def test_a_free_lock_is_taken_and_holds(store: Store) -> None:
    lock = take_lock(store, here(), Hands())
    lock.check()
    assert lock.number == 1


def test_a_holder_that_beats_is_left_alone_and_named(store: Store) -> None:
    holder = elsewhere()
    lock = take_lock(store, holder, Hands())
    watch = Hands(lock.beat)
    said = f"run theirs in process {holder.pid} on elsewhere, since {holder.since}"
    with pytest.raises(OutputRefused, match=re.escape(said)):
        take_lock(store, here(), watch)
    assert watch.seconds < STALE_S
    lock.check()


def test_a_holder_elsewhere_that_stands_still_is_overtaken_and_knows_it(store: Store) -> None:
    old = take_lock(store, elsewhere(), Hands())
    watch = Hands()
    new = take_lock(store, here(), watch)
    assert (new.number, watch.seconds) == (2, STALE_S)
    with pytest.raises(LockLost, match=rf"taken over by another driver, process {os.getpid()} on"):
        old.check()
    old.beat()
    new.check()


def test_a_dead_process_of_this_machine_is_overtaken_at_once(store: Store) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    take_lock(store, replace(here(), pid=ended.pid, began="1"), Hands())
    watch = Hands()
    assert take_lock(store, here(), watch).number == 2
    assert watch.seconds == 0


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    assert not is_gone(here())
    assert is_gone(replace(here(), began="0"))
    assert not is_gone(replace(here(), began="0", machine="another"))


def test_a_dead_process_that_nobody_has_asked_after_is_gone() -> None:
    """A child that was killed and not waited for still has a number."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    holder = replace(here(), pid=child.pid, began=stat[19])
    assert not is_gone(holder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(holder)
    child.communicate()


def test_a_released_lock_is_free_at_once(store: Store) -> None:
    take_lock(store, elsewhere(), Hands()).release()
    watch = Hands()
    assert take_lock(store, here(), watch).number == 2
    assert watch.seconds == 0


def test_old_claims_are_removed_and_numbers_still_grow(store: Store) -> None:
    for number in range(1, 5):
        lock = take_lock(store, here(), Hands())
        assert lock.number == number
        lock.release()
    assert store.list(LOCK) == ["00000004.json"]


def test_of_many_drivers_at_once_exactly_one_holds(store: Store) -> None:
    gate, locks, refused = threading.Barrier(6), [], []

    def come() -> None:
        gate.wait()
        try:
            locks.append(take_lock(store, here(), Hands(lambda: locks and locks[0].beat())))
        except OutputRefused as refusal:
            refused.append(refusal)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holding = [lock for lock in locks if holds(lock)]
    assert len(holding) == 1


def holds(lock: Lock) -> bool:
    try:
        lock.check()
    except LockLost:
        return False
    return True


def test_a_late_comer_to_a_number_that_was_passed_gets_the_next_one(store: Store) -> None:
    """It saw 1, and meanwhile 2 came and went, and 3 holds: 2 is free again, and means nothing."""

    class Late(MemoryStore):
        overtaken = False

        def put_if_absent(self, name: str, content: bytes) -> bool:
            if not self.overtaken:
                self.overtaken = True
                take_lock(other, elsewhere(), Hands()).release()
                take_lock(other, elsewhere(), Hands()).release()
            return super().put_if_absent(name, content)

    disk = MemoryDisk()
    other = MemoryStore(disk)
    take_lock(other, elsewhere(), Hands()).release()
    lock = take_lock(Late(disk), here(), Hands())
    assert lock.number == 4
    assert other.list(LOCK) == ["00000004.beat", "00000004.json"]


@pytest.mark.parametrize("fault", [Fault.LANDED, Fault.LATE])
def test_a_claim_whose_answer_was_lost_is_known_again(fault: Fault) -> None:
    disk = MemoryDisk()
    store = MemoryStore(disk, FailAt(0, fault, "put_if_absent"))
    assert take_lock(store, here(), Hands()).number == 1
    disk.deliver()
    assert take_lock(MemoryStore(disk), here(), Hands()).number == 2


def test_a_claim_that_is_refused_is_a_fault() -> None:
    with pytest.raises(NotLanded):
        take_lock(MemoryStore(schedule=FailAt(0, Fault.REFUSED, "put_if_absent")), here(), Hands())


def test_a_driver_that_wrote_nothing_leaves_no_trace(tmp_path: Path) -> None:
    with hold_lock(LocalStore(str(tmp_path / "out")), "run"):
        assert (tmp_path / "out" / claim_name(1)).exists()
    assert not (tmp_path / "out").exists()


def test_a_driver_that_wrote_releases(store: Store) -> None:
    with hold_lock(store, "run") as lock:
        store.write("_slotcar/run.json", b"{}")
    claim = Claim.from_json(store.read(claim_name(lock.number)))
    assert claim.released_at is not None
    assert not store.exists(beat_name(lock.number))


def test_a_driver_that_was_overtaken_leaves_its_successors_lock_alone(store: Store) -> None:
    with hold_lock(store, "run"):
        successor = take_lock(store, replace(here(), began="0"), Hands())
        successor.beat()
    successor.check()
    assert Claim.from_json(store.read(claim_name(2))).released_at is None


def test_a_lock_is_released_whatever_ends_the_block(store: Store) -> None:
    store.write("_slotcar/run.json", b"{}")
    with pytest.raises(KeyboardInterrupt), hold_lock(store, "run"):
        raise KeyboardInterrupt
    assert take_lock(store, here(), Hands()).number == 2


def test_a_release_that_fails_hides_no_other_fault() -> None:
    store = MemoryStore()

    def work() -> None:
        with hold_lock(store, "run"):
            store.schedule = FailAt(0, Fault.LOST)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
