"""Whether the plan has taken each row of the input once: in one shard, or skipped, or without an entity or a time.

What it decides: how a row that no shard has taken is excused. The plan's list of bad rows names it, or its time, read
again, lies outside `since` and `until`; where the run's request is not kept, their number must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowValues
from cluster.core.audit import Tally
from cluster.core.entity_keys import describe_entity
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.row_accounting import Coverage, inside
from cluster.core.settings import InputSettings
from cluster.core.times import as_plain, ordinals, parse_bound
from cluster.runtime.audit.single_files import SingleFiles
from cluster.runtime.storage.parquet_tables import BATCH_ROWS
from lstm_core.array_types import Bools, Ints


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
    file, row = _bad_places(head, bad)
    stray = np.flatnonzero(~inside(left, file, row))
    if len(stray):
        tally.fail(
            f"{head.input_files[int(file[stray[0]])].path}, row {row[stray[0]]}, is bad and in a shard", len(stray)
        )
    if head.rows_skipped and settings is not None:
        _audit_skipped(tally, head, left, (file, row), settings)


def audit_entities(tally: Tally, keys: Sequence[pa.Table]) -> None:
    """Checks that no entity is in two shards, given the keys (entity, entity columns) of each."""
    table = pa.concat_tables(keys) if keys else pa.table({})
    if table.num_rows == 0:
        return
    tally.count(table.num_rows)
    counted = table.group_by(table.column_names).aggregate([([], "count_all")])
    again = np.flatnonzero(counted.column("count_all").to_numpy() > 1)
    if len(again):
        name = describe_entity(counted.select(table.column_names), int(again[0]))
        tally.fail(f"entity {name} is in more than one shard", len(again))


def _bad_places(head: PlanHead, bad: pa.Table) -> tuple[Ints, Ints]:
    number = {file.path: index for index, file in enumerate(head.input_files)}
    names = bad.column("file").combine_chunks().dictionary_encode()
    paths = cast("list[str]", names.dictionary.to_pylist())
    files = np.array([number.get(path, -1) for path in paths], np.int64)
    return files[names.indices.to_numpy()], bad.column("row").to_numpy().astype(np.int64)


def _audit_skipped(tally: Tally, head: PlanHead, left: Ints, bad: tuple[Ints, Ints], settings: InputSettings) -> None:
    """Every row that is in no shard and not bad lies outside since and until. Reads whole files: gaps may be many."""
    files = tuple(file.path for file in head.input_files)
    groups = SingleFiles(files, (head.time[0],), cache_bytes=0, storage=settings.storage)
    for file in np.unique(left[:, 0]).tolist():
        gaps = left[slice(*np.searchsorted(left[:, 0], [file, file + 1]))]
        bad_rows = bad[1][bad[0] == file]
        for low in range(int(gaps[0, 1]), int(gaps[-1, 2]), BATCH_ROWS):
            rows = np.arange(low, min(low + BATCH_ROWS, int(gaps[-1, 2])))
            asked = inside(gaps, np.full_like(rows, file), rows) & ~np.isin(rows, bad_rows)
            if asked.any():
                times = as_plain(groups.rows(file, low, low + len(rows)).column(0))
                asked &= ~_outside(times, settings)
            if asked.any():
                row = int(rows[asked][0])
                path = head.input_files[file].path
                tally.fail(f"{path}, row {row}, is in no shard, but its time was asked for", int(asked.sum()))


def _outside(times: ArrowValues, settings: InputSettings) -> Bools:
    moment, valid = ordinals(times, first=True)
    outside = np.zeros(len(moment), np.bool_)
    if not valid.any():
        return outside
    if settings.since is not None:
        outside |= moment < parse_bound(settings.since, times.type, setting="input.since")
    if settings.until is not None:
        outside |= moment >= parse_bound(settings.until, times.type, setting="input.until")
    return outside & valid


def _place(head: PlanHead, part: Ints) -> str:
    return f"rows {part[1]} to {part[2] - 1} of {head.files[int(part[0])].path}"
