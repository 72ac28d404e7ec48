"""What must hold at every moment, seen from the disk alone: apart from the system and from the fakes.

`OutputChecker` is told of every change of the disk before the next one. It reads records as JSON and files as rows by
its own code, and knows the truth about every score. `LeaseChecker` watches what is asked of replicas and what their
slots do. A violation is an AssertionError that says what was seen.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.schedule.scheduler import LEAVES_PER_DEATH
from tests.sim.memory_store import Stored

COMMITS, SNAPSHOTS, STAGED, LOCK = (f"_slotcar/{name}/" for name in ("commits", "snapshots", "staged", "lock"))
QUARANTINE = "_quarantine/"
CARRY = "carry/"
SUCCESS = "_SUCCESS"

Record = dict[str, Any]


class OutputChecker:
    """Exactly once, in order, equal to the truth, and nothing visible that no record names, at every moment."""

    def __init__(self, files: Mapping[str, Stored], truth: Sequence[Sequence[int]], shards: Sequence[Sequence[int]]):
        self._files = files
        self._truth = truth
        self._shards = shards  # entities of each
        self._records: dict[str, bytes] = {}
        self._named: dict[str, tuple[str, int]] = {}  # visible name -> (staged name, crc), by a record
        self._sources: dict[str, str] = {}  # staged name -> visible name
        self._next_index = dict.fromkeys(range(len(shards)), 0)
        self._newest: dict[int, Record] = {}  # shard -> its newest record
        self._next_row = [0] * len(truth)
        self._last_index: dict[int, int] = {}  # entity -> newest fragment with rows of it
        self._lost: list[int | None] = [None] * len(truth)  # entity -> its first row in quarantine
        self._highest_claim = 0
        self._late_records: dict[int, int] = {}  # fence -> records that landed after a higher claim
        self.given_up: dict[int, Record] = {}  # shard -> the record that gives it up
        self.carries = False  # what entities leave behind is written too
        self._carried: dict[int, int] = {}  # entity -> rows that its carry-over tells of

    def was_put(self, name: str) -> None:
        """A file was written."""
        content = self._files[name].content
        if name.startswith(COMMITS):
            self._recorded(name, content)
        elif name.startswith(LOCK) and name.endswith(".json"):
            self._highest_claim = max(self._highest_claim, int(name[len(LOCK) : -len(".json")]))
        elif is_visible(name):
            self._shown(name)
        elif name == SUCCESS:
            self.check_whole()
        elif name == CARRY + SUCCESS:
            self.check_carried()
        elif name in self._sources:
            assert self._crc(name) == self._named[self._sources[name]][1], f"{name} is recorded and was overwritten"

    def was_removed(self, name: str) -> None:
        """A file was deleted, or lost with its node."""
        assert name not in self._records, f"the record {name} is gone"
        assert name not in self._named, f"{name} is committed and was removed"
        if name in self._sources:
            assert self._sources[name] in self._files, f"{name} is recorded, not published, and was removed"
        for record in self._newest.values():
            needed = record["snapshot"] and f"{SNAPSHOTS}{record['snapshot']}"
            assert name != needed, f"{name} is where shard {record['shard']} goes on, and was removed"

    def check_visible(self) -> None:
        """Every visible file is recorded and whole."""
        for name in self._files:
            if is_visible(name):
                self._shown(name)

    def check_whole(self) -> None:
        """The run is done: every row counted once, every record published, read again from what is visible."""
        self.check_visible()
        missing = sorted(set(self._named) - set(self._files))
        assert not missing, f"committed, but not published: {missing}"
        for entity, scores in enumerate(self._truth):
            counted = len(scores) if self._lost[entity] is not None else self._next_row[entity]
            assert counted == len(scores), f"entity {entity} ends at row {counted} of {len(scores)}"
        assert not self.carries or CARRY + SUCCESS in self._files, "the run is marked, and its carry-over is not"
        if self.carries:
            self.check_carried()
        assert self._scored() == {e: list(scores[: self._next_row[e]]) for e, scores in enumerate(self._truth)}
        assert set(self._newest) == set(range(len(self._shards)))
        assert all(record["final"] for record in self._newest.values())

    def check_carried(self) -> None:
        """Each entity has left its state behind, once, after its last scored row, and it is there to be read."""
        assert self._carried == dict(enumerate(self._next_row)), f"{self._carried} is carried, scored: {self._next_row}"
        missing = [name for name in self._named if name.startswith(CARRY) and name not in self._files]
        assert not missing, f"carry-over that is committed, but not published: {missing}"

    def _scored(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {entity: [] for entity in range(len(self._truth))}
        for name in sorted(self._files):
            if is_visible(name) and not name.startswith((QUARANTINE, CARRY)):
                for entity, row, score in json.loads(self._files[name].content):
                    assert row == len(found[entity]), f"{name}: row {row} of entity {entity} is out of order"
                    found[entity].append(score)
        return found

    def _shown(self, name: str) -> None:
        assert name in self._named, f"{name} is visible, and no record names it"
        assert self._crc(name) == self._named[name][1], f"{name} is visible, and not what its record says"

    def _crc(self, name: str) -> int:
        return zlib.crc32(self._files[name].content)

    def _recorded(self, name: str, content: bytes) -> None:
        before = self._records.get(name)
        assert before is None or before == content, f"{name} was replaced"
        if before is not None:
            return
        record = json.loads(content)
        shard, index = record["shard"], record["index"]
        assert name == f"{COMMITS}{shard:06d}-{index:05d}.json", f"{name} is the record of {shard}, {index}"
        assert index == self._next_index[shard], f"{name}: fragment {self._next_index[shard]} is missing before it"
        self._check_successor(record, self._newest.get(shard))
        self._check_fence(record["fence"], name)
        self._records[name] = content
        self._next_index[shard] += 1
        self._check_rows(record)
        self._check_quarantine(record)
        self._check_snapshot(record)
        self._check_carry(record)
        self._newest[shard] = record

    def _check_successor(self, record: Record, before: Record | None) -> None:
        if before is not None:
            assert not before["final"], f"shard {record['shard']} was final, and goes on"
            assert record["fence"] >= before["fence"], f"shard {record['shard']}: an older driver wrote after a newer"

    def _check_fence(self, fence: int, name: str) -> None:
        """Between asking the fence and writing, a driver may be stopped: one record may come late, never two."""
        if fence < self._highest_claim:
            self._late_records[fence] = self._late_records.get(fence, 0) + 1
            assert self._late_records[fence] <= 1, (
                f"{name}: driver {fence} goes on after {self._highest_claim} took over"
            )

    def _durable(self, staged: str, target: str, place: str = "") -> bytes:
        """The content of what a record names, wherever it is."""
        source, target = place + STAGED + staged, place + target
        name = source if source in self._files else target
        assert name in self._files, f"{target} is recorded, and its rows are nowhere"
        assert self._files[name].writer is None, f"{target} is recorded, and its rows are not durable"
        self._named[target] = (source, self._crc(name))
        self._sources[source] = target
        return self._files[name].content

    def _check_rows(self, record: Record) -> None:
        if record["file"] is None:
            assert record["rows"] == 0, f"{record} has rows and no file"
            return
        content = self._durable(record["staged"], record["file"])
        assert f"{zlib.crc32(content):08x}" == record["checksum"], f"{record['file']} is not what was checksummed"
        rows = json.loads(content)
        assert len(rows) == record["rows"], f"{record['file']} has {len(rows)} rows: {record}"
        for entity, row, score in rows:
            self._check_row(record, entity, row, score)

    def _check_row(self, record: Record, entity: int, row: int, score: int) -> None:
        where = f"{record['file']}, entity {entity}, row {row}"
        assert entity in self._shards[record["shard"]], f"{where}: the entity is in another shard"
        assert row == self._next_row[entity], f"{where}: row {self._next_row[entity]} was to come"
        assert score == self._truth[entity][row], f"{where}: the score is wrong"
        last = self._last_index.get(entity, record["index"])
        assert last >= record["index"] - 1, f"{where}: its rows stand in fragments {last} and {record['index']}"
        self._next_row[entity] = row + 1
        self._last_index[entity] = record["index"]

    def _check_quarantine(self, record: Record) -> None:
        if record["quarantine_file"] is None:
            assert record["rows_quarantined"] == 0, f"{record} has rows in quarantine and no file"
        else:
            assert record["final"], f"{record} is not final and has rows in quarantine"
            content = self._durable(record["quarantine_staged"], QUARANTINE + record["quarantine_file"])
            lines = json.loads(content)
            for entity, row, rows, reason in lines:
                assert row == self._next_row[entity], (
                    f"entity {entity}: quarantine from {row}, expected {self._next_row}"
                )
                assert row + rows == len(self._truth[entity]), f"entity {entity}: quarantine of {rows} rows from {row}"
                assert self._lost[entity] is None, f"entity {entity} is in quarantine twice"
                self._lost[entity] = row
                if reason != "bad":
                    self.given_up[record["shard"]] = record
            assert record["rows_quarantined"] == sum(line[2] for line in lines), record
        if record["final"]:
            ends = {e: self._next_row[e] if self._lost[e] is None else -1 for e in self._shards[record["shard"]]}
            left = {e: row for e, row in ends.items() if row >= 0 and row != len(self._truth[e])}
            assert not left, f"shard {record['shard']} is final, and entities end early: {left}"

    def _check_carry(self, record: Record) -> None:
        """What is carried over is what the fragments say, and every entity of a finished shard has left something."""
        if record["carry_file"] is not None:
            content = self._durable(record["carry_staged"], record["carry_file"], CARRY)
            assert f"{zlib.crc32(content):08x}" == record["carry_checksum"], (
                f"{record['carry_file']} was not checksummed"
            )
            for entity, rows, state in json.loads(content):
                where = f"{record['carry_file']}, entity {entity}"
                assert entity in self._shards[record["shard"]], f"{where}: the entity is in another shard"
                assert entity not in self._carried, f"{where} is carried twice"
                assert rows == self._next_row[entity], f"{where}: after {rows} rows, scored: {self._next_row[entity]}"
                assert state == (self._truth[entity][rows - 1] if rows else 0), f"{where}: the state is wrong"
                self._carried[entity] = rows
        if record["final"] and self.carries:
            without = set(self._shards[record["shard"]]) - set(self._carried)
            assert not without, f"shard {record['shard']} is final, and {without} have left nothing behind"

    def _check_snapshot(self, record: Record) -> None:
        """What a snapshot says is what the fragments say."""
        if record["final"]:
            assert record["snapshot"] is None, f"{record} is final and has a snapshot"
            return
        name = SNAPSHOTS + record["snapshot"]
        assert name in self._files, f"{name} is recorded and is not there"
        assert self._files[name].writer is None, f"{name} is recorded and not durable"
        told = {entity: (rows, state) for entity, rows, state in json.loads(self._files[name].content)}
        begun = {e: self._next_row[e] for e in self._shards[record["shard"]] if self._next_row[e]}
        expected = {e: (rows, self._truth[e][rows - 1]) for e, rows in begun.items()}
        assert told == expected, f"{name} says {told}, and the fragments {expected}"


def is_visible(name: str) -> bool:
    """True for what a reader of the output sees."""
    place = name.removeprefix(CARRY)
    return name.endswith(".parquet") and ("/" not in place or name.startswith(QUARANTINE))


class LeaseChecker:
    """Attempts only grow, a shard is given up only after enough of them, and no slot serves two entities."""

    def __init__(self, max_attempts: int, *, leaves: bool = False) -> None:
        self._max_attempts = max_attempts
        self._attempts_max = max_attempts * (LEAVES_PER_DEATH if leaves else 1)
        self._attempts: dict[tuple[int, int], int] = {}  # (fence, shard) -> newest attempt
        self._seats: dict[tuple[int, int], int] = {}  # (replica, slot) -> entity that has begun and not ended

    def assigned(self, fence: int, shard: int, attempt: int) -> None:
        """A driver handed a shard out."""
        before = self._attempts.get((fence, shard), 0)
        assert attempt > before, f"shard {shard}: attempt {attempt} after {before} under driver {fence}"
        assert attempt <= self._attempts_max, f"shard {shard}: attempt {attempt} of {self._attempts_max}"
        self._attempts[fence, shard] = attempt

    def stepped(self, replica: int, seats: Sequence[tuple[int, int, bool, bool]]) -> None:
        """One step of a replica: per busy slot (slot, entity, begins, ends)."""
        entities = [entity for _, entity, _, _ in seats]
        assert len(entities) == len(set(entities)), f"replica {replica}: one entity in two slots: {seats}"
        for slot, entity, begins, ends in seats:
            holder = self._seats.get((replica, slot))
            expected = None if begins else entity
            assert holder == expected, f"replica {replica}, slot {slot}: {entity} stepped in the seat of {holder}"
            if ends:
                self._seats.pop((replica, slot), None)
            else:
                self._seats[replica, slot] = entity

    def check_given_up(self, given_up: Mapping[int, Record]) -> None:
        """Nothing is given up early."""
        for shard, record in given_up.items():
            attempts = self._attempts.get((record["fence"], shard), 0)
            enough = self._max_attempts <= attempts <= self._attempts_max
            assert enough, f"shard {shard} was given up after {attempts} attempts"
