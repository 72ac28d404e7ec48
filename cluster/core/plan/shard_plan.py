"""Whole entities -> shards: the units of assignment, of bounded size, longest entity first.

Decides which entities share a shard and in which order shards start. Entities of a shard are neighbours in file order,
so that a replica reads stretches of files; an entity longer than a shard's bound is alone in one and is streamed. Where
shards are large, those that start last are cut finer. Shards whose longest entities are of like length make a band, in
which they stand in file order: whoever scores neighbours of a band decodes a row group once for them. The plan depends
on nothing but the inventory and the bound: not on listing order, not on the number of replicas. Leaves files, replicas
and steps alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cluster.core.arrow_types import ArrowField
from cluster.core.entity_keys import KEY_PREFIX, describe_entity
from cluster.core.plan.inventory import FoundLayout, Inventory, SourceFile
from cluster.core.plan.partitions import Partitions
from cluster.run_errors import InputRefused
from lstm_core.array_types import Ints

SHARD_ROWS_MIN = 32_768  # below this, opening files and handing out work cost more than scoring
LIKE_SHARDS = ((65_536, 16), (262_144, 64))  # of at most so many rows each, as long as so many of them will do
CLUSTERED_REMEDY = 'set input.layout = "auto", and a run clusters it first'
SHARD_STATE_BYTES = 64 << 20  # of carry-over that the entities of a shard leave, at most
FINE = ((0.25, 4), (0.1, 16))  # the last share of the rows, in shards of about that part of their bound
FINE_ROWS_MIN = 65_536  # below this they would end together no better, and cost more


@dataclass(frozen=True)
class Shard:
    """Whole entities that one replica scores together; `index` 0 starts first."""

    index: int
    entities: int
    rows: int
    longest_rows: int
    streamed: bool  # exactly one entity, longer than the bound
    band: int = 0  # all shards of a band come before those of the next; among themselves their order is free


@dataclass(frozen=True)
class PlanHead:
    """All of a plan but its extents: small, and stored as JSON."""

    files: tuple[SourceFile, ...]
    shards: tuple[Shard, ...]
    entity: tuple[str, ...]  # columns
    time: tuple[str, ...]  # columns
    shard_rows: int  # the bound
    layout: FoundLayout
    reason: str
    rows_in: int  # = rows_planned + rows_skipped + rows_bad
    rows_skipped: int
    rows_bad: int
    entities: int
    entities_unsorted: int  # not in order of time: sorted when they are read
    ties: int
    sources: tuple[SourceFile, ...] = ()  # the input's own, where `files` are the buckets of a pre-pass, by name
    files_lost: int = 0  # beside `files`: those that cannot be read; nobody has counted their rows
    entities_lost: int = 0  # beside `entities`: those of whom only lost files have rows
    partitions: Partitions | None = None  # None in a plan that was made before they were kept
    types: pa.Schema | None = None  # in which the input's files are read, where they have not all the first one's
    carry_types: pa.Schema | None = None  # of keys and times in carry-over, where they are not the first file's either

    @property
    def input_files(self) -> tuple[SourceFile, ...]:
        """The files of the input."""
        return self.sources or self.files

    @property
    def beside(self) -> Partitions:
        """What stands beside the files of the input."""
        if self.partitions is None:
            return Partitions.as_before([file.path for file in self.input_files])
        return self.partitions

    @property
    def rows_planned(self) -> int:
        """Rows that shards hold."""
        return sum(shard.rows for shard in self.shards)

    @property
    def longest_rows(self) -> int:
        """Rows of the longest entity."""
        return max((shard.longest_rows for shard in self.shards), default=0)


@dataclass(frozen=True)
class Plan:
    """A plan with its extents, as arrays over the inventory."""

    head: PlanHead
    inventory: Inventory
    shard_entities: tuple[Ints, ...]  # per shard: its entities' numbers in the inventory, rising

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards, in the order in which they start."""
        return self.head.shards

    def extents(self, shard_index: int) -> pa.Table:
        """The extent table of one shard: see `extent_schema`; one row per extent, in output order."""
        entities = self.shard_entities[shard_index]
        rows, ordinal = _extent_rows(self.inventory, entities)
        inventory = self.inventory
        keys = inventory.keys.take(entities).take(ordinal)
        own = [
            pa.array(ordinal),
            pa.array(inventory.extent_file[rows].astype(np.int32)),
            pa.array(inventory.extent_start[rows]),
            pa.array(inventory.extent_count[rows]),
            pa.array(inventory.sorted[entities][ordinal]),
            _faults(inventory, entities).take(ordinal),
        ]
        return pa.table([*own, *keys.columns], schema=extent_schema(inventory.keys.schema))


