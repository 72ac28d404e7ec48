"""What a report says of a run, gathered from its output alone: figures, no layout.

What it decides: how much is read. Records, timeline and plan are small. The lengths of entities need the plan's
extents and the distribution of scores the fragments, both read a part at a time; `rows_max` bounds the rows so
looked at, evenly spread over the output, so that the report at the end of a run of any size takes seconds. Scores are
held against those of the run beside this one (see `earlier_run`) where that can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.commit import QUARANTINE, Fragment
from cluster.core.histogram import Histogram, distance, length_bins
from cluster.core.own_columns import line_column, line_keys
from cluster.core.plan.shard_plan import PlanHead, entity_keys
from cluster.core.value_texts import text_of
from cluster.run_errors import told
from cluster.runtime.commit.commit import RUN, Commits
from cluster.runtime.commit.run_request import RequestFile, read_request
from cluster.runtime.plan.plan_files import Extents, has_plan, read_plan
from cluster.runtime.storage.open_parquet import counted_batches
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import read_table
from cluster.runtime.storage.store import Store
from cluster.runtime.watch.earlier_run import (
    ROWS_MAX,
    NotComparable,
    Within,
    check_scores,
    check_whole,
    find_earlier,
    open_scores,
    read_records,
)
from cluster.runtime.watch.timeline import read_timeline
from lstm_core.array_types import Ints
from lstm_core.errors import UsageError
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
    against_fault: str | None  # why there is none, where one was found
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
    scores = _compared(_scored(store, names, fragments, rows_max), against, rows_max)
    return ReportFigures(
        output=store.root,
        record=record,
        request=request,
        head=head,
        fragments=fragments,
        lines=tuple(read_timeline(store)),
        lengths=_lengths(store, head, rows_max) if head is not None else None,
        scores=scores.columns,
        scores_looked_at=scores.looked_at,
        against=scores.against,
        against_fault=scores.fault,
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
    return [Entity(_key(keys, place), int(count), shard) for place, count in enumerate(rows[first])]


def _key(keys: pa.Table, row: int) -> str:
    return ", ".join(text_of(column[row]) for column in keys.columns)


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
    names: tuple[str, ...]
    files: tuple[tuple[str, int], ...]  # with the rows of each
    within: Within | None = None  # what may be read of another run


@dataclass(frozen=True)
class _Compared:
    """The distributions of a run's scores, and those that they are held against."""

    columns: tuple[ScoreColumn, ...]
    looked_at: int  # rows
    against: str | None = None
    fault: str | None = None  # why nothing is held against them, though there is another run


def _scored(
    store: Store,
    names: Sequence[str],
    fragments: Sequence[Fragment],
    rows_max: int | None,
    within: Within | None = None,
) -> _Scored:
    there = [(str(fragment.file), fragment.file_rows) for fragment in fragments if fragment.file]
    return _Scored(store, tuple(names), tuple(_spread(there, [rows for _, rows in there], rows_max)), within)


def _compared(now: _Scored, against: str | None, rows_max: int | None) -> _Compared:
    """Raises UsageError where the run that was asked for by name cannot be compared with."""
    own, other = _bounds(now), None
    bounds, theirs, fault = own, dict[str, Histogram](), None
    try:
        other = _other(now.store, against, now.names)
        if other is not None:
            before = _before(other, now.names, rows_max, named=against is not None)
            wide = _widest(own, _bounds(before))
            theirs, _ = _count(before, wide)
            bounds = wide
    except Exception as error:  # whatever is wrong with another run must not cost this one its report
        if against is not None and isinstance(error, UsageError):
            raise
        fault = str(error) if isinstance(error, NotComparable) else told(error.__cause__ or error)
        if against is not None:
            raise UsageError(
                f"{against} cannot be compared with: {fault}; leave --against out, or name another run."
            ) from None
    mine, rows = _count(now, bounds)
    columns = tuple(ScoreColumn(name, mine[name], theirs.get(name)) for name in bounds)
    root = None if other is None else other.root
    return _Compared(columns, rows, None if fault else root, fault and (f"{root}: {fault}" if root else fault))


