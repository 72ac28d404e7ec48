"""Whether the plan has taken each row of the input once: in one shard, or skipped, or without an entity or a time.

What it decides: how a row that no shard has taken is excused. It is read again: the plan's list of bad rows names it,
and it has no entity or no time, or its time lies outside `since` and `until`; where the run's request is not kept,
the number of those must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from cluster.core.audit import Tally
from cluster.core.entity_keys import describe_entity
from cluster.core.locations import Options
from cluster.core.plan.inventory import BAD_TIME
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.row_accounting import Coverage, inside
from cluster.core.settings import InputSettings
from cluster.runtime.audit.audit_rows import entities_twice
from cluster.runtime.audit.own_rows import FoundRows, OwnRows, access_of
from cluster.runtime.audit.own_times import asked_for
from cluster.runtime.audit.own_values import moments_of, spelt_keys
from lstm_core.array_types import Bools, Ints
from lstm_core.shown_text import utf8


def count_rows(tally: Tally, head: PlanHead, storage: Options) -> None:
    """Checks that the plan has as many rows of each file of the input as its footer. Raises InputBroken."""
    reader = OwnRows([file.path for file in head.input_files], (), access_of(head, storage))
    for index, file in enumerate(head.input_files):
        rows = int(reader.borders(index)[-1])
        if rows != file.rows:
            tally.fail(f"{file.path} has {rows:,} rows, but the plan has {file.rows:,}", abs(rows - file.rows))


def rows_left(tally: Tally, head: PlanHead, coverage: Coverage) -> Ints:
    """The stretches (file, first row, row behind) of the plan's files that no shard has."""
    twice, left = coverage.close(np.array([file.rows for file in head.files], np.int64))
    if len(twice):
        tally.fail(f"{_place(head, twice[0])} are in two shards", int((twice[:, 2] - twice[:, 1]).sum()))
    if head.sources and len(left):
        tally.fail(f"{_place(head, left[0])} are in no shard", int((left[:, 2] - left[:, 1]).sum()))
    return left


def audit_coverage(tally: Tally, head: PlanHead, left: Ints, bad: pa.Table, settings: InputSettings | None) -> None:
    """Checks the input's rows that no shard has, as stretches; `bad` is the plan's table of bad rows.

    Raises InputBroken.
    """
    rows = int((left[:, 2] - left[:, 1]).sum())
    tally.count(rows)
    if rows != head.rows_skipped + head.rows_bad:
        tally.fail(
            f"the plan says {head.rows_skipped:,} rows are skipped and {head.rows_bad:,} are bad, but {rows:,} "
            "are in no shard"
        )
    called_bad = _BadRows.of(head, bad)
    stray = np.flatnonzero(~inside(left, called_bad.file, called_bad.row))
    if len(stray):
        path = head.input_files[int(called_bad.file[stray[0]])].path
        tally.fail(f"{path}, row {called_bad.row[stray[0]]}, is bad and in a shard", len(stray))
    if settings is not None:
        _audit_left(tally, head, left, called_bad, settings)


def audit_entities(tally: Tally, keys: Sequence[pa.Table]) -> None:
    """Checks that no entity is in two shards, given the keys (entity, entity columns) of each."""
    tally.count(sum(table.num_rows for table in keys))
    again = entities_twice(list(keys)) if keys else []
    if again:
        shard, entity = again[0]
        tally.fail(f"entity {describe_entity(keys[shard], entity)} is in more than one shard", len(again))


@dataclass(frozen=True)
class _BadRows:
    """The plan's list of rows without an entity or a time."""

    file: Ints  # (bad row,) index into the input's files
    row: Ints  # (bad row,)
    by_time: Bools  # (bad row,) its time is none, though there is a value

    @staticmethod
    def of(head: PlanHead, bad: pa.Table) -> _BadRows:
        number = {utf8(file.path): index for index, file in enumerate(head.input_files)}
        names = bad.column("file").combine_chunks().dictionary_encode()
        files = np.array([number.get(path, -1) for path in cast("list[str]", names.dictionary.to_pylist())], np.int64)
        by_time = np.array([reason == BAD_TIME for reason in bad.column("reason").to_pylist()], np.bool_)
        return _BadRows(files[names.indices.to_numpy()], bad.column("row").to_numpy().astype(np.int64), by_time)


def _audit_left(tally: Tally, head: PlanHead, left: Ints, bad: _BadRows, settings: InputSettings) -> None:
    """Every row that is in no shard is bad, and called so, or not asked for. Reads whole files: gaps may be many."""
    files = tuple(file.path for file in head.input_files)
    access = access_of(head, settings.storage, checksums=settings.page_checksums)
    times = OwnRows(files, head.time[:1], access)
    whole = OwnRows(files, (*head.entity, *head.time), access)
    for file in np.unique(left[:, 0]).tolist():
        gaps = left[slice(*np.searchsorted(left[:, 0], [file, file + 1]))]
        of_file = np.flatnonzero(bad.file == file)
        # Most rows that are left out are too old, and their times say it: then nobody needs their entities.
        reader, row = whole if len(of_file) else times, int(gaps[0, 1])
        for found in reader.rows(file, row, int(gaps[-1, 2])):
            rows = np.arange(row, row + found.table.num_rows)
            row += found.table.num_rows
            asked = inside(gaps, np.full_like(rows, file), rows)
            if asked.any():
                excused = _excused(found, rows, (bad.row[of_file], bad.by_time[of_file]), settings)
                _say(tally, files[file], rows[asked & ~excused], set(bad.row[of_file].tolist()))


def _excused(found: FoundRows, rows: Ints, bad: tuple[Ints, Bools], settings: InputSettings) -> Bools:
    """Which rows (row,) are rightly in no shard."""
    first = moments_of(found.table, settings.time[:1])
    outside = first.valid & ~asked_for(first, found.table.column(settings.time[0]).type, settings)
    called = np.isin(rows, bad[0])
    if not called.any():
        return outside
    keys = spelt_keys(found.table, settings.entity).is_valid().to_numpy(zero_copy_only=False)
    good = keys & moments_of(found.table, settings.time).valid & found.there
    # A text may be a time for the audit and none for a run, which counts in nanoseconds of 64 bits.
    far = np.isin(rows, bad[0][bad[1]]) & first.far if first.texts else np.zeros_like(good)
    return np.where(called, ~good | far, outside)


def _say(tally: Tally, path: str, rows: Ints, called_bad: set[int]) -> None:
    if not len(rows):
        return
    row = int(rows[0])
    called = row in called_bad
    why = "is called bad, but it has an entity and a time" if called else "is in no shard, but its time was asked for"
    tally.fail(f"{path}, row {row}, {why}", len(rows))


def _place(head: PlanHead, part: Ints) -> str:
    return f"rows {part[1]} to {part[2] - 1} of {head.files[int(part[0])].path}"
