"""A shard's rows in blocks: read over row groups and files, sorted where they must be, cut before a bad row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.inventory import LostFile, LostFiles
from cluster.core.settings import Fill
from cluster.run_errors import InputBroken
from cluster.runtime.rows.block import Block
from tests.inputs.laid import Laid, lay
from tests.inputs.series import cut_anywhere, make_series, replace, with_nulls, with_ties

LENGTHS = [5, 1, 9, 3, 7]


def series(lengths: Sequence[int] = LENGTHS) -> Any:
    return make_series(lengths, extra=True)


def spoilt(rows: Sequence[int], lengths: Sequence[int] = LENGTHS) -> Any:
    return with_nulls(series(lengths), "row", rows)


def blocks_of(laid: Laid, shard: int = 0, *, block_rows: int = 8) -> list[Block]:
    return [block for block, _ in laid.encoded(laid.plan.shards[shard], block_rows=block_rows)]


def rows_of(laid: Laid, shard: int = 0, *, block_rows: int = 8) -> list[float]:
    parts = [rows.ravel() for _, rows in laid.encoded(laid.plan.shards[shard], block_rows=block_rows)]
    return np.concatenate(parts).tolist()


def located(laid: Laid, block: Block) -> list[float]:
    """The values that stand in the files where `locate` says that the block's rows are."""
    values = [pq.read_table(path, columns=["row"]).column("row").to_pylist() for path in laid.files]
    files, rows = block.locate(np.arange(block.rows))
    return [values[file][row] for file, row in zip(files, rows, strict=True)]


# ---- shards of whole entities


@pytest.mark.parametrize("seed", range(8))
def test_a_shard_is_the_same_wherever_files_and_row_groups_are_cut(tmp_path: Path, seed: int) -> None:
    cut = (cut_anywhere(25, parts=4, seed=seed), [3, 1, 4])
    laid = lay(tmp_path, series(), cut=cut)
    (block,) = blocks_of(laid)
    assert rows_of(laid) == list(range(25))
    assert block.starts.tolist() == [0, 5, 6, 15, 18]
    assert block.lengths.tolist() == LENGTHS
    assert (block.rows_before, block.final, block.rows, block.scored_mask(), block.quarantine) == (
        0,
        True,
        25,
        None,
        None,
    )


@pytest.mark.parametrize("seed", range(8))
def test_every_shard_reads_its_own_entities_and_no_other(tmp_path: Path, seed: int) -> None:
    laid = lay(tmp_path, series(), shard_rows=9, cut=(cut_anywhere(25, parts=3, seed=seed), [4, 2]))
    assert len(laid.plan.shards) == 4
    rows = [rows_of(laid, shard.index) for shard in laid.plan.shards]
    assert sorted(row for part in rows for row in part) == list(range(25))
    for shard, part in zip(laid.plan.shards, rows, strict=True):
        assert len(part) == shard.rows
        assert part == sorted(part)


def test_rows_between_entities_that_belong_to_nobody_are_left_out(tmp_path: Path) -> None:
    laid = lay(tmp_path, with_nulls(with_nulls(series(), "entity", [7, 8]), "time", [20]))
    assert rows_of(laid) == [row for row in range(25) if row not in (7, 8, 20)]
    (block,) = blocks_of(laid)
    assert block.lengths.tolist() == [5, 1, 7, 3, 6]
    assert located(laid, block) == rows_of(laid)


def test_an_encoded_block_keeps_what_is_written_and_drops_the_features(tmp_path: Path) -> None:
    (block,) = blocks_of(lay(tmp_path, series(), keep=("f1", "time")))
    assert block.table.column_names == ["entity", "time", "f1"]


def test_a_feature_that_is_kept_is_read_once_and_handed_through(tmp_path: Path) -> None:
    (block,) = blocks_of(lay(tmp_path, series(), keep=("row",)))
    assert block.table.column("row").to_pylist() == list(range(25))


# ---- sorting


def shuffled(table: Any, borders: Sequence[int], seed: int = 0) -> Any:
    """The rows of the entity borders[0]..borders[1] in any order."""
    order = np.arange(table.num_rows)
    order[slice(*borders)] = np.random.default_rng(seed).permutation(order[slice(*borders)])
    return table.take(pa.array(order))


@pytest.mark.parametrize("seed", range(4))
def test_an_unsorted_entity_is_put_in_order_and_its_neighbours_stay(tmp_path: Path, seed: int) -> None:
    laid = lay(tmp_path, shuffled(series(), (6, 15), seed), cut=([25], [4]))
    assert not laid.plan.inventory.sorted.all()
    assert rows_of(laid) == list(range(25))


