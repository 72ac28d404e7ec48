"""What a report says of a run, gathered from its output alone: figures, no layout.

What it decides: how much is read. Records, timeline and plan are small. The lengths of entities need the plan's
extents and the distribution of scores the fragments, both read a part at a time; `rows_max` bounds the rows so
looked at, evenly spread over the output, so that the report at the end of a run of any size takes seconds. A run's
earlier one is the folder beside it that was finished last before it and has the same score columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.commit import QUARANTINE, Fragment
from cluster.core.entity_keys import python_value
from cluster.core.histogram import Histogram, distance, length_bins
from cluster.core.plan.shard_plan import PlanHead, entity_keys
from cluster.runtime.commit.commit import RUN, Commits
from cluster.runtime.commit.run_request import RequestFile, read_request
from cluster.runtime.plan.plan_files import Extents, has_plan, read_plan
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.store import Store
from cluster.runtime.watch.timeline import read_timeline
from lstm_core.array_types import Ints
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.json_types import JsonObject

LONGEST_COUNT = 10
LONGEST_SHARDS = 10  # shards stand longest entity first, so the longest entities are in the first ones
REASONS_MAX = 50

Item = TypeVar("Item")


@dataclass(frozen=True)
class Entity:
    """One of the longest entities: the longest one sets how long a run takes at least."""

    key: str
    rows: int
    shard: int


@dataclass(frozen=True)
class Lengths:
    """How long the entities are, of those looked at."""

    bins: Ints  # (bin,): see `length_bins`
    looked_at: int
    longest: tuple[Entity, ...]


@dataclass(frozen=True)
class ScoreColumn:
    """One score column, and the same of the earlier run."""

    name: str
    now: Histogram
    before: Histogram | None

    @property
    def drift(self) -> float | None:
        """The distance of the two."""
        return None if self.before is None else distance(self.now, self.before)


@dataclass(frozen=True)
class Reason:
    """Rows in quarantine for one reason."""

    reason: str
    rows: int
    entities: int
    example: str  # one of the entities


@dataclass(frozen=True)
class ReportFigures:
    """All that a report shows."""

    output: str
    record: JsonObject  # run.json
    request: RequestFile | None
    head: PlanHead | None
    fragments: tuple[Fragment, ...]
    lines: tuple[JsonObject, ...]  # of the timeline
    lengths: Lengths | None
    scores: tuple[ScoreColumn, ...]
    scores_looked_at: int  # rows
    against: str | None  # the earlier run's output
    quarantine: tuple[Reason, ...]


def gather_figures(
    output: str | StoreSpec, *, against: str | None = None, rows_max: int | None = None
) -> ReportFigures:
    """The figures of the run in `output`, and of the scores `against` another. Raises `UsageError` where is no run."""
    store = open_store(StoreSpec.named(output))
    commits = Commits(store)
    record = commits.run_record()
    if record is None:
        raise UsageError(f"{store.root} holds no run of slotcar that has begun: expected its output.path.")
    head = read_plan(store) if has_plan(store) else None
    request, fragments = read_request(store), tuple(commits.records())
    names = request.output.names if request else ()
    other = _other(store, against, names)
    before = None if other is None else _scored(other, Commits(other).records(), rows_max)
    columns, looked_at = _scores(_scored(store, fragments, rows_max), before, names)
    return ReportFigures(
        output=store.root,
        record=record,
        request=request,
        head=head,
        fragments=fragments,
        lines=tuple(read_timeline(store)),
        lengths=_lengths(store, head, rows_max) if head is not None else None,
        scores=columns,
        scores_looked_at=looked_at,
        against=other.root if other else None,
        quarantine=_quarantine(store),
    )


# ---- lengths


def _lengths(store: Store, head: PlanHead, rows_max: int | None) -> Lengths:
    shards = [shard.index for shard in _spread(head.shards, [shard.entities for shard in head.shards], rows_max)]
    bins, longest, plan = np.zeros(0, np.int64), [], Extents(store)
    for index in sorted({*shards, *range(min(LONGEST_SHARDS, len(head.shards)))}):
        extents = plan.of(index)
        entity = extents.column("entity").to_numpy()
        begin = np.flatnonzero(np.append(True, entity[1:] != entity[:-1]))
        rows = np.add.reduceat(extents.column("row_count").to_numpy(), begin)
        if index in set(shards):
            bins = _sum(bins, length_bins(rows))
        if index < LONGEST_SHARDS:
            longest += _longest(extents, begin, rows, index)
    longest.sort(key=lambda one: -one.rows)
    return Lengths(bins, int(bins.sum()), tuple(longest[:LONGEST_COUNT]))


def _longest(extents: pa.Table, begin: Ints, rows: Ints, shard: int) -> list[Entity]:
    first = np.argsort(-rows, kind="stable")[:LONGEST_COUNT]
    keys = entity_keys(extents.take(begin[first]))
    return [Entity(_key(keys, row), int(count), shard) for row, count in enumerate(rows[first])]


def _key(keys: pa.Table, row: int) -> str:
    return ", ".join(str(python_value(column[row])) for column in keys.columns)


def _sum(first: Ints, second: Ints) -> Ints:
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _spread(items: Sequence[Item], sizes: Sequence[int], size_max: int | None) -> list[Item]:
    """Of the items as many as fit, evenly spaced; at least one where there is one."""
    total = sum(sizes)
    if size_max is None or total <= size_max:
        return list(items)
    wanted = max(1, len(items) * size_max // total)
    return [items[index * len(items) // wanted] for index in range(wanted)]


# ---- scores


@dataclass(frozen=True)
class _Scored:
    """The score files of a run that are looked at."""

    store: Store
    files: tuple[str, ...]


def _scored(store: Store, fragments: Sequence[Fragment], rows_max: int | None) -> _Scored:
    there = [fragment for fragment in fragments if fragment.file]
    chosen = _spread(there, [fragment.file_rows for fragment in there], rows_max)
    return _Scored(store, tuple(str(fragment.file) for fragment in chosen))


def _scores(now: _Scored, before: _Scored | None, names: Sequence[str]) -> tuple[tuple[ScoreColumn, ...], int]:
    bounds = _bounds([scored for scored in (now, before) if scored is not None], names)
    mine, rows = _count(now, bounds)
    others, _ = _count(before, bounds) if before is not None else ({}, 0)
    return tuple(ScoreColumn(name, mine[name], others.get(name)) for name in bounds), rows


def _bounds(runs: Sequence[_Scored], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Least and largest score per column, as the footers say; columns without any are left out."""
    found: dict[str, list[float]] = {}
    for footer in (parquet.metadata for run in runs for parquet in _open(run)):
        for group in range(footer.num_row_groups):
            for index in range(footer.num_columns):
                column = footer.row_group(group).column(index)
                stats = column.statistics
                if column.path_in_schema in names and stats is not None and stats.has_min_max:
                    pair = cast("tuple[float, float]", (stats.min, stats.max))  # there are both, where there is one
                    found.setdefault(column.path_in_schema, []).extend(map(float, pair))
    return {name: (min(found[name]), max(found[name])) for name in names if np.isfinite(found.get(name, np.nan)).all()}