def _other(store: Store, against: str | None, names: Sequence[str]) -> Store | None:
    if against is None:
        return find_earlier(store, names)
    other = open_store(StoreSpec.named(against))
    if not other.exists(RUN):
        raise UsageError(f"{other.root} holds no run of slotcar to compare with: expected its output.path.")
    return other


def _before(other: Store, names: Sequence[str], rows_max: int | None, *, named: bool) -> _Scored:
    """The scores of another run: one that was named is read like one's own."""
    if named:
        return _scored(other, names, check_whole(other, Commits(other).records()), rows_max)
    within = Within()
    records = check_whole(other, read_records(other, within))
    return _scored(other, names, records, min(rows_max or ROWS_MAX, ROWS_MAX), within)


def _bounds(run: _Scored) -> dict[str, tuple[float, float]]:
    """Least and largest score per column, as the footers say; columns without any are left out."""
    found: dict[str, list[float]] = {}
    for footer in (parquet.metadata for parquet in _open(run)):
        for group in range(footer.num_row_groups):
            for index in range(footer.num_columns):
                column = footer.row_group(group).column(index)
                stats = column.statistics if column.path_in_schema in run.names else None
                if stats is not None and stats.has_min_max:
                    pair = cast("tuple[float, float]", (stats.min, stats.max))  # there are both, where there is one
                    found.setdefault(column.path_in_schema, []).extend(map(float, pair))
    finite = [name for name in run.names if np.isfinite(found.get(name, np.nan)).all()]
    return {name: (min(found[name]), max(found[name])) for name in finite}


def _widest(
    own: dict[str, tuple[float, float]], others: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Bounds in which both can be counted. Raises NotComparable."""
    missing = [name for name in own if name not in others]
    if missing:
        raise NotComparable(f"it has no scores {missing[0]!r}, or some that are no numbers")
    return {name: (min(low, others[name][0]), max(high, others[name][1])) for name, (low, high) in own.items()}


def _count(run: _Scored, bounds: dict[str, tuple[float, float]]) -> tuple[dict[str, Histogram], int]:
    counted = {name: Histogram.between(*pair) for name, pair in bounds.items()}
    rows = 0
    for parquet in _open(run):
        for batch in counted_batches(parquet, 1 << 20, list(counted)):
            if run.within is not None:
                run.within.check()
            rows += batch.num_rows
            for name, distribution in counted.items():
                distribution.add(batch.column(name).to_numpy(zero_copy_only=False))
    return counted, rows


def _open(run: _Scored) -> Iterator[pq.ParquetFile]:
    for name, rows in run.files:
        for parquet in open_scores(run.store, name):
            if run.within is not None:
                run.within.check()
                check_scores(parquet, run.names, rows)
            yield parquet


# ---- quarantine


def _quarantine(store: Store) -> tuple[Reason, ...]:
    counts: dict[str, Reason] = {}
    for name in (name for name in store.list(QUARANTINE) if name.endswith(".parquet")):
        for reason in _reasons(read_table(store, f"{QUARANTINE}/{name}")):
            seen = counts.get(reason.reason, Reason(reason.reason, 0, 0, reason.example))
            rows, entities = seen.rows + reason.rows, seen.entities + reason.entities
            counts[reason.reason] = Reason(reason.reason, rows, entities, seen.example)
    return tuple(sorted(counts.values(), key=lambda reason: -reason.rows))[:REASONS_MAX]


def _reasons(table: pa.Table) -> Iterable[Reason]:
    keys, reasons = line_keys(table), line_column(table, "reason").combine_chunks().dictionary_encode()
    numbers, first, entries = np.unique(reasons.indices.to_numpy(), return_index=True, return_counts=True)
    rows = np.bincount(reasons.indices.to_numpy(), line_column(table, "rows").to_numpy())
    for number, place, count in zip(numbers.tolist(), first.tolist(), entries.tolist(), strict=True):
        yield Reason(str(reasons.dictionary[number]), int(rows[number]), count, _key(keys, place))
