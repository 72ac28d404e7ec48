"""Files of carry-over: written beside a shard's fragments, and for the entities that tonight's input does not have.

What it decides: that a fragment's carry-over is one file, staged like its scores and named by the same record; that
keys and states are not dictionary encoded, since no two are alike; that states, of whose bytes hardly one in ten can be
saved, get the compression that costs least; and that what is handed on is copied unchanged, row group by row group, by
tasks that each make one file and can be done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.core.carry import CarrySchema
from cluster.core.commit import STAGED
from cluster.core.plan.column_conversion import converted
from cluster.core.settings import Compression
from cluster.runtime.carry.carry_plan import ABSENT_FILE
from cluster.runtime.carry.carry_rows import CarryRows
from cluster.runtime.carry.carry_sums import FileSums
from cluster.runtime.carry.carry_table import group_rows_max, groups_of
from cluster.runtime.commit.row_checksum import RowChecksum
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.rows.placed_blocks import Cut
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_tables import TableGroups
from cluster.runtime.storage.parquet_writer import ParquetOptions, parquet_writer
from cluster.runtime.storage.store import Store
from lstm_core.array_types import Bools

HANDED_ON = "kept-"  # how the files of entities that are handed on begin
STATES_COMPRESSION: Compression = "lz4"
HANDED_BYTES = 256 << 20  # of states in such a file


@dataclass(frozen=True)
class Staged:
    """A fragment's carry-over, durable."""

    file: str  # its last name
    staged: str  # name under STAGED
    rows: int
    checksum: str


@dataclass(frozen=True)
class CarryTarget:
    """Where and how carry-over is written."""

    store: Store
    schema: CarrySchema  # its states in the model's order
    words: dict[str, pa.StringArray]  # vocabularies by column
    compression: Compression


class CarryWriter:
    """Writes what entities leave behind, one attempt of one shard."""

    def __init__(self, target: CarryTarget) -> None:
        self._target = target
        self._rows = CarryRows(target.schema, target.words)
        self._fresh: list[pa.Table] = []  # tables that are in no file yet

    def add(self, cut: Cut) -> None:
        """The entities that end with a cut; they go into the fragment that is being written."""
        rows = self._rows.of(cut)
        if rows.num_rows:
            self._fresh.append(rows)

    def stage(self, name: str, staged: str) -> Staged | None:
        """Writes the fragment's file under STAGED; None where no entity has ended in it."""
        fresh, self._fresh = self._fresh, []
        return stage_rows(self._target, fresh, name, staged) if fresh else None


def stage_rows(target: CarryTarget, tables: Sequence[pa.Table], name: str, staged: str) -> Staged:
    """Writes rows of carry-over as `staged`, to be published as `name`."""
    rows, checksum = _write(target.store, f"{STAGED}/{staged}", target.schema, tables, target.compression)
    return Staged(name, staged, rows, checksum)


def _write(
    store: Store, name: str, schema: CarrySchema, tables: Iterable[pa.Table], compression: Compression
) -> tuple[int, str]:
    """Writes tables one after the other; returns their rows and the checksum over them."""
    checksum, sums, rows, group_rows = RowChecksum(), FileSums(), 0, group_rows_max(schema)
    times = [*schema.last, schema.seen, *schema.broken]  # many entities share them; no two share a key or a state
    options: ParquetOptions = {
        "compression": _compressions(schema, compression),
        "use_dictionary": times,
        "write_statistics": [*schema.entity, *times],
    }
    with store.open_output(name) as file, parquet_writer(file, schema.arrow, **options) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=group_rows)
            checksum.add(table)
            sums.add(table, group_rows=group_rows)
            rows += table.num_rows
        sums.put_into(writer)
    return rows, checksum.hexdigest()


def _compressions(schema: CarrySchema, wanted: Compression) -> Compression | dict[str, Compression]:
    """By column, as Parquet knows it."""
    if wanted == "none":
        return wanted
    states = {f"{schema.state_column(state)}.list.element": STATES_COMPRESSION for state in schema.states}
    return {**dict.fromkeys(schema.arrow.names, wanted), **states}


@dataclass(frozen=True)
class HandOn:
    """What the tasks need that hand entities on."""

    plan: StoreSpec  # where the plan says which rows are absent tonight
    carry: CarryRequest
    compression: Compression

    def __call__(self, part: str) -> tuple[str, int, str]:
        """Writes one file from some files, given as "number:first-last"; returns its name, rows and checksum."""
        number, _, span = part.partition(":")
        first, _, last = span.partition("-")
        name = f"{HANDED_ON}{int(number):06d}.parquet"
        assert self.carry.write is not None, "nothing is written"
        tables = self._tables(range(int(first), int(last) + 1))
        rows, checksum = _write(open_store(self.carry.write), name, self.carry.schema, tables, self.compression)
        return name, rows, checksum

    def _tables(self, files: range) -> Iterator[pa.Table]:
        assert self.carry.read is not None, "nothing is read"
        source, schema = open_store(self.carry.read), self.carry.schema.arrow
        absent = TableGroups(open_store(self.plan), ABSENT_FILE)
        for number in files:
            stretches = absent.read(number)
            begin = 0
            for table in groups_of(source, self.carry.files[number]):
                kept = _inside(stretches, begin, table.num_rows)
                begin += table.num_rows
                if kept.any():
                    wanted = converted(table.select(schema.names), schema)
                    yield wanted if kept.all() else wanted.filter(pa.array(kept))


def _inside(stretches: pa.Table, begin: int, rows: int) -> Bools:
    """Which of `rows` rows from `begin` on lie in the stretches (start, stop), rising and apart."""
    starts, stops = stretches.column("start").to_numpy(), stretches.column("stop").to_numpy()
    row = np.arange(begin, begin + rows)
    return np.asarray(np.searchsorted(starts, row, side="right") > np.searchsorted(stops, row, side="right"))


def hand_on_parts(schema: CarrySchema, absent: Sequence[int]) -> list[str]:
    """The parts of `HandOn`, given the absent entities of each file: neighbours together up to a bound."""
    bound = max(1, HANDED_BYTES // max(1, schema.state_bytes))
    parts: list[tuple[int, int]] = []
    rows = 0
    for number, count in enumerate(absent):
        if not count:
            continue
        if parts and rows + count <= bound:
            parts[-1], rows = (parts[-1][0], number), rows + count
        else:
            parts.append((number, number))
            rows = count
    return [f"{index}:{first}-{last}" for index, (first, last) in enumerate(parts)]
