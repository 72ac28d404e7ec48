"""Which rows are good, bad or skipped, from their entity and time columns.

A row outside since and until is skipped, whatever else is wrong with it; one without an entity or a time is bad. The
scan and the pre-pass judge alike, because both ask here. Leaves features alone: they are judged when rows are encoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.entity_keys import KEY_PREFIX
from cluster.core.plan.inventory import BAD_TIME, NULL_ENTITY, NULL_TIME
from cluster.core.settings import InputSettings
from cluster.core.times import Ordinals, as_plain, ordinals, parse_bound
from lstm_core.array_types import Bools, Ints


@dataclass(frozen=True)
class Verdict:
    """What became of the rows of a batch."""

    good: Bools  # (row,)
    skipped: int
    bad: pa.Table | None  # (bad row, key__ columns + reason + row)


@dataclass(frozen=True)
class RowChecks:
    """Judges rows of files whose first time column has one type."""

    since: int | None  # ordinals of the first time column
    until: int | None

    @staticmethod
    def of(columns: pa.Schema, settings: InputSettings) -> RowChecks:
        """A judge for files with these plain columns. Raises InputRefused for a bound that does not fit."""
        time_type = columns.field(settings.time[0]).type
        since, until = settings.since, settings.until
        if pa.types.is_null(time_type):  # no row has a time that could lie before or behind
            return RowChecks(None, None)
        return RowChecks(
            since=None if since is None else parse_bound(since, time_type, setting="input.since"),
            until=None if until is None else parse_bound(until, time_type, setting="input.until"),
        )

    def judge(self, keys: pa.Table, times: pa.Table, first_row: int) -> Verdict:
        """Entity columns and time columns of consecutive rows, in plain types."""
        moment, has_moment = ordinals(times.column(0), first=True)
        outside = has_moment & self._outside(moment)
        good = has_moment & _valid(keys) & _valid(times) & ~outside
        bad = _bad_rows(keys, times, np.flatnonzero(~good & ~outside), first_row)
        return Verdict(good, int(outside.sum()), bad)

    def _outside(self, moment: Ordinals) -> Bools:
        outside = np.zeros(len(moment), np.bool_)
        if self.since is not None:
            outside |= moment < self.since
        if self.until is not None:
            outside |= moment >= self.until
        return outside


def _bad_rows(keys: pa.Table, times: pa.Table, rows: Ints, first_row: int) -> pa.Table | None:
    if len(rows) == 0:
        return None
    null_entity, null_time = ~_valid(keys)[rows], ~_valid(times)[rows]
    reason = np.where(null_entity, NULL_ENTITY, np.where(null_time, NULL_TIME, BAD_TIME))
    taken = keys.take(rows)
    found = pa.table([as_plain(column) for column in taken.columns], [KEY_PREFIX + name for name in keys.column_names])
    found = found.append_column("reason", pa.array(reason, pa.string()))
    return found.append_column("row", pa.array(first_row + rows, pa.int64()))


def _valid(table: pa.Table) -> Bools:
    """Which rows (row,) have no null in any column."""
    valid = np.ones(table.num_rows, np.bool_)
    for column in table.columns:
        if column.null_count:
            valid &= column.is_valid().to_numpy()
    return valid
