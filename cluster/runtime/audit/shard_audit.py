"""The audit of one shard: its fragments and quarantine files, in order, against the input's rows.

What it decides: what a broken file means. A file that cannot be read, or whose columns are others, is one failure of
the check that is named after it; its rows count as absent, and the checks that come after say so. A row of a window
counts for as many rows as it says, and must begin where the one before it ended. Leaves to its caller which files
belong to the shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from cluster.core.audit import Tallies
from cluster.core.commit import Fragment
from cluster.core.entity_keys import describe_entity
from cluster.core.own_columns import line_column
from cluster.core.row_accounting import Ledger
from cluster.core.settings import WINDOW_ROWS, WINDOW_START, InputSettings, Tail
from cluster.core.times import TimeBounds
from cluster.core.value_texts import text_of
from cluster.run_errors import InputBroken, first_line
from cluster.runtime.audit.audit_rows import ShardRows, TimeOrder
from cluster.runtime.audit.carry_audit import CarryAudit
from cluster.runtime.audit.own_times import asked_for
from cluster.runtime.audit.own_values import Moments, differing, moments_of
from cluster.runtime.commit.row_checksum import RowChecksum, canonical_table
from cluster.runtime.storage import parquet_tables
from cluster.runtime.storage.parquet_tables import read_batches
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Ints

UNREADABLE = (*parquet_tables.UNREADABLE, KeyError)


@dataclass(frozen=True)
class Windows:
    """What a run's windows are, where there is one score for each."""

    rows: int
    tail: Tail

    @staticmethod
    def of(settings: InputSettings | None) -> Windows | None:
        """As the run was asked for."""
        return None if settings is None or settings.window is None else Windows(settings.window, settings.tail)


@dataclass
class _Found:
    """What a fragment's file holds, as far as it was read."""

    checksum: RowChecksum = field(default_factory=RowChecksum)
    rows: int = 0
    times: TimeBounds = field(default_factory=TimeBounds)

    def add(self, batch: pa.RecordBatch, time: str) -> None:
        self.checksum.add(batch)
        self.rows += batch.num_rows
        self.times.add(batch.column(time))

    def differences(self, record: Fragment) -> str:
        """How the record tells it otherwise; empty where it does not."""
        earliest, latest = (
            None if time is None else text_of(time) for time in (self.times.earliest, self.times.latest)
        )
        told = {
            "rows": (self.rows, record.file_rows),
            "checksum": (self.checksum.hexdigest(), record.checksum),
            "earliest time": (earliest, record.time_min),
            "latest time": (latest, record.time_max),
        }
        return "; ".join(f"{name} {here}, recorded {there}" for name, (here, there) in told.items() if here != there)