def extent_schema(keys: pa.Schema) -> pa.Schema:
    """Columns of an extent table: our own, then every entity column with `key__` before its name."""
    own: list[ArrowField] = [
        pa.field("entity", pa.int64()),  # ordinal in the shard
        pa.field("file", pa.int32()),  # index into the plan's files
        pa.field("row_start", pa.int64()),
        pa.field("row_count", pa.int64()),
        pa.field("sorted", pa.bool_()),  # the entity's extents and rows are in order of time
        pa.field("fault", pa.string()),  # why the entity is in quarantine from its first row on; null elsewhere
    ]
    return pa.schema(own + [pa.field(KEY_PREFIX + field.name, field.type) for field in keys])


def entity_keys(table: pa.Table) -> pa.Table:
    """The entity columns of an extent table or of a table of bad rows, under their own names."""
    names = [name for name in table.column_names if name.startswith(KEY_PREFIX)]
    return table.select(names).rename_columns([name.removeprefix(KEY_PREFIX) for name in names])


def choose_shard_rows(rows: int, *, rows_per_file: int) -> int:
    """The bound of a shard for an input of `rows` rows: a like part of it, but no few, and at most one output file."""
    parts = max(min(count, -(-rows // size)) for size, count in LIKE_SHARDS)
    like = -(-rows // parts) if parts > 1 else 0
    return max(1, min(rows_per_file, max(SHARD_ROWS_MIN, like)))


def choose_shard_entities(state_bytes: int) -> int:
    """The bound of a shard where each entity leaves so many bytes of carry-over: they are in memory together."""
    return max(1, SHARD_STATE_BYTES // max(1, state_bytes))


def make_plan(inventory: Inventory, *, shard_rows: int, shard_entities: int | None = None) -> Plan:
    """Put every entity into one shard, of at most `shard_entities`."""
    assert shard_rows > 0
    groups = shard_groups(inventory.entity_rows, shard_rows, shard_entities)
    shards = shards_of(groups, inventory.entity_rows, shard_rows)
    head = PlanHead(
        files=inventory.files,
        shards=shards,
        entity=tuple(inventory.keys.column_names),
        time=inventory.times,
        shard_rows=shard_rows,
        layout=inventory.layout,
        reason=inventory.reason,
        rows_in=inventory.rows_in,
        rows_skipped=inventory.skipped,
        rows_bad=inventory.bad.num_rows,
        entities=len(inventory.entity_rows),
        entities_unsorted=int((~inventory.sorted).sum()),
        ties=inventory.ties,
        sources=inventory.sources,
        files_lost=len(inventory.lost.files) if inventory.lost else 0,
        entities_lost=len(inventory.lost.gone) if inventory.lost else 0,
        partitions=inventory.partitions,
        types=inventory.types,
    )
    assert head.rows_in == head.rows_planned + head.rows_skipped + head.rows_bad
    return Plan(head, inventory, tuple(groups))


def shard_groups(entity_rows: Ints, shard_rows: int, shard_entities: int | None = None) -> list[Ints]:
    """The entities (number,) of each shard, in the order in which shards start."""
    groups = _longest_first(_cut(entity_rows, shard_rows, shard_entities or len(entity_rows)), entity_rows)
    for share, bound in _finer(shard_rows):
        groups = _longest_first(_finer_at_the_end(groups, entity_rows, share, bound), entity_rows)
    return groups


def shards_of(groups: list[Ints], entity_rows: Ints, shard_rows: int) -> tuple[Shard, ...]:
    """The shards of such groups."""
    sizes = [1.5 * bound for _, bound in _finer(shard_rows)]  # one of a kind has about its bound
    kinds = [
        (_urgency(entity_rows[group]), sum(int(entity_rows[group].sum()) < size for size in sizes)) for group in groups
    ]
    bands = np.cumsum([0, *(kind != before for before, kind in pairwise(kinds))]).tolist()
    return tuple(
        _shard(index, entity_rows[group], shard_rows, band)
        for index, (group, band) in enumerate(zip(groups, bands, strict=False))
    )


def why_shuffle(inventory: Inventory, *, shard_rows: int) -> str | None:
    """Why an input must be clustered before it is scored; None where it is read as it lies."""
    if inventory.layout == "interleaved":
        return inventory.reason
    unsorted = np.flatnonzero(~inventory.sorted & (inventory.entity_rows > shard_rows))
    if not len(unsorted):
        return None
    entity = int(unsorted[0])
    return (
        f"entity {describe_entity(inventory.keys, entity)} has {inventory.entity_rows[entity]:,} rows that are not in "
        "order of time, too many to sort when they are read"
    )


def refuse_interleaved(inventory: Inventory, remedy: str) -> None:
    """For those who cannot cluster an input first. Raises InputRefused."""
    if inventory.layout == "interleaved":
        raise InputRefused(f"The input is interleaved: {inventory.reason}; {remedy}.")


def _shard(index: int, entity_rows: Ints, shard_rows: int, band: int) -> Shard:
    longest = int(entity_rows.max())
    return Shard(index, len(entity_rows), int(entity_rows.sum()), longest, streamed=longest > shard_rows, band=band)


def _cut(entity_rows: Ints, shard_rows: int, shard_entities: int) -> list[Ints]:
    """Entities in file order -> the entities of each shard, in order of each shard's first entity."""
    long = entity_rows > shard_rows
    groups = [np.array([entity], np.int64) for entity in np.flatnonzero(long)]
    short = np.flatnonzero(~long).astype(np.int64)
    ends = np.cumsum(entity_rows[short])
    start = 0
    while start < len(short):
        before = int(ends[start - 1]) if start else 0
        end = min(int(np.searchsorted(ends, before + shard_rows, side="right")), start + shard_entities)
        groups.append(short[start:end])
        start = end
    return sorted(groups, key=lambda group: int(group[0]))


def _longest_first(groups: list[Ints], entity_rows: Ints) -> list[Ints]:
    urgency = np.array([_urgency(entity_rows[group]) for group in groups], np.int64)
    return [groups[i] for i in np.argsort(-urgency, kind="stable")]


def _urgency(entity_rows: Ints) -> int:
    """Rows of a shard's longest entity: just so where it is alone, since it may decide the end, else to a power of two.

    Its end comes after those of thousands of others then, and where their rows lie matters more.
    """
    longest = int(entity_rows.max())
    return longest if len(entity_rows) == 1 else 1 << (longest.bit_length() - 1)


def _finer(shard_rows: int) -> list[tuple[float, int]]:
    """Shares of the rows at the end of a plan, falling, and the bound of the shards that have them."""
    bounds = [(share, max(FINE_ROWS_MIN, shard_rows // parts)) for share, parts in FINE]
    return [(share, bound) for share, bound in bounds if 2 * bound <= shard_rows]


def _finer_at_the_end(groups: list[Ints], entity_rows: Ints, share: float, bound: int) -> list[Ints]:
    """Cuts the shards that start last, so that any number of replicas, slow ones too, end close together."""
    rows = np.array([entity_rows[group].sum() for group in groups], np.int64)
    coarse = int(np.searchsorted(np.cumsum(rows), (1 - share) * rows.sum(), side="right"))
    parts = [part for group in groups[coarse:] for part in _parts(group, entity_rows, bound)]
    return [*groups[:coarse], *parts]


def _parts(group: Ints, entity_rows: Ints, bound: int) -> list[Ints]:
    """The entities of a shard in like parts of about `bound` rows; whole where one of them is longer."""
    # Filled one after the other they might leave a last one of a few rows, which costs as much as any.
    ends = np.cumsum(entity_rows[group])
    count = round(int(ends[-1]) / bound)
    if entity_rows[group].max() > bound or count < 2:
        return [group]
    borders = np.searchsorted(ends, ends[-1] * np.arange(1, count) // count) + 1
    return [part for part in np.split(group, borders) if len(part)]


def _faults(inventory: Inventory, entities: Ints) -> pa.StringArray:
    """Why each of some entities (entity,) is in quarantine as a whole (entity,)."""
    return pa.nulls(len(entities), pa.string()) if inventory.lost is None else inventory.lost.reasons(entities)


def _extent_rows(inventory: Inventory, entities: Ints) -> tuple[Ints, Ints]:
    """Entities (entity,) -> their extents' rows (extent,) and for each its entity's ordinal (extent,)."""
    start = np.searchsorted(inventory.extent_entity, entities, side="left")
    count = np.searchsorted(inventory.extent_entity, entities, side="right") - start
    ordinal = np.repeat(np.arange(len(entities), dtype=np.int64), count)
    inside = np.arange(len(ordinal), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(start, count) + inside, ordinal
