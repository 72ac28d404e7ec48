"""The simulated store fails as it is told, and in no other way."""

from __future__ import annotations

import random

import pytest

from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault
from tests.sim.faults import CALM, Crash, FailAt, Fault, Seeded
from tests.sim.memory_store import MemoryDisk, MemoryStore


def failing(fault: Fault, operation: str | None = None, number: int = 0) -> MemoryStore:
    return MemoryStore(schedule=FailAt(number, fault, operation))


@pytest.mark.parametrize(
    ("fault", "raised", "landed"),
    [
        (Fault.REFUSED, NotLanded, False),
        (Fault.LOST, MayHaveLanded, False),
        (Fault.LANDED, MayHaveLanded, True),
        (Fault.LATE, MayHaveLanded, False),
        (Fault.CRASH_BEFORE, Crash, False),
        (Fault.CRASH_AFTER, Crash, True),
    ],
)
def test_a_write_fails_as_scheduled(fault: Fault, raised: type[BaseException], landed: bool) -> None:
    store = failing(fault)
    with pytest.raises(raised):
        store.put_if_absent("name", b"content")
    assert (store.find("name") == b"content") is landed


def test_a_late_write_lands_when_it_is_delivered() -> None:
    store = failing(Fault.LATE)
    with pytest.raises(MayHaveLanded):
        store.put_if_absent("name", b"late")
    assert store.put_if_absent("name", b"early")
    store.disk.deliver()
    assert store.read("name") == b"early"


@pytest.mark.parametrize(("fault", "raised"), [(Fault.HALF, MayHaveLanded), (Fault.CRASH_HALF, Crash)])
def test_a_publish_stops_between_copy_and_delete(fault: Fault, raised: type[BaseException]) -> None:
    store = failing(fault, "publish")
    store.write("staged", b"rows")
    with pytest.raises(raised):
        store.publish("staged", "part")
    assert store.read("staged") == store.read("part") == b"rows"


def test_the_nth_call_fails_and_no_other() -> None:
    store = failing(Fault.REFUSED, number=2)
    store.write("a", b"")
    store.write("b", b"")
    with pytest.raises(NotLanded):
        store.write("c", b"")
    store.write("c", b"")
    assert store.list("") == ["a", "b", "c"]


def test_a_read_that_fails_is_neither_landed_nor_not() -> None:
    store = failing(Fault.LOST)
    with pytest.raises(StoreFault) as raised:
        store.find("name")
    assert type(raised.value) is StoreFault


def test_clients_share_a_disk_and_fail_apart() -> None:
    disk = MemoryDisk()
    one, other = MemoryStore(disk, FailAt(0, Fault.REFUSED)), MemoryStore(disk, CALM)
    other.write("name", b"content")
    with pytest.raises(NotLanded):
        one.write("name", b"")
    assert one.read("name") == b"content"


def test_what_is_not_synced_is_lost_or_torn_with_its_node() -> None:
    kept: set[bytes | None] = set()
    for seed in range(20):
        disk = MemoryDisk()
        mine, others = MemoryStore(disk, writer=1), MemoryStore(disk, writer=2)
        mine.stage("synced", b"0123456789")
        mine.sync("synced")
        mine.stage("unsynced", b"0123456789")
        others.stage("others", b"0123456789")
        assert disk.lose(random.Random(seed), writer=1) == ["unsynced"]
        assert mine.read("synced") == mine.read("others") == b"0123456789"
        kept.add(mine.find("unsynced"))
    assert None in kept
    assert len(kept) > 2


def test_a_seed_gives_the_same_faults_again_and_calm_gives_none() -> None:
    def history(seed: int) -> list[str]:
        schedule = Seeded(random.Random(seed), 0.5)
        store, told = MemoryStore(schedule=schedule), []
        for number in range(50):
            schedule.calm = number >= 40
            try:
                store.write(str(number), b"")
                told.append("done")
            except (StoreFault, Crash) as fault:
                told.append(type(fault).__name__)
        return told

    assert history(1) == history(1) != history(2)
    assert set(history(1)[:40]) == {"done", "NotLanded", "MayHaveLanded", "Crash"}
    assert set(history(1)[40:]) == {"done"}
