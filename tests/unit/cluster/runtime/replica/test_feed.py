"""The feed: shards in, batches out, in an arena that may be just large enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.plan.shard_plan import Shard
from cluster.run_errors import InputBroken
from cluster.runtime.replica.feed import Batch, Feed
from lstm_core.packing.arena import Arena
from lstm_core.packing.packer import Packer
from lstm_core.packing.row_ranges import valid_mask
from tests.inputs.laid import Laid, lay, make_arena
from tests.inputs.series import make_series, with_nulls

pytestmark = pytest.mark.timeout(60)  # what waits for ever must fail

LENGTHS = [5, 1, 45, 9, 3, 7, 30, 2, 8]  # two are longer than a shard
SHARD_ROWS, BLOCK_ROWS = 20, 8
JUST_ENOUGH = 2 * BLOCK_ROWS + SHARD_ROWS

both_ways = pytest.mark.parametrize("threaded", [False, True], ids=["in_turn", "threaded"])


def laid_out(folder: Path, bad: Sequence[int] = (), lengths: Sequence[int] = LENGTHS) -> Laid:
    table = with_nulls(make_series(lengths, extra=True), "row", bad)
    return lay(folder, table, shard_rows=SHARD_ROWS, cut=([sum(lengths) // 2, -(-sum(lengths) // 2)], [6, 11]))


def feed_of(
    laid: Laid, *, slots: int = 3, capacity: int = 1000, threaded: bool = True, chunk: int = 4
) -> tuple[Feed, Arena]:
    arena = make_arena(capacity)
    reader = laid.reader(block_rows=BLOCK_ROWS)
    packer = Packer(slots=slots, chunk=chunk)
    return Feed(reader, laid.found, arena, packer, threaded=threaded), arena


def batches(feed: Feed, shards: Sequence[Shard]) -> Iterator[Batch]:
    """All batches; whoever has used one up gives the placed blocks that it ends back, as the pipeline does."""
    for shard in shards:
        feed.assign(shard)
    feed.close()
    while True:
        batch = feed.next_batch()
        if batch is not None:
            yield batch
        placed_blocks = feed.drain() if batch is None else feed.collect(batch)
        for placed in placed_blocks:
            feed.release(placed)
        if batch is None and not placed_blocks:
            break
    assert feed.done


def entities(batches: Iterator[Batch], slots: int, bad: Sequence[int] = ()) -> list[list[float]]:
    """The rows that each entity gets, followed through its slot from its reset to its end.

    A long entity whose piece begins with a `bad` row has ended with the piece before, when nobody knew.
    """
    ended_silently = {row - 1.0 for row in bad}
    found: list[list[float]] = []
    sitting: list[list[float] | None] = [None] * slots
    for batch in batches:
        for place in np.flatnonzero(batch.step.lengths):
            slot = place % slots  # the steps of a group lie one after the other
            if batch.step.reset[place]:
                left = sitting[slot]
                assert left is None or left[-1] in ended_silently, "a slot is given away before its entity has ended"
                found += [left] if left else []
                sitting[slot] = []
            rows = sitting[slot]
            assert rows is not None, "an entity goes on in a slot that was not reset for it"
            rows += batch.rows[0][place, : batch.lengths[place], 0].tolist()
            if batch.step.ends[place]:
                found.append(rows)
                sitting[slot] = None
    left_over = [rows for rows in sitting if rows]
    assert all(rows[-1] in ended_silently for rows in left_over), "an entity has not ended"
    return sorted(found + left_over)


def expected(lengths: Sequence[int] = LENGTHS, bad: Sequence[int] = ()) -> list[list[float]]:
    """Row numbers of each entity, up to its first bad one."""
    borders = np.cumsum([0, *lengths])
    found = [list(range(start, stop)) for start, stop in pairwise(borders)]
    cut = [rows[: min((rows.index(row) for row in bad if row in rows), default=len(rows))] for rows in found]
    return [[float(row) for row in rows] for rows in cut if rows]


@both_ways
@pytest.mark.parametrize("capacity", [JUST_ENOUGH, 60, 1000])
@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_every_entity_comes_once_whole_and_in_order(tmp_path: Path, slots: int, capacity: int, threaded: bool) -> None:
    laid = laid_out(tmp_path)
    feed, arena = feed_of(laid, slots=slots, capacity=capacity, threaded=threaded)
    assert entities(batches(feed, laid.plan.shards), slots) == expected()
    assert arena.used_rows == 0


@both_ways
@pytest.mark.parametrize("bad", [(), (22, 64, 90)], ids=str)
@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_steps_that_run_on_all_slots_share_calls_and_others_have_their_own(
    tmp_path: Path, slots: int, bad: Sequence[int], threaded: bool
) -> None:
    laid = laid_out(tmp_path, bad)
    feed, arena = feed_of(laid, slots=slots, threaded=threaded)
    feed.group = (3, 4)
    feed.fit = lambda lengths: (slots, 4) if (lengths > 0).all() else (slots, 8)
    taken = list(batches(feed, laid.plan.shards))
    assert entities(iter(taken), slots, bad) == expected(bad=bad)
    assert arena.used_rows == 0
    counts = {len(batch.steps) for batch in taken}
    assert counts <= {1, 2, 3}
    assert (max(counts) > 1) == (slots < 40)
    for batch in taken:
        full = (batch.step.lengths > 0).all()
        assert batch.rows[0].shape[:2] == (len(batch.steps) * slots, 4 if full else 8)
        assert full or len(batch.steps) == 1
        # What a snapshot keeps of a long series is its state behind the call.
        ended = np.flatnonzero(batch.step.exhausted & ~batch.step.ends)
        assert (ended // slots == len(batch.steps) - 1).all()


@both_ways
@pytest.mark.parametrize("backwards", [False, True])
def test_a_long_entity_never_starves_behind_shards_that_wait_for_its_slot(
    tmp_path: Path, threaded: bool, backwards: bool
) -> None:
    lengths = [*[7] * 12, 101, *[7] * 12]
    laid = laid_out(tmp_path, lengths=lengths)
    feed, arena = feed_of(laid, slots=1, capacity=JUST_ENOUGH, threaded=threaded)
    shards = laid.plan.shards[::-1] if backwards else laid.plan.shards
    assert entities(batches(feed, shards), 1) == expected(lengths)
    assert arena.used_rows == 0


@both_ways
def test_more_long_entities_than_slots_take_turns(tmp_path: Path, threaded: bool) -> None:
    lengths = [45, 41, 37, 33, 29]
    laid = laid_out(tmp_path, lengths=lengths)
    feed, arena = feed_of(laid, slots=2, capacity=4 * BLOCK_ROWS, threaded=threaded)
    assert entities(batches(feed, laid.plan.shards), 2) == expected(lengths)
    assert arena.used_rows == 0


@both_ways
@pytest.mark.parametrize(
    "bad",
    [(0,), (6,), (14,), (22,), (50,), (0, 5, 6, 51, 60, 63, 70, 100, 102), range(110)],
    ids=["first", "first_piece", "at_a_border", "later_piece", "last_piece", "every_entity", "every_row"],
)
def test_bad_entities_end_early_and_hold_nobody_up(tmp_path: Path, bad: Sequence[int], threaded: bool) -> None:
    laid = laid_out(tmp_path, bad)
    feed, arena = feed_of(laid, slots=2, capacity=JUST_ENOUGH, threaded=threaded)
    assert entities(batches(feed, laid.plan.shards), 2, bad) == expected(bad=bad)
    assert arena.used_rows == 0


@pytest.mark.parametrize("capacity", [JUST_ENOUGH, 1000])
def test_batches_do_not_depend_on_who_reads(tmp_path: Path, capacity: int) -> None:
    laid = laid_out(tmp_path, bad=[22])
    played: list[list[Any]] = []
    for threaded in (False, True):
        feed, _ = feed_of(laid, capacity=capacity, threaded=threaded)
        found = [
            (
                batch.step.lengths.tolist(),
                batch.step.reset.tolist(),
                batch.rows[0][valid_mask(batch.lengths, batch.rows[0].shape[1])].ravel().tolist(),
            )
            for batch in batches(feed, laid.plan.shards)
        ]
        played.append(found)
    assert played[0] == played[1]


@both_ways
def test_no_slot_stays_empty_while_a_row_for_it_can_be_read(tmp_path: Path, threaded: bool) -> None:
    laid = laid_out(tmp_path, lengths=[8] * 12)
    feed, _ = feed_of(laid, slots=4, threaded=threaded)
    assert [batch.step.busy_count for batch in batches(feed, laid.plan.shards)] == [4] * 6


class Watched(Feed):
    """A feed that says when its reader rests."""

    @property
    def reader_rests(self) -> bool:
        with self._changed:
            return self._reader_is_ahead


def test_a_shard_is_read_when_fewer_rows_wait_than_it_has(tmp_path: Path) -> None:
    laid = laid_out(tmp_path, lengths=[8] * 12)  # six shards of two entities
    arena = make_arena(1000)
    feed = Watched(laid.reader(block_rows=BLOCK_ROWS), laid.found, arena, Packer(slots=2, chunk=4))
    for shard in laid.plan.shards:
        feed.assign(shard)
    used = []
    for _ in range(8):  # half the rows of two entities each, of four shards in all
        while not feed.reader_rests:
            pass
        used.append(arena.used_rows)
        batch = feed.next_batch()
        assert batch is not None
        for placed in feed.collect(batch):
            feed.release(placed)
    assert used == [2 * 16] * 8  # what is in slots, and what comes next


@both_ways
def test_a_feed_that_is_closed_at_once_has_nothing(tmp_path: Path, threaded: bool) -> None:
    feed, _ = feed_of(laid_out(tmp_path), threaded=threaded)
    assert list(batches(feed, [])) == []


@both_ways
def test_an_error_of_the_reader_reaches_whoever_wants_rows(tmp_path: Path, threaded: bool) -> None:
    laid = laid_out(tmp_path)
    Path(laid.files[1]).write_bytes(b"no more")
    feed, _ = feed_of(laid, threaded=threaded)
    with pytest.raises(InputBroken, match=r"part-001\.parquet is damaged"):
        list(batches(feed, laid.plan.shards))


def test_demand_tells_what_slots_and_arena_still_take(tmp_path: Path) -> None:
    laid = laid_out(tmp_path)
    feed, _ = feed_of(laid, slots=20, capacity=100, threaded=False, chunk=1)
    long, short = laid.plan.shards[0], laid.plan.shards[-1]
    demand = feed.demand()
    assert (demand.wanted_entities, demand.shards_ahead, demand.rows_free) == (40, 0, 100)
    assert demand.stream_rows == 2 * BLOCK_ROWS
    feed.assign(short)
    feed.assign(long)
    demand = feed.demand()
    free = 100 - short.rows - 2 * BLOCK_ROWS
    assert (demand.wanted_entities, demand.shards_ahead, demand.rows_free) == (40 - short.entities - 1, 2, free)
    assert feed.next_batch() is not None
    demand = feed.demand()
    assert (demand.wanted_entities, demand.shards_ahead, demand.rows_free) == (40 - short.entities - 1, 0, free)


def test_a_feed_wants_entities_for_its_slots_and_for_each_of_them_once_again(tmp_path: Path) -> None:
    laid = laid_out(tmp_path, lengths=[8] * 12)
    feed, _ = feed_of(laid, slots=3, threaded=False)
    wanted, ahead = [feed.demand().wanted_entities], [feed.shards_ahead]
    for shard in laid.plan.shards[:3]:  # two entities each
        feed.assign(shard)
        wanted.append(feed.demand().wanted_entities)
        ahead.append(feed.shards_ahead)
    assert (wanted, ahead) == ([6, 4, 2, 0], [0, 1, 2, 3])
    feed.next_batch()  # three of them are in slots, the fourth waits, a shard is not read yet
    assert (feed.demand().wanted_entities, feed.shards_ahead) == (0, 2)
