"""Commits on a store: carries out what `core.commit` decides.

Before each write that shows, the fence is asked whether this driver still holds the output. A write that did not land
is done again, at most `TRIES` times in all; one that may have landed is read back first, and nothing that it names is
removed. A record that is there already with other content was written by another driver: this one stops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypedDict, cast

from cluster.core.commit import (
    COMMITS,
    QUARANTINE,
    SNAPSHOTS,
    STAGED,
    SUCCESS,
    Fragment,
    Listing,
    Recovery,
    recover,
)
from cluster.run_errors import MayHaveLanded, NotLanded, OutputRefused, RunFailed, StoreFault, first_line
from cluster.runtime.commit.lock import Fence, Unfenced
from cluster.runtime.commit.run_json import read_object, read_run_json
from cluster.runtime.storage.store import Store
from cluster.runtime.storage.write_retries import TRIES, write_until_landed
from lstm_core.json_types import JsonObject

RUN = "_slotcar/run.json"
PLAN = "_slotcar/plan"
TIMELINE = "_slotcar/timeline"
NOW = "_slotcar/now.json"
REPORT = "_slotcar/report.html"
SHUFFLE = "_slotcar/shuffle"
OWNER = "_slotcar/run.json"  # of a carry-over: which run writes it
CARRIES = ("part-", "kept-")  # how the files of a carry-over begin


class _Owner(TypedDict):
    """Which run writes a carry-over."""

    run_id: str
    identity: str
    output: str  # where its scores go


class Commits:
    """The output's folder, seen as a log of committed fragments."""

    def __init__(self, store: Store, fence: Fence | None = None, carry: Store | None = None) -> None:
        """`carry` is the place that carry-over is written to, where it is."""
        self.store, self.carry = store, carry
        self.fence = fence or Unfenced()
        self._snapshots: dict[int, str | None] = {}  # shard -> snapshot of its newest record

    def prepare(self) -> None:
        """Makes the folders of a run."""
        for folder in (STAGED, COMMITS, SNAPSHOTS, QUARANTINE, PLAN):
            self.store.make_folder(folder)
        if self.carry is not None:
            self.carry.make_folder(STAGED)

    def commit(self, fragment: Fragment) -> None:
        """Records a staged fragment, then publishes it.

        Raises `LockLost` where another driver holds the output, `RunFailed` where one has recorded this fragment, and
        `StoreFault` where the storage does not do it: the run may then be resumed, whatever of it has landed.
        """
        fragment = replace(fragment, fence=self.fence.number)
        self._record(fragment.record_name, fragment.to_json().encode())
        self.publish(fragment)
        self._keep_snapshot(fragment)

    def publish(self, fragment: Fragment) -> None:
        """Gives a recorded fragment's files their names in the output; what is there already is left alone.

        Raises `NotLanded` where the record names a file that is nowhere.
        """
        for source, target in fragment.moves():
            _move(self.store, source, target)
        for source, target in fragment.carry_moves():
            assert self.carry is not None, f"{target} is carry-over, and there is no place for it"
            _move(self.carry, source, target)

    def publish_file(self, staged: str, target: str) -> None:
        """Gives a staged file that no record names its name in the output."""
        self.fence.check()
        _move(self.store, staged, target)

    def discard(self, fragment: Fragment) -> None:
        """Removes a staged fragment that is not to be committed; should that fail, recovery does it later."""
        names = [source for source, _ in fragment.moves()]
        # The answer that brought the newest fragment may come again: its snapshot is where the shard goes on.
        if fragment.snapshot and fragment.snapshot != self._snapshots.get(fragment.shard):
            names.append(f"{SNAPSHOTS}/{fragment.snapshot}")
        for name in names:
            with suppress(StoreFault):
                self.store.remove(name)
        for name, _ in fragment.carry_moves() if self.carry is not None else ():
            with suppress(StoreFault):
                self.carry.remove(name)  # type: ignore[union-attr]  # asked above

    def _record(self, name: str, content: bytes) -> None:
        for tries_left in reversed(range(TRIES)):
            self.fence.check()
            fault = self._put(name, content)
            if fault is None:
                return
            if not tries_left:
                raise fault

    def _put(self, name: str, content: bytes) -> StoreFault | None:
        """None where the record stands, whichever call has written it; else why it does not."""
        fault: StoreFault = NotLanded(f"{self.store.path(name)} came and went while it was written.")
        try:
            if self.store.put_if_absent(name, content):
                return None
        except NotLanded as refused:
            return refused
        except MayHaveLanded as unknown:
            fault = unknown
        found = self.store.find(name)
        if found is None or found == content:
            return fault if found is None else None
        raise RunFailed(
            f"{self.store.path(name)} has been written by another driver, with other content than this one's: expected "
            "to be the only one; this one stops, and the same command goes on from what is committed."
        )

    def _keep_snapshot(self, fragment: Fragment) -> None:
        """The snapshot before is of no use now: no attempt goes on from there."""
        before = self._snapshots.get(fragment.shard)
        self._snapshots[fragment.shard] = fragment.snapshot
        if before:
            with suppress(StoreFault):
                self.store.remove(f"{SNAPSHOTS}/{before}")

    def records(self) -> list[Fragment]:
        """Every commit record, in order. Raises `RunFailed` where one is none, or names what is no file of a run."""
        return [self._read(f"{COMMITS}/{name}") for name in self.store.list(COMMITS) if name.endswith(".json")]

    def _read(self, name: str) -> Fragment:
        try:
            record = Fragment.from_json(self.store.read(name).decode())
            if record.record_name != name:
                raise ValueError(f"it says that it is {record.record_name}")
            return record
        except ValueError as error:
            raise RunFailed(
                f"{self.store.path(name)} is no commit record that a run has written ({first_line(error)}): see who "
                "else may write there; score again with output.overwrite = true, or into another output."
            ) from None

    def recover(self) -> Recovery:
        """Brings the output in line with its records; in the end it removes the last leftovers as well."""
        published = _parts(self.store)
        published += [f"{QUARANTINE}/{name}" for name in self.store.list(QUARANTINE) if name.startswith("part-")]
        here = Listing(published, self.store.list(STAGED), self.store.list(SNAPSHOTS))
        there = None if self.carry is None else Listing(_parts(self.carry), self.carry.list(STAGED))
        records = self.records()
        recovery = recover(records, here, there)
        for fragment in recovery.publish:
            self.publish(fragment)
        self._remove(self.store, recovery.remove)
        if self.carry is not None:
            self._remove(self.carry, recovery.remove_carry)
        self.fence.check()  # a successor's replicas may be writing there
        for folder in ("", "_slotcar", COMMITS, PLAN, STAGED, SNAPSHOTS):
            self.store.sweep(folder)
        self._snapshots = {record.shard: record.snapshot for record in records}
        return recovery

    def _remove(self, store: Store, names: Sequence[str]) -> None:
        for name in names:
            self.fence.check()  # what nobody needs by an old listing, a successor may have made anew
            store.remove(name)

    def run_record(self) -> JsonObject | None:
        """The output's run.json, or None. Raises `RunFailed` where it is no record of a run."""
        return read_run_json(self.store, RUN)

    def write_run_record(self, record: JsonObject) -> None:
        """Replaces run.json."""
        self._write(RUN, json.dumps(record, indent=1).encode())

    def succeeded(self) -> bool:
        """True when the run in this output is finished."""
        return self.store.exists(SUCCESS)

    def succeed(self) -> None:
        """The last write of a run."""
        self._write(SUCCESS, b"")

    def succeed_carry(self, mark: bytes) -> None:
        """The last write of the carry-over, before that of the run."""
        assert self.carry is not None, "no carry-over is written"
        self._write(SUCCESS, mark, self.carry)

    def claim_carry(self, run_id: str, identity: str) -> None:
        """Says whose the carry-over will be, before anything of it is written. Raises `OutputRefused`."""
        if self.carry is None:
            return
        self.fence.check()
        mine = json.dumps(_Owner(run_id=run_id, identity=identity, output=self.store.root), sort_keys=True)
        with suppress(MayHaveLanded):  # read back below
            self.carry.put_if_absent(OWNER, mine.encode())
        # A mark that is there stays, though the output was taken away and its run begins again: a driver that was
        # overtaken just here would remove its successor's. Who reads counts what the mark tells of.
        self.check_carry(run_id, identity)
        if not _is_of(self._owner(), run_id, identity):
            self._write(OWNER, mine.encode(), self.carry)

    def check_carry(self, run_id: str, identity: str, *, overwrite: bool = False) -> None:
        """Refuses a carry-over that another run writes, or that nobody we know has written. Raises `OutputRefused`.

        With `overwrite` that of an earlier run into the same output may go, with its scores; so may, at any time, that
        of one that ended there before it began, as over a file of its input that has been mended since.
        """
        if self.carry is None:
            return
        root, owner = self.carry.root, self._owner()
        may_go = owner is not None and owner["output"] == self.store.root and (overwrite or self._has_not_begun())
        if owner is not None and not _is_of(owner, run_id, identity) and not may_go:
            raise OutputRefused(
                f"state.write {root} is the carry-over of another run, {owner['run_id']} into {owner['output']}: "
                f"{_why_another(owner, run_id, identity)}; choose another state.write."
            )
        if owner is None:
            _refuse_foreign(self.carry, f"state.write {root}", "state.write")

    def _owner(self) -> _Owner | None:
        """Whose the carry-over is."""
        found = None if self.carry is None else read_object(self.carry, OWNER)
        if found is not None and not all(isinstance(found.get(key), str) for key in _Owner.__annotations__):
            return _Owner(run_id="unknown", identity="", output="an output that it does not say")
        return cast("_Owner | None", found)

    def _has_not_begun(self) -> bool:
        """True where neither scores nor carry-over of a run are here: it ended while its plan was made."""
        assert self.carry is not None, "no carry-over is written"
        return not self.store.exists(RUN) and not any(name.endswith(".parquet") for name in self.carry.list(""))

    def _write(self, name: str, content: bytes, store: Store | None = None) -> None:
        place = store or self.store
        self.fence.check()
        write_until_landed(lambda: place.write(name, content), lambda: place.find(name) == content)

    def check_foreign(self, run_id: str, identity: str) -> None:
        """Refuses an output that belongs to another run, or to nobody that we know. Raises `OutputRefused`."""
        record = self.run_record()
        if record is not None and (record.get("run_id"), record.get("identity")) != (run_id, identity):
            raise OutputRefused(
                f"{self.store.root} holds another run, {record.get('run_id')}: "
                f"{_why_another(record, run_id, identity)}; choose another output.path, or set output.overwrite = true."
            )
        if record is None:
            _refuse_foreign(self.store, self.store.root, "output.path")

    def clear(self) -> None:
        """Removes what an earlier run wrote; may be broken off anywhere.

        First the mark of success and the records, so that no record ever names rows that are gone; run.json last, so
        that until then only this run, or one that overwrites, goes on here.
        """
        self.fence.check()
        self.store.remove(SUCCESS)
        if self.carry is not None:
            _clear_carry(self.carry)
        self.store.remove(f"{PLAN}/plan.json")  # says that the plan is whole
        for name in (NOW, REPORT):
            self.store.remove(name)
        for folder in (COMMITS, PLAN, SHUFFLE, STAGED, SNAPSHOTS, QUARANTINE, TIMELINE, ""):
            for name in self.store.list(folder):
                if folder or name.startswith("part-"):
                    self.store.remove(f"{folder}/{name}" if folder else name)
        self.store.remove(RUN)