class ShardAudit:
    """Takes a shard's records in order."""

    def __init__(
        self, tallies: Tallies, rows: ShardRows, shard: int, store: Store, settings: InputSettings | None = None
    ) -> None:
        """`settings` are those that the run was asked for, where they are kept."""
        self._tallies, self._rows, self._shard, self._store = tallies, rows, shard, store
        self._settings, self._windows = settings, Windows.of(settings)
        self._order = TimeOrder()
        self._fragments = 0  # those that have rows
        self._input_is_broken = False
        self.ledger = Ledger(rows.entity_rows)

    def expect_late(self, carry: CarryAudit) -> None:
        """Before the first fragment: each entity's late rows, which no fragment has."""
        try:
            late = carry.late(self._shard, self._rows)
        except InputBroken as error:
            self._input_is_broken = True
            return self._tallies["input"].fail(str(error).rstrip("."))
        self.ledger.late, self.ledger.skipped = late, carry.skipped(late)
        return None

    def fragment(self, record: Fragment, place: str | None) -> None:
        """A fragment's file, None where there is none: whole, as recorded, and its rows those of the input."""
        tally, found = self._tallies["fragments"], _Found()
        if not tally.expect(place is not None, f"{record.file} is not there, but {record.record_name} names it"):
            return
        assert place is not None
        try:
            for batch in read_batches(self._store, place):
                self._place(batch, record, found.rows)
                found.add(batch, self._rows.time[0])
        except UNREADABLE as error:
            return tally.fail(f"{record.file} cannot be read as its record says: {first_line(error)}")
        differences = found.differences(record)
        if differences:
            tally.fail(f"{record.file} does not hold the rows that {record.record_name} names: {differences}")
        self._fragments += 1

    def quarantine(self, record: Fragment, place: str | None) -> None:
        """A quarantine file, None where there is none."""
        tally, name = self._tallies["quarantine"], record.quarantine_file
        if not tally.expect(place is not None, f"_quarantine/{name} is not there, but {record.record_name} names it"):
            return
        assert place is not None
        try:
            table = parquet_tables.read_table(self._store, place)
            entity = self._rows.numbers(table)
            rows = line_column(table, "rows").to_numpy().astype(np.int64)
        except UNREADABLE as error:
            return tally.fail(f"_quarantine/{name} cannot be read: {first_line(error)}")
        # An entity may have two lines: late rows, and a bad one.
        entities = len(np.unique(entity[entity >= 0])) + int((entity < 0).sum())
        here, recorded = (int(rows.sum()), entities), (record.rows_quarantined, record.entities_quarantined)
        if here != recorded:
            tally.fail(
                f"_quarantine/{name} holds {here[0]:,} rows of {here[1]:,} entities, but {record.record_name} names "
                f"{recorded[0]:,} of {recorded[1]:,}"
            )
        np.add.at(self.ledger.quarantined, entity[entity >= 0], rows[entity >= 0])
        self._expect_known(entity, table, f"_quarantine/{name}", 0)

    def close(self, *, done: bool, entities_recorded: int) -> None:
        """After the shard's last record: every row once, or, of a shard that is not done, none twice."""
        ledger, tally = self.ledger, self._tallies["exactly once"]
        if done and self._windows is not None and self._windows.tail == "drop":
            ledger.skip_tails(self._windows.rows)
        tally.count(int(ledger.entity_rows.sum()) if done else int(ledger.scored.sum()))
        wrong = np.flatnonzero(ledger.left != 0 if done else ledger.left < 0)
        if len(wrong):
            entity = int(wrong[0])
            tally.fail(
                f"entity {self._name(entity)} has {ledger.entity_rows[entity]:,} rows in the input, but "
                f"{ledger.scored[entity]:,} in scores, {ledger.quarantined[entity]:,} in quarantine and "
                f"{ledger.skipped[entity]:,} skipped",
                int(np.abs(ledger.left[wrong]).sum()),
            )
        scored = np.flatnonzero(self._rows.lost & (ledger.scored > 0))
        if len(scored):
            tally.fail(f"entity {self._name(int(scored[0]))} has scores, but a file of it cannot be read", len(scored))
        found = int(np.count_nonzero(ledger.scored))
        self._tallies["totals"].expect(
            found == entities_recorded,
            f"shard {self._shard} has scores of {found:,} entities, but its records say {entities_recorded:,}",
        )

    def _place(self, batch: pa.RecordBatch, record: Fragment, before: int) -> None:
        """Finds each row's place in the input; `before` are the file's rows before the batch."""
        entity, name = self._rows.numbers(batch), str(record.file)
        self._expect_known(entity, batch, name, before)
        rows = np.flatnonzero(entity >= 0)
        entity, times = entity[rows], moments_of(batch, self._rows.time).take(rows)
        covers = batch.column(WINDOW_ROWS).to_numpy().astype(np.int64)[rows] if self._windows else None
        position, apart = self.ledger.take(entity, self._fragments, covers)
        order = self._tallies["order"]
        order.count(len(rows))
        if len(apart):
            order.fail(f"entity {self._name(int(apart[0]))} goes on in {name}, but not in the one before", len(apart))
        falls = self._order.falls(entity, times)
        if len(falls):
            row = int(falls[0])
            order.fail(
                f"{name}, row {before + rows[row]}: entity {self._name(int(entity[row]))} has "
                f"{times.show(row)} after a later time",
                len(falls),
            )
        planned = np.flatnonzero(position < self._rows.entity_rows[entity])
        self._expect_planned(entity, position, times, (name, before + rows))
        found = (entity[planned], position[planned], (name, before + rows[planned]))
        self._compare(*found[:2], times.take(planned), found[2])
        self._audit_bounds(batch.schema.field(self._rows.time[0]).type, entity, times, (name, before + rows))
        if covers is not None:
            starts = moments_of(batch, [WINDOW_START]).take(rows[planned])
            self._audit_windows(found, covers[planned], starts)

    def _expect_planned(self, entity: Ints, position: Ints, times: Moments, place: tuple[str, Ints]) -> None:
        beyond = np.flatnonzero(position >= self._rows.entity_rows[entity])
        if len(beyond):
            row = int(beyond[0])
            rows = self._rows.entity_rows[entity[row]]
            self._tallies["times"].fail(
                f"{place[0]}, row {place[1][row]}: entity {self._name(int(entity[row]))} has {times.show(row)}, which "
                f"is one row more than the {rows:,} that it has in the input, late ones included",
                len(beyond),
            )

    def _audit_bounds(self, kind: pa.DataType, entity: Ints, times: Moments, place: tuple[str, Ints]) -> None:
        """Scored rows must have been asked for; `kind` is the type of the first time column."""
        if self._settings is None:
            return
        wrong = np.flatnonzero(~asked_for(times, kind, self._settings))
        if len(wrong):
            row = int(wrong[0])
            self._tallies["times"].fail(
                f"{place[0]}, row {place[1][row]}: entity {self._name(int(entity[row]))} has {times.show(row)}, which "
                "is not between since and until",
                len(wrong),
            )

    def _audit_windows(self, found: tuple[Ints, Ints, tuple[str, Ints]], covers: Ints, starts: Moments) -> None:
        """Windows, as entity, last row and place: each whole, or its entity's last, and with its first row's time."""
        assert self._windows is not None
        (entity, position, place), whole = found, self._windows.rows
        first = position - covers + 1
        fits = (covers > 0) & (covers <= whole) & ((first - self.ledger.late[entity]) % whole == 0)
        if self._windows.tail == "drop":
            fits &= covers == whole
        wrong = np.flatnonzero(~fits)
        if len(wrong):
            row = int(wrong[0])
            self._tallies["exactly once"].fail(
                f"{place[0]}, row {place[1][row]}: a window of {covers[row]} rows ends at row {position[row]} of "
                f"entity {self._name(int(entity[row]))}, where windows have {whole}",
                len(wrong),
            )
        else:
            self._compare(entity, first, starts, place)

    def _compare(self, entity: Ints, position: Ints, times: Moments, place: tuple[str, Ints]) -> None:
        """Scored rows against the input's, by entity and position; `times` may have the first column only."""
        if self._input_is_broken:
            return
        try:
            wanted = self._rows.times(entity, position)
            wanted = wanted if len(times.styles) == len(wanted.styles) else wanted.first
        except InputBroken as error:
            self._input_is_broken = True  # said once: its other rows would only say it again
            return self._tallies["input"].fail(str(error).rstrip("."))
        tally = self._tallies["times"]
        tally.count(len(entity))
        wrong = np.flatnonzero(differing(times, wanted))
        if len(wrong):
            row = int(wrong[0])
            tally.fail(
                f"{place[0]}, row {place[1][row]}: entity {self._name(int(entity[row]))} has {times.show(row)}, but "
                f"row {position[row]} of it in the input has {wanted.show(row)}",
                len(wrong),
            )

    def _expect_known(self, entity: Ints, table: pa.Table | pa.RecordBatch, name: str, before: int) -> None:
        unknown = np.flatnonzero(entity < 0)
        if len(unknown):
            row = int(unknown[0])
            keys = canonical_table(table, self._rows.keys.column_names)
            self._tallies["exactly once"].fail(
                f"{name}, row {before + row}: entity {describe_entity(keys, row)} is not in shard {self._shard}",
                len(unknown),
            )

    def _name(self, entity: int) -> str:
        return describe_entity(self._rows.keys, entity)