def test_rows_of_equal_time_stay_in_file_order(tmp_path: Path) -> None:
    table = with_ties(series(), [8, 9, 10])  # rows 7 to 10 have one time
    moved = [0, 1, 2, 3, 4, 5, 12, 9, 6, 10, 7, 8, 13, 11, 14, *range(15, 25)]
    assert rows_of(lay(tmp_path, table.take(pa.array(moved)))) == [*range(7), 9, 10, 7, 8, *range(11, 25)]


def test_further_time_columns_break_ties_before_file_order_does(tmp_path: Path) -> None:
    table = with_ties(series([4]), [1, 2, 3]).append_column("leg", pa.array(["b", "c", "a", "a"]))
    assert rows_of(lay(tmp_path, table, time=("time", "leg"))) == [2, 3, 0, 1]


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.large_string()], ids=str)
def test_times_of_any_text_type_are_sorted(tmp_path: Path, kind: Any) -> None:
    table = series([4]).take(pa.array([2, 0, 3, 1]))
    texts = table.column("time").cast(pa.string()).combine_chunks()
    column = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    assert rows_of(lay(tmp_path, replace(table, "time", column))) == [0, 1, 2, 3]


def test_text_with_zones_is_sorted_by_its_moment(tmp_path: Path) -> None:
    times = ["2026-01-01T12:00:00+00:00", "2026-01-01T12:30:00+02:00", "2026-01-01T13:00:00+00:00"]
    table = replace(series([3]), "time", pa.array(times))
    assert rows_of(lay(tmp_path, table)) == [1, 0, 2]


def test_a_sorted_row_is_located_where_it_stood(tmp_path: Path) -> None:
    laid = lay(tmp_path, shuffled(series(), (6, 15)), cut=([10, 15], [4, 3]))
    (block,) = blocks_of(laid)
    assert located(laid, block) == rows_of(laid) == list(range(25))


# ---- bad rows


def test_an_entity_ends_before_its_first_bad_row_and_others_go_on(tmp_path: Path) -> None:
    (block,) = blocks_of(lay(tmp_path, spoilt([9, 11, 24])))
    assert block.lengths.tolist() == [5, 1, 3, 3, 6]
    assert block.quarantined_rows == 6 + 1
    mask = block.scored_mask()
    assert mask is not None
    assert np.flatnonzero(~mask).tolist() == [9, 10, 11, 12, 13, 14, 24]


def test_an_entity_bad_from_its_first_row_has_nothing_to_score(tmp_path: Path) -> None:
    (block,) = blocks_of(lay(tmp_path, spoilt([0, 5])))
    assert block.lengths.tolist() == [0, 0, 9, 3, 7]
    assert block.quarantined_rows == 6


def test_quarantine_says_who_why_how_many_rows_and_where(tmp_path: Path) -> None:
    laid = lay(tmp_path, spoilt([9, 11, 24]), cut=([10, 15], [4]))
    (block,) = blocks_of(laid)
    times = series().column("time").cast(pa.string()).to_pylist()
    reason = "row is null and [input.fill] names no value for it"
    assert block.quarantine.to_pylist() == [
        {"entity": "e0002", "reason": reason, "rows": 6, "file": laid.files[0], "row": 9, "time": times[9]},
        {"entity": "e0004", "reason": reason, "rows": 1, "file": laid.files[1], "row": 14, "time": times[24]},
    ]


def test_a_bad_row_of_an_unsorted_entity_cuts_in_order_of_time(tmp_path: Path) -> None:
    table = spoilt([9]).take(pa.array([*range(6), 14, 9, 7, 6, 8, 10, 11, 12, 13, *range(15, 25)]))
    laid = lay(tmp_path, table)
    (block,) = blocks_of(laid)
    assert block.lengths.tolist() == [5, 1, 3, 3, 7]
    assert block.quarantine.column("row").to_pylist() == [7]


def test_a_bad_row_fails_the_run_where_that_is_asked_for(tmp_path: Path) -> None:
    laid = lay(tmp_path, spoilt([9]), bad_entity="fail", cut=([7, 18], None))
    with pytest.raises(InputBroken, match=r"part-001\.parquet, row 2: row is null .*; mend the row"):
        blocks_of(laid)