def _why_another(other: Mapping[str, object], run_id: str, identity: str) -> str:
    """What tells a run from the one that is there; a name that is given does not."""
    if other.get("identity") == identity:
        return f"it differs from this one in nothing but its run_id, which is {run_id} here"
    return (
        "its input, model or settings are not those of this one (a file that was written again counts as another, "
        "since its size and the time of its last change are part of the input)"
    )


def _is_of(owner: _Owner | None, run_id: str, identity: str) -> bool:
    return owner is not None and (owner["run_id"], owner["identity"]) == (run_id, identity)


def _refuse_foreign(store: Store, place: str, setting: str) -> None:
    """Refuses a folder with tables that nobody we know has written."""
    foreign = next((name for name in store.list("") if name.endswith(".parquet")), None)
    if foreign is not None:
        raise OutputRefused(
            f"{place} holds {foreign}, which no run of slotcar has written: expected an empty or a new folder; choose "
            f"another {setting}."
        )


def _clear_carry(carry: Store) -> None:
    """Removes a carry-over: the mark first, and last whose it is."""
    carry.remove(SUCCESS)
    for folder in (STAGED, ""):
        for name in carry.list(folder):
            if folder or (name.startswith(CARRIES) and name.endswith(".parquet")):
                carry.remove(f"{folder}/{name}" if folder else name)
    carry.remove(OWNER)


def _parts(store: Store) -> list[str]:
    return [name for name in store.list("") if name.startswith("part-") and name.endswith(".parquet")]


def _move(store: Store, source: str, target: str) -> None:
    def moved() -> bool:
        return store.exists(target) and not store.exists(source)

    write_until_landed(lambda: store.publish(source, target), moved)
