"""Whether a place can be written: what keeps a process from it is said, and nothing is left of the try."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.core.commit import STAGED
from cluster.runtime.commit.commit import Commits
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.write_probe import PROBE, why_unwritable
from cluster.runtime.storage.write_retries import TRIES
from cluster.runtime.training.training_rows import SHUFFLED, remove_shuffled
from tests.fakes.faulty_servers import Fault as Answer
from tests.fakes.s3_server import BUCKET, S3
from tests.sim.faults import Call, Crash, FailAt, Fault
from tests.sim.memory_store import MemoryDisk, MemoryStore


@dataclass
class Lasting:
    """Every call of one operation fails."""

    operation: str
    kind: Fault = Fault.REFUSED

    def fault(self, call: Call) -> Fault | None:
        return self.kind if call.operation == self.operation else None


@dataclass
class Swept(MemoryStore):
    """A store in which somebody else's recovery comes after the first writes."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    sweeps: int = 1

    def __post_init__(self) -> None:
        super().__init__(self.disk)

    def write(self, name: str, content: bytes) -> None:
        super().write(name, content)
        if self.sweeps:
            self.sweeps -= 1
            Commits(MemoryStore(self.disk)).recover()


@pytest.mark.parametrize("operation", ["write", "remove"])
@pytest.mark.parametrize("kind", [Fault.REFUSED, Fault.LOST, Fault.LANDED])
def test_a_fault_that_passes_is_no_reason(operation: str, kind: Fault) -> None:
    store = MemoryStore(schedule=FailAt(0, kind, operation))
    assert why_unwritable(store, STAGED) is None
    assert store.disk.files == {}
    assert store.schedule.struck  # type: ignore[attr-defined]  # given above


@pytest.mark.parametrize("operation", ["write", "find", "remove"])
def test_one_that_lasts_is_told_without_a_remedy_for_the_storage(operation: str) -> None:
    why = why_unwritable(MemoryStore(schedule=Lasting(operation)), STAGED)
    assert why is not None
    assert why.startswith(f"memory:/{STAGED}/{PROBE}")
    assert "mend" not in why


def test_what_a_process_left_that_died_over_it_goes_with_the_next_recovery() -> None:
    disk, carry = MemoryDisk(), MemoryDisk()
    for place in (disk, carry):
        with pytest.raises(Crash):
            why_unwritable(MemoryStore(place, FailAt(0, Fault.CRASH_AFTER, "write")), STAGED)
        assert [name.startswith(f"{STAGED}/{PROBE}") for name in place.files] == [True]
    Commits(MemoryStore(disk), carry=MemoryStore(carry)).recover()
    assert disk.files == carry.files == {}


def test_what_is_left_where_a_training_clusters_goes_with_its_mark(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "folder"))
    for name in ("mark", f"{PROBE}0123", f".{PROBE}4567.89.tmp"):
        store.write(f"{SHUFFLED}/{name}", b"")
    remove_shuffled(StoreSpec(store.root))
    assert list(tmp_path.iterdir()) == []


def test_a_recovery_that_sweeps_it_away_is_no_reason_either() -> None:
    assert why_unwritable(Swept(), STAGED) is None
    assert "was not there to be read" in (why_unwritable(Swept(sweeps=TRIES), STAGED) or "")


def test_two_processes_try_one_place_under_two_names() -> None:
    store = MemoryStore()
    for _ in range(2):
        assert why_unwritable(store, STAGED) is None
    assert len({call.name for call in store.calls}) == 2


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "_slotcar").mkdir()
    (tmp_path / STAGED).touch()
    why = why_unwritable(LocalStore(str(tmp_path)), STAGED) or ""
    assert why.startswith(f"{tmp_path}/{STAGED}/{PROBE}")
    assert why.endswith(" could not be written (File exists)")


def test_credentials_that_only_read_are_told(s3: S3, tmp_path: Path) -> None:
    place = StoreSpec(f"s3://{BUCKET}/{tmp_path.name}", s3.options())
    s3.fail(Answer.FORBIDDEN, "PUT", f"{tmp_path.name}/{STAGED}/", times=TRIES)
    why = why_unwritable(open_store(place), STAGED) or ""
    assert why.startswith(f"s3://{BUCKET}/{tmp_path.name}/{STAGED}/{PROBE}")
    assert "could not be written (" in why
    assert why_unwritable(open_store(place), STAGED) is None