def faulty(laid: Laid, *entities: int) -> Laid:
    """The same, where a file of some entities cannot be read."""
    numbers = np.array(entities, np.int64)
    files = tuple(LostFile(f"lost-{number}", (pa.scalar(f"e{number:04d}"),), "") for number in entities)
    lost = LostFiles(files, laid.plan.inventory.keys.take(pa.array(numbers)), numbers)
    return dataclasses.replace(
        laid, plan=dataclasses.replace(laid.plan, inventory=dataclasses.replace(laid.plan.inventory, lost=lost))
    )


def test_an_entity_with_a_lost_file_has_nothing_to_score_and_its_reason(tmp_path: Path) -> None:
    (block,) = blocks_of(faulty(lay(tmp_path, spoilt([8])), 2, 4))
    assert block.lengths.tolist() == [5, 1, 0, 3, 0]
    found = [(line["entity"], line["rows"], line["row"], line["reason"][:6]) for line in block.quarantine.to_pylist()]
    assert found == [("e0002", 9, 6, "lost-2"), ("e0004", 7, 18, "lost-4")]


def test_of_an_unsorted_entity_with_a_lost_file_the_earliest_row_is_named(tmp_path: Path) -> None:
    table = series().take(pa.array([*range(6), 14, 9, 7, 6, 8, 10, 11, 12, 13, *range(15, 25)]))
    (block,) = blocks_of(faulty(lay(tmp_path, table), 2))
    assert block.quarantine.column("row").to_pylist() == [9]


# ---- streams


def stream(folder: Path, table: Any, **settings: Any) -> Laid:
    laid = lay(folder, table, shard_rows=20, **settings)
    assert [shard.streamed for shard in laid.plan.shards] == [True]
    return laid


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_rows", [4, 8, 16, 48])
def test_a_long_entity_comes_in_pieces_of_equal_size(tmp_path: Path, block_rows: int, seed: int) -> None:
    laid = stream(tmp_path, series([45]), cut=(cut_anywhere(45, parts=4, seed=seed), [5, 2, 7]))
    blocks = blocks_of(laid, block_rows=block_rows)
    assert rows_of(laid, block_rows=block_rows) == list(range(45))
    assert {block.rows for block in blocks[:-1]} <= {block_rows}
    sizes = [block.rows for block in blocks]
    assert [block.rows_before for block in blocks] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert [block.final for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert [block.rows_after for block in blocks] == [max(0, 45 - block_rows * (i + 1)) for i in range(len(blocks))]
    assert [value for block in blocks for value in located(laid, block)] == list(range(45))


def test_the_last_piece_is_final_where_pieces_fit_exactly(tmp_path: Path) -> None:
    blocks = blocks_of(stream(tmp_path, series([32])))
    assert [(block.rows, block.rows_after) for block in blocks] == [(8, 24), (8, 16), (8, 8), (8, 0)]


@pytest.mark.parametrize(("bad", "pieces", "kept"), [(0, 1, 0), (5, 1, 5), (8, 2, 0), (19, 3, 3), (44, 6, 4)])
def test_a_bad_row_in_any_piece_makes_it_the_last(tmp_path: Path, bad: int, pieces: int, kept: int) -> None:
    blocks = blocks_of(stream(tmp_path, spoilt([bad], [45]), cut=([20, 25], [6])))
    assert len(blocks) == pieces
    assert blocks[-1].final
    assert blocks[-1].lengths.tolist() == [kept]
    assert blocks[-1].quarantined_rows == 45 - bad
    (entry,) = blocks[-1].quarantine.to_pylist()
    assert (entry["rows"], entry["row"]) == (45 - bad, bad if bad < 20 else bad - 20)


def test_of_a_long_entity_with_a_lost_file_the_first_piece_is_the_last(tmp_path: Path) -> None:
    blocks = blocks_of(faulty(stream(tmp_path, series([45])), 0))
    assert [(block.final, block.lengths.tolist(), block.quarantined_rows) for block in blocks] == [(True, [0], 45)]


def test_previous_goes_over_the_borders_of_pieces(tmp_path: Path) -> None:
    laid = stream(tmp_path, spoilt([8, 9, 23, 24, 25], [45]), fill={"row": Fill(previous=True)})
    expected = [float(row) for row in range(45)]
    expected[8:10], expected[23:26] = [7, 7], [22, 22, 22]
    assert rows_of(laid) == expected


def test_a_long_entity_out_of_order_is_refused_with_its_remedy(tmp_path: Path) -> None:
    laid = stream(tmp_path, shuffled(series([45]), (3, 30)))
    with pytest.raises(InputBroken, match=r"45 rows that are not in time order.*a new run clusters them first"):
        blocks_of(laid)
