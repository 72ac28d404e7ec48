"""What holds of a plan, whatever the input looks like."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.plan.inventory import Inventory, build_inventory
from cluster.core.plan.shard_plan import make_plan
from cluster.core.times import time_order
from cluster.runtime.input.key_scan import scan_file
from tests.inputs.series import cut_anywhere, make_series, settings_for, with_nulls, with_ties, write_cut

SEEDS = st.integers(0, 2**16)
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@st.composite
def inputs(draw: st.DrawFn, *, tidy: bool = False) -> Any:
    """A table of series, most often spoilt: null keys and times, ties, rows out of order; a `row` column numbers it."""
    lengths = draw(LENGTHS)
    rows = sum(lengths)
    some = st.sets(st.integers(1, rows - 1), max_size=4) if rows > 1 else st.just(set())
    table = with_ties(make_series(lengths, features=1, seed=draw(SEEDS)), sorted(draw(some)))
    if not tidy:
        table = with_nulls(with_nulls(table, "entity", sorted(draw(some))), "time", sorted(draw(some)))
        if draw(st.booleans()):
            number = np.repeat(np.arange(len(lengths)), lengths)
            shuffled = np.random.default_rng(draw(SEEDS)).permutation(rows)
            table = table.take(pa.array(shuffled[np.argsort(number[shuffled], kind="stable")]))
    return table.append_column("row", pa.array(np.arange(rows)))


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, list[int], int]:
    """Files, a seed for their borders, rows of the row groups, rows of a batch."""
    return draw(st.integers(1, 5)), draw(SEEDS), draw(st.lists(st.integers(1, 6), min_size=1)), draw(st.integers(1, 9))


def inventory_of(table: Any, cut: tuple[int, int, list[int], int], **changes: Any) -> tuple[Inventory, list[Any]]:
    """The inventory of the table cut into files, and each file's own rows."""
    files, seed, group_rows, batch_rows = cut
    sizes = cut_anywhere(table.num_rows, parts=files, seed=seed)
    chosen = settings_for("unused", columns=1, **changes)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_cut(Path(folder), table, sizes, group_rows)
        scans = [scan_file(str(path), chosen, batch_rows) for path in paths]
    scans = [scans[i] for i in np.random.default_rng(seed).permutation(len(scans))]
    borders = np.cumsum([0, *sizes])
    return build_inventory(scans), [table.slice(borders[i], sizes[i]) for i in range(len(sizes))]


def planned_rows(inventory: Inventory, files: list[Any], shard_rows: int) -> dict[str, list[int]]:
    """Each entity's rows, by their `row` number, as whoever follows the plan would score them."""
    plan = make_plan(inventory, shard_rows=shard_rows)
    found: dict[str, list[int]] = {}
    for shard in plan.shards:
        parts: dict[str, list[Any]] = {}
        in_order: dict[str, bool] = {}
        for extent in plan.extents(shard.index).to_pylist():
            key = extent["key__entity"]
            parts.setdefault(key, []).append(files[extent["file"]].slice(extent["row_start"], extent["row_count"]))
            in_order[key] = extent["sorted"]
        assert not parts.keys() & found.keys(), "an entity lies in two shards"
        for key, tables in parts.items():
            rows = pa.concat_tables(tables)
            if not in_order[key]:
                rows = rows.take(pa.array(time_order(rows.select(["time"]))))
            found[key] = rows.column("row").to_pylist()
    return found


def expected_rows(table: Any, **bounds: Any) -> dict[str, list[int]]:
    """The same, by a plain loop and a stable sort."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for row in table.select(["entity", "time", "row"]).to_pylist():
        if row["entity"] is not None and row["time"] is not None and row["time"] >= bounds.get("low", row["time"]):
            found.setdefault(row["entity"], []).append((row["time"], row["row"]))
    return {key: [row for _, row in sorted(rows, key=lambda pair: pair[0])] for key, rows in found.items()}


@settings(deadline=None, max_examples=120)
@given(inputs(), cuts(), st.integers(1, 40))
def test_every_entity_is_scored_whole_and_in_order_wherever_files_are_cut(
    table: Any, cut: tuple[int, int, list[int], int], shard_rows: int
) -> None:
    inventory, files = inventory_of(table, cut)
    assert inventory.layout == "clustered"
    assert planned_rows(inventory, files, shard_rows) == expected_rows(table)


@settings(deadline=None, max_examples=60)
@given(inputs(), cuts(), st.integers(0, 20))
def test_every_row_is_planned_once_or_bad_or_skipped(
    table: Any, cut: tuple[int, int, list[int], int], minute: int
) -> None:
    since = np.datetime64("2026-01-01", "us") + np.timedelta64(minute, "m")
    inventory, files = inventory_of(table, cut, since=str(since))
    planned = planned_rows(inventory, files, 10)
    assert planned == expected_rows(table, low=since.item())
    paths = [file.path for file in inventory.files]
    bad = [
        files[paths.index(row["file"])].column("row")[row["row"]].as_py()
        for row in inventory.bad.select(["file", "row"]).to_pylist()
    ]
    counted = Counter([row for rows in planned.values() for row in rows] + bad)
    assert max(counted.values(), default=1) == 1
    assert len(counted) + inventory.skipped == table.num_rows == inventory.rows_in


@settings(deadline=None, max_examples=60)
@given(inputs(tidy=True), cuts())
def test_a_tidy_input_is_tidy_wherever_it_is_cut(table: Any, cut: tuple[int, int, list[int], int]) -> None:
    inventory, _ = inventory_of(table, cut)
    whole, _ = inventory_of(table, (1, 0, [1000], 1000))
    assert inventory.sorted.all()
    assert inventory.ties == whole.ties
    assert inventory.keys.equals(whole.keys)
    assert inventory.entity_rows.tolist() == whole.entity_rows.tolist()


@settings(deadline=None, max_examples=60)
@given(inputs(), cuts(), st.integers(1, 40))
def test_a_shard_keeps_its_bound_or_streams_one_entity(
    table: Any, cut: tuple[int, int, list[int], int], shard_rows: int
) -> None:
    plan = make_plan(inventory_of(table, cut)[0], shard_rows=shard_rows)
    assert sum(shard.entities for shard in plan.shards) == plan.head.entities
    for before, shard in pairwise(plan.shards):
        assert shard.band - before.band in (0, 1)
        # Within a band lengths are alike; the next one's are no longer, but for what an entity alone is given.
        assert shard.longest_rows < 2 * before.longest_rows
    for shard in plan.shards:
        assert shard.rows <= shard_rows or (shard.streamed and shard.entities == 1)


@settings(deadline=None, max_examples=100)
@given(inputs(), cuts(), SEEDS)
def test_shuffled_rows_are_planned_rightly_or_called_interleaved(
    table: Any, cut: tuple[int, int, list[int], int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    place = np.argsort(np.arange(table.num_rows) + rng.integers(0, 4, table.num_rows), kind="stable")
    shuffled = table.take(pa.array(place))
    inventory, files = inventory_of(shuffled, cut)
    if inventory.layout == "clustered":
        assert planned_rows(inventory, files, 10) == expected_rows(shuffled)
