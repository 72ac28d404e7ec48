"""Commits on a store: carries out what `core.commit` decides."""

from __future__ import annotations

import json
from typing import Any

from cluster.core.commit import COMMITS, QUARANTINE, SNAPSHOTS, STAGED, SUCCESS, Fragment, Recovery, recover
from cluster.errors import OutputRefused
from cluster.runtime.store import Store

RUN = "_slotcar/run.json"
PLAN = "_slotcar/plan"


class Commits:
    """The output's folder, seen as a log of committed fragments."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def prepare(self) -> None:
        """Makes the folders of a run."""
        for folder in (STAGED, COMMITS, SNAPSHOTS, QUARANTINE, PLAN):
            self.store.make_folder(folder)

    def commit(self, fragment: Fragment) -> None:
        """Records a staged fragment, then publishes it."""
        self.store.write(fragment.record_name, fragment.to_json().encode())
        self.publish(fragment)

    def publish(self, fragment: Fragment) -> None:
        """Gives a recorded fragment's files their names in the output; what is there already is left alone.

        Raises `NotLanded` where the record names a file that is nowhere.
        """
        for source, target in fragment.moves():
            self.store.publish(source, target)

    def discard(self, fragment: Fragment) -> None:
        """Removes a staged fragment that is not to be committed."""
        for source, _ in fragment.moves():
            self.store.remove(source)

    def records(self) -> list[Fragment]:
        """Every commit record, in order."""
        names = [name for name in self.store.list(COMMITS) if name.endswith(".json")]
        return [Fragment.from_json(self.store.read(f"{COMMITS}/{name}").decode()) for name in names]

    def recover(self) -> Recovery:
        """Brings the output in line with its records."""
        published = [name for name in self.store.list("") if name.startswith("part-") and name.endswith(".parquet")]
        published += [f"{QUARANTINE}/{name}" for name in self.store.list(QUARANTINE) if name.startswith("part-")]
        recovery = recover(self.records(), published, self.store.list(STAGED), self.store.list(SNAPSHOTS))
        for fragment in recovery.publish:
            self.publish(fragment)
        for name in recovery.remove:
            self.store.remove(name)
        return recovery

    def run_record(self) -> dict[str, Any] | None:
        """The output's run.json, or None."""
        return json.loads(self.store.read(RUN)) if self.store.exists(RUN) else None

    def write_run_record(self, record: dict[str, Any]) -> None:
        """Replaces run.json."""
        self.store.write(RUN, json.dumps(record, indent=1).encode())

    def succeeded(self) -> bool:
        """True when the run in this output is finished."""
        return self.store.exists(SUCCESS)

    def succeed(self) -> None:
        """The last write of a run."""
        self.store.write(SUCCESS, b"")

    def check_foreign(self, run_id: str, identity: str) -> None:
        """Refuses an output that belongs to another run, or to nobody that we know. Raises `OutputRefused`."""
        record = self.run_record()
        if record is not None and (record["run_id"], record["identity"]) != (run_id, identity):
            raise OutputRefused(
                f"{self.store.root} holds another run, {record['run_id']}, expected {run_id} over the same input, "
                "model and settings, or an empty folder; choose another output.path or set output.overwrite = true."
            )
        foreign = [name for name in self.store.list("") if name.endswith(".parquet")] if record is None else []
        if foreign:
            raise OutputRefused(
                f"{self.store.root} holds {foreign[0]}, which no run of slotcar has written: expected an empty or "
                "a new folder; choose another output.path."
            )

    def clear(self) -> None:
        """Removes what an earlier run wrote; may be broken off anywhere.

        First the mark of success and the records, so that no record ever names rows that are gone; run.json last, so
        that until then only this run, or one that overwrites, goes on here.
        """
        self.store.remove(SUCCESS)
        self.store.remove(f"{PLAN}/plan.json")  # says that the plan is whole
        for folder in (COMMITS, PLAN, STAGED, SNAPSHOTS, QUARANTINE, ""):
            for name in self.store.list(folder):
                if folder or name.startswith("part-"):
                    self.store.remove(f"{folder}/{name}" if folder else name)
        self.store.remove(RUN)
