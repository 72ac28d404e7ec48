"""The audit of carry-over: which rows were late, and whether every entity's state is kept once and fits its scores.

What it decides: that of the plan nothing is believed but where rows lie. Whom the table that was read knows is found by
keys again, late rows are counted again from the input's times, and what is written must say of each entity just as many
rows more as were scored. States are compared by `--rescore` only, through the scores that follow from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from cluster.core.audit import Tally
from cluster.core.carry import seen_column
from cluster.core.commit import STAGED, SUCCESS, Fragment
from cluster.core.row_accounting import Ledger
from cluster.run_errors import first_line
from cluster.runtime.audit.audit_rows import ShardRows
from cluster.runtime.audit.own_values import Moments, compared, moments_of, numbers_of, spelt_keys
from cluster.runtime.carry.carry_inspection import OpenTable
from cluster.runtime.carry.carry_table import make_mark, read_mark, row_checksum
from cluster.runtime.carry.carry_writer import HANDED_ON
from cluster.runtime.commit.row_checksum import RowChecksum
from cluster.runtime.commit.run_request import RequestFile
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import UNREADABLE, read_table
from lstm_core.array_types import Ints
from lstm_core.errors import SlotcarError


class CarryAudit:
    """Takes the shards one by one, in order."""

    def __init__(self, tally: Tally, request: RequestFile, keys: Sequence[pa.Table]) -> None:
        """`keys` are those of the entities (entity, entity columns) of every shard."""
        self._tally, self._keys = tally, keys
        self._fingerprint, self._drops = request.model_fingerprint, request.input.late == "drop"
        options, write = request.output.storage, request.state.write
        self._write = open_store(StoreSpec(write, options)) if write else None
        self._files: list[tuple[str, int, str]] = []  # of what was written: name, rows, checksum
        self._carried, self._seen = 0, np.zeros(0, np.int64)
        self._last: Moments | None = None  # the last times (entity,) of what was read
        self._known = [np.full(part.num_rows, -1, np.int64) for part in keys]  # row in what was read, of each entity
        if request.state.read:
            self._read(StoreSpec(request.state.read, options))

    def _read(self, spec: StoreSpec) -> None:
        try:
            table = OpenTable.of(open_store(spec))
            carried, self._seen = table.keys(), table.column(table.schema.seen).to_numpy()
            last = table.schema.last
            self._last = moments_of(pa.table([table.column(name) for name in last], names=list(last)), last)
            self._expect_as_written(table)
        except SlotcarError as error:
            return self._tally.fail(f"the carry-over that was read cannot be read again: {str(error).rstrip('.')}")
        self._carried = carried.num_rows
        if self._keys:
            names = self._keys[0].column_names
            known = spelt_keys(carried, names)
            self._known = [numbers_of(known, spelt_keys(part, names)) for part in self._keys]
        return None

    def _expect_as_written(self, table: OpenTable) -> None:
        """What was read holds the rows that were written: they decide tonight's scores. Raises InputBroken."""
        files = [(file.name, file.rows, row_checksum(table.store, file)) for file in table.files]
        told = read_mark(table.store).get("checksum")
        same = told == json.loads(make_mark(self._fingerprint, files))["checksum"]
        root = table.store.root
        self._tally.expect(same, f"the carry-over that was read, {root}, does not hold the rows that were written")

    def late(self, shard: int, rows: ShardRows) -> Ints:
        """Leading rows of a shard's entities (entity,) that an earlier run has gone past. Raises InputBroken."""
        late = np.zeros(len(rows.entity_rows), np.int64)
        if self._last is None:
            return late
        place = self._known[shard]
        entity = np.flatnonzero((place >= 0) & self._last.valid[np.maximum(place, 0)])
        first = self._behind(rows, entity, np.ones_like(entity), place)
        behind = entity[first > 0]  # as a rule nobody's first row is
        late[behind] = self._behind(rows, behind, rows.entity_rows[behind], place)
        return late

    def _behind(self, rows: ShardRows, entity: Ints, count: Ints, place: Ints) -> Ints:
        """How many of each entity's first `count` rows are not after its last one."""
        assert self._last is not None
        number = np.repeat(np.arange(len(entity)), count)
        inside = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
        if not len(number):
            return np.zeros(0, np.int64)
        less, equal = compared(rows.times(entity[number], inside), self._last.take(place[entity[number]]))
        return np.bincount(number[less | equal], minlength=len(entity))

    def skipped(self, late: Ints) -> Ints:
        """Of late rows (entity,), those that count as skipped; the others are in quarantine."""
        return late if self._drops else np.zeros_like(late)

    def shard(self, shard: int, ledger: Ledger, records: Sequence[Fragment]) -> None:
        """The files of one shard, after all its fragments: whole, and each entity once, with its rows counted."""
        if self._write is None:
            return
        found = np.zeros(len(ledger.scored), np.int64)
        place = self._known[shard]
        before = np.zeros(len(place), np.int64)
        before[place >= 0] = self._seen[place[place >= 0]]
        for record in records:
            if record.carry_file is not None:
                self._part(record, self._keys[shard], (found, before + ledger.scored))
        self._tally.count(len(found))
        wrong = np.flatnonzero(found != 1) if records[-1].final else np.flatnonzero(found > 1)
        if len(wrong):
            self._tally.fail(
                f"entity number {int(wrong[0])} of shard {shard} has {int(found[wrong[0]])} rows of carry-over, "
                "expected 1",
                len(wrong),
            )

    def _part(self, record: Fragment, keys: pa.Table, counts: tuple[Ints, Ints]) -> None:
        """A fragment's file; `counts` are the rows found so far and the rows ever seen, of each entity."""
        name, (found, seen) = str(record.carry_file), counts
        table = self._table(name, record.carry_staged)
        if table is None:
            return
        if self._files[-1][1:] != (record.carry_rows, record.carry_checksum):
            self._tally.fail(f"{name} of the carry-over does not hold the rows that {record.record_name} names")
        entity = numbers_of(spelt_keys(keys, keys.column_names), spelt_keys(table, keys.column_names))
        np.add.at(found, entity[entity >= 0], 1)
        told = table.column(seen_column(keys.column_names)).to_numpy()
        wrong = np.flatnonzero((entity < 0) | (told != seen[entity]))
        if len(wrong):
            self._tally.fail(
                f"{name} of the carry-over, row {int(wrong[0])}: its entity is of another shard, or rows_seen is not "
                "what was seen before and is scored now",
                len(wrong),
            )

    def _table(self, name: str, staged: str | None) -> pa.Table | None:
        """A file that was written, noted in `_files`; None where it cannot be read, which is said."""
        assert self._write is not None
        place = name if self._write.exists(name) or not staged else f"{STAGED}/{staged}"
        try:
            table = read_table(self._write, place)
        except UNREADABLE as error:
            self._tally.fail(f"{name} of the carry-over cannot be read: {first_line(error)}")
            return None
        checksum = RowChecksum()
        checksum.add(table)
        self._files.append((name, table.num_rows, checksum.hexdigest()))
        return table

    def close(self) -> None:
        """Of a run that is done: who was handed on, that nobody is missing, and the mark."""
        if self._write is None:
            return
        tonight = pa.concat_tables(self._keys)
        names = tonight.column_names
        for name in [name for name in self._write.list("") if name.startswith(HANDED_ON)]:
            table = self._table(name, None)
            if table is not None:
                twice = numbers_of(spelt_keys(tonight, names), spelt_keys(table, names)) >= 0
                self._tally.expect(not twice.any(), f"{name} hands on entities that tonight's input names")
        known = sum(int((place >= 0).sum()) for place in self._known)
        held, expected = sum(rows for _, rows, _ in self._files), tonight.num_rows + self._carried - known
        self._tally.expect(held == expected, f"the carry-over holds {held:,} entities, expected {expected:,}")
        mark = self._write.find(SUCCESS)
        self._tally.expect(
            _says(mark, make_mark(self._fingerprint, self._files)),
            f"{SUCCESS} of the carry-over is not there, or not the digest of its files",
        )


def _says(mark: bytes | None, expected: bytes) -> bool:
    """Whether a mark is the expected one; that of an earlier version has no checksum of each file."""
    try:
        told = json.loads(mark or b"null")
    except ValueError:
        return False
    wanted = json.loads(expected)
    if isinstance(told, dict) and "checksums" not in told:
        del wanted["checksums"]
    return bool(told == wanted)