def _count(run: _Scored, bounds: dict[str, tuple[float, float]]) -> tuple[dict[str, Histogram], int]:
    counted = {name: Histogram.between(*pair) for name, pair in bounds.items()}
    rows = 0
    for parquet in _open(run):
        for batch in parquet.iter_batches(batch_size=1 << 20, columns=list(counted)):
            rows += batch.num_rows
            for name, distribution in counted.items():
                distribution.add(batch.column(name).to_numpy(zero_copy_only=False))
    return counted, rows


def _open(run: _Scored) -> Iterator[pq.ParquetFile]:
    for name in run.files:
        with run.store.open_input(name) as file, pq.ParquetFile(file) as parquet:
            yield parquet


# ---- the earlier run


def _other(store: Store, against: str | None, names: Sequence[str]) -> Store | None:
    if against is not None:
        other = open_store(StoreSpec.named(against))
        if not other.exists(RUN):
            raise UsageError(f"{other.root} holds no run of slotcar to compare with: expected its output.path.")
        return other
    return _earlier(store, names)


def _earlier(store: Store, names: Sequence[str]) -> Store | None:
    """The folder beside this one that was finished last before it; None in a store whose folders cannot be listed."""
    began = (Commits(store).run_record() or {}).get("started_at")
    found: list[tuple[str, str]] = []
    here = Path(store.root)
    for run in here.parent.glob(f"*/{RUN}") if here.is_absolute() else ():
        place = run.parents[1]
        ended = _ended(place, names) if place != here else None
        if ended is not None and began is not None and ended <= began:
            found.append((ended, str(place)))
    return open_store(StoreSpec(max(found)[1])) if found else None


def _ended(place: Path, names: Sequence[str]) -> str | None:
    """When the run there was finished, where it was and has these scores."""
    try:
        other = open_store(StoreSpec(str(place)))
        request, record = read_request(other), Commits(other).run_record()
    except (SlotcarError, json.JSONDecodeError):
        return None
    same = request is not None and request.output.names == tuple(names)
    return record.get("finished_at") if same and record and record.get("status") == "done" else None


# ---- quarantine


def _quarantine(store: Store) -> tuple[Reason, ...]:
    counts: dict[str, Reason] = {}
    for name in store.list(QUARANTINE):
        with store.open_input(f"{QUARANTINE}/{name}") as file:
            for reason in _reasons(pq.read_table(file)):
                seen = counts.get(reason.reason, Reason(reason.reason, 0, 0, reason.example))
                rows, entities = seen.rows + reason.rows, seen.entities + reason.entities
                counts[reason.reason] = Reason(reason.reason, rows, entities, seen.example)
    return tuple(sorted(counts.values(), key=lambda reason: -reason.rows))[:REASONS_MAX]


def _reasons(table: pa.Table) -> Iterable[Reason]:
    own = ("reason", "rows", "file", "row", "time")
    keys = [name for name in table.column_names if name not in own]
    grouped = table.group_by("reason", use_threads=False).aggregate(
        [("rows", "sum"), ("rows", "count"), *((key, "first") for key in keys)]
    )
    examples = grouped.select([f"{key}_first" for key in keys])
    for row, line in enumerate(grouped.select(["reason", "rows_sum", "rows_count"]).to_pylist()):
        yield Reason(str(line["reason"]), int(line["rows_sum"]), int(line["rows_count"]), _key(examples, row))
