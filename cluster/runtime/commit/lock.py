"""The lock on an output: carries out what `core.lock` decides, on a store, with a heartbeat.

`hold_lock` takes the lock, beats in a thread of its own, and releases it in the end however that comes. A driver that
is killed releases nothing: on the same machine its process is known to be gone, elsewhere its beat is seen to stand
still. Whether the lock still holds is read from the store each time, since a paused process knows nothing of its pause.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cluster.core.lock import (
    HEARTBEAT_S,
    LOCK,
    Claim,
    Holder,
    Newcomer,
    Refuse,
    Sight,
    Take,
    beat_name,
    claim_name,
    highest,
    outdated,
)
from cluster.run_errors import LockLost, MayHaveLanded, OutputRefused, RunFailed, StoreFault, first_line
from cluster.runtime.storage.store import Store

LOOK_S = 0.25  # between two looks at another driver's beat


class Watch(Protocol):
    """A clock that can wait."""

    def now_s(self) -> float:
        """Seconds that only grow."""

    def pause(self, seconds: float) -> None:
        """Returns after so long."""


class WallWatch:
    """The real one."""

    def now_s(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


class Fence(Protocol):
    """What a writer asks before it writes."""

    @property
    def number(self) -> int:
        """The lock's number; it only grows from driver to driver."""

    def check(self) -> None:
        """Raises `LockLost` where a higher number holds."""


class Unfenced:
    """For one who looks only, or knows that nobody else writes."""

    number = 0

    def check(self) -> None:
        """Nobody can take over what nobody holds."""


class Lock:
    """A claim that was taken. Implements `Fence`."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._beats = 0

    @property
    def number(self) -> int:
        return self._claim.number

    def check(self) -> None:
        found = highest(self._store.list(LOCK))
        if found != self.number:
            raise LockLost(
                f"{self._store.root} has been taken over by another driver{self._successor(found)}, which did not see "
                f"this one alive (process {self._claim.holder.pid} on {self._claim.holder.host}): this one stops, "
                "writes nothing more, and leaves the run to the other."
            )

    def beat(self) -> None:
        """Says that the holder is alive."""
        self._beats += 1
        self._store.write(beat_name(self.number), f"{self._beats} {_now()}".encode())

    def release(self) -> None:
        """Lets the next driver in at once."""
        self._store.write(claim_name(self.number), self._claim.released(_now()).to_json())
        self._store.remove(beat_name(self.number))

    def forget(self) -> None:
        """Takes the claim away as if it had never been; only where nothing was written under it."""
        self._store.remove(beat_name(self.number))
        self._store.remove(claim_name(self.number))
        self._store.drop_folder(LOCK)

    def _successor(self, number: int) -> str:
        content = self._store.find(claim_name(number))
        return f", {Claim.from_json(content).says()}" if content else ""


def take_lock(store: Store, holder: Holder, watch: Watch) -> Lock:
    """Takes the lock, now or when its holder is seen to be dead. Raises `OutputRefused` where the holder is alive."""
    newcomer = Newcomer()
    while True:
        sight = look_at_lock(store, watch.now_s())
        match newcomer.look(sight):
            case Refuse(claim):
                raise OutputRefused(
                    f"{store.root} is being written by another driver, run {claim.holder.run_id} in {claim.says()}, "
                    "which is alive: wait for its end, stop it, or choose another output.path."
                )
            case Take(number):
                lock = _claim(store, Claim(number, holder))
                if lock is not None:
                    return lock
            case _:
                watch.pause(LOOK_S)


def look_at_lock(store: Store, now_s: float) -> Sight:
    """What there is to see of the lock."""
    number = highest(store.list(LOCK))
    content = store.find(claim_name(number)) if number else None
    try:
        claim = Claim.from_json(content) if content else None
    except (ValueError, RecursionError) as error:
        place = store.path(claim_name(number))
        raise RunFailed(
            f"{place} is no claim of a driver ({first_line(error)}): see that no driver is alive here, remove the "
            "file, and give the same command again."
        ) from None
    beat = store.find(beat_name(number)) if number else None
    return Sight(claim, beat, now_s, holder_gone=claim is not None and is_gone(claim.holder))


def _claim(store: Store, claim: Claim) -> Lock | None:
    """The lock, where nobody else was faster."""
    if not _put(store, claim):
        return None
    names = store.list(LOCK)
    if highest(names) != claim.number:  # a number below the highest was free again: it holds nothing
        store.remove(claim_name(claim.number))
        return None
    lock = Lock(store, claim)
    lock.beat()
    for name in outdated(names, claim.number):
        store.remove(name)
    return lock


def _put(store: Store, claim: Claim) -> bool:
    try:
        if store.put_if_absent(claim_name(claim.number), claim.to_json()):
            return True
    except MayHaveLanded:
        pass
    # There is one: another's, or ours by a call whose answer was lost.
    return store.find(claim_name(claim.number)) == claim.to_json()


@contextmanager
def hold_lock(store: Store, run_id: str, watch: Watch | None = None) -> Iterator[Lock]:
    """Holds the lock in the block; see `take_lock`."""
    lock = take_lock(store, this_process(run_id), watch or WallWatch())
    ended = threading.Event()
    heart = threading.Thread(target=_beat_until, args=(ended, lock), name="slotcar-heartbeat", daemon=True)
    heart.start()
    try:
        yield lock
    finally:
        ended.set()
        heart.join()
        _leave(store, lock)


def _beat_until(ended: threading.Event, lock: Lock) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(StoreFault):  # should it last, somebody takes over, and the fence says so
            lock.beat()


def _leave(store: Store, lock: Lock) -> None:
    """Releases; a driver that wrote nothing leaves no trace. What cannot be written now, the next driver works out."""
    with suppress(StoreFault):
        if highest(store.list(LOCK)) != lock.number:
            return
        if lock.number > 1 or store.list("_slotcar"):
            lock.release()
        else:
            lock.forget()


def this_process(run_id: str) -> Holder:
    """Who we are."""
    pid = os.getpid()
    return Holder(socket.gethostname(), _machine(), pid, _began(pid) or "", run_id, secrets.token_hex(8), _now())


def is_gone(holder: Holder) -> bool:
    """True where the holder's process ran on this machine and is no more; False where it lives or nobody can know."""
    return holder.machine == _machine() and _began(holder.pid) != holder.began


def _machine() -> str:
    """Tells machines, boots and containers apart: host names are not enough where containers share one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str | None:
    """When a process began, as its kernel counts; None where there is no such process, or a dead one."""
    try:
        # The second field is the program's name in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _alive(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _alive(pid: int) -> str | None:
    """Where the kernel does not tell when a process began: whether there is one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
