"""Which sizes a step runs on, and when one is compiled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_core.array_types import Ints
from lstm_core.step.step_cost import COMPILE, StepCost
from lstm_core.step.step_sizes import REACH, Size, Sizes, ladder

COST = StepCost.of(36_864, 128)  # an LSTM of 64 units on 8 features
LONG = REACH * 64


def _sizes(refused: tuple[Size, ...] = ()) -> tuple[Sizes, list[Size]]:
    asked: list[Size] = []

    def compile_size(size: Size) -> str | None:
        asked.append(size)
        return None if size in refused else f"step {size}"

    return Sizes((256, 64), compile_size, COST), asked


def _rows(slots: int, rows: int) -> Ints:
    """Lengths (slot,): so many of 256 slots have `rows` rows."""
    return np.where(np.arange(256) < slots, rows, 0)


def _left(slots: int, chunks: int = 9) -> Ints:
    """Chunks that so many busy slots still have."""
    return np.full(slots, chunks)


def test_the_ladder_halves() -> None:
    assert ladder(256, 8) == [8, 16, 32, 64, 128, 256]
    assert ladder(24, 8) == [12, 24]
    assert ladder(7, 8) == [7]


def test_the_smallest_size_holds_what_was_asked_for() -> None:
    sizes, _ = _sizes()
    assert [sizes.smallest(*asked) for asked in ((1, 1), (8, 8), (9, 8), (64, 24), (256, 64))] == [
        (8, 8),
        (8, 8),
        (16, 8),
        (64, 32),
        (256, 64),
    ]


def test_steps_run_on_the_smallest_compiled_size() -> None:
    sizes, asked = _sizes()
    assert sizes.fit(_rows(30, 64)) == (256, 64)
    for size in ((32, 64), (64, 64), (64, 8), (256, 64)):
        sizes.prepare(size)
    assert asked == [(32, 64), (64, 64), (64, 8)]  # the whole one is there from the start
    assert sizes.fit(_rows(30, 64)) == (32, 64)
    assert sizes.fit(_rows(33, 9)) == (64, 64)
    assert sizes.fit(_rows(33, 8)) == (64, 8)
    assert sizes.fit(_rows(65, 1)) == (256, 64)
    assert sizes.get((64, 8)) == "step (64, 8)"


def test_more_slots_than_a_size_has_are_blocks_of_it_while_they_cost_less() -> None:
    sizes, _ = _sizes()
    sizes.prepare((16, LONG))
    assert [sizes.fit(_rows(*asked)) for asked in ((16, LONG), (17, LONG), (40, 64), (200, 64))] == [
        (16, LONG),
        (32, LONG),
        (48, LONG),
        (256, 64),
    ]
    assert sizes.block((48, LONG)) == (16, LONG)
    sizes.prepare((64, LONG))
    assert sizes.fit(_rows(40, 64)) == (64, LONG)
    assert sizes.block((64, LONG)) == (64, LONG)
    with pytest.raises(ValueError, match=r"\(24, 256\) slots and timesteps was never compiled"):
        sizes.block((24, LONG))


def test_a_block_costs_what_its_longest_slot_costs() -> None:
    sizes, _ = _sizes()
    sizes.prepare((16, 64))
    lengths = _rows(192, 64)
    assert sizes.fit(lengths) == (256, 64)
    lengths[16:192] = 8
    assert sizes.fit(lengths) == (192, 64)


@given(
    lengths=st.lists(st.integers(0, LONG), min_size=256, max_size=256).filter(any),
    compiled=st.lists(st.tuples(st.sampled_from(ladder(256, 8)), st.sampled_from([8, 64, LONG])), max_size=4),
)
def test_a_size_holds_its_rows_is_made_of_what_is_compiled_and_never_dearer_than_the_whole(
    lengths: list[int], compiled: list[Size]
) -> None:
    sizes, _ = _sizes()
    for size in (*compiled, (256, LONG)):
        sizes.prepare(size)
    rows = np.array(lengths)
    width, steps = sizes.fit(rows)
    assert width >= np.count_nonzero(rows)
    assert steps >= rows.max()
    block, _ = sizes.block((width, steps))
    assert (block, steps) in [*sizes.compiled, sizes.whole]
    longest = np.sort(rows)[::-1][:width:block]
    assert COST.calls(block, longest) <= COST.calls(256, rows.max(keepdims=True))


def test_a_size_with_other_bits_is_never_used_nor_compiled_again() -> None:
    sizes, asked = _sizes(refused=((8, 64),))
    for _ in range(2):
        sizes.prepare((8, 64))
    while len(asked) < 2:
        assert sizes.fit(_rows(8, 64)) == (256, 64)
        sizes.wait()
    assert asked == [(8, 64), (16, 64)]  # the next one will do
    assert sizes.fit(_rows(8, 64)) == (16, 64)


def test_a_size_is_compiled_once_enough_was_wasted() -> None:
    sizes, asked = _sizes()
    few = 0
    while not asked:
        sizes.fit(_rows(16, 64))
        sizes.wait()
        few += 1
    chunk = np.array([64])
    assert few == int(COMPILE / (COST.calls(256, chunk) - COST.calls(16, chunk))) + 1
    assert asked == [(16, 64)]
    assert sizes.fit(_rows(16, 64)) == (16, 64)


def test_short_steps_on_all_slots_waste_nothing() -> None:
    sizes, asked = _sizes()
    for _ in range(1000):
        assert sizes.fit(_rows(256, 3)) == (256, 64)
    sizes.wait()
    assert asked == []


def test_a_call_reaches_as_far_as_the_sizes_allow_where_that_costs_less() -> None:
    sizes, _ = _sizes()
    assert sizes.reach(_left(30), 9) == 1
    sizes.prepare((32, LONG))
    asked = ((30, 9), (30, 3), (30, 1), (33, 9), (250, 9))
    assert [sizes.reach(_left(slots), chunks) for slots, chunks in asked] == [REACH, 3, 1, REACH, 1]
    assert sizes.fit(_rows(30, LONG)) == (32, LONG)
    assert sizes.fit(_rows(33, LONG)) == (64, LONG)
    assert sizes.fit(_rows(30, 5)) == (32, LONG)


def test_all_slots_take_one_chunk_of_their_series_since_their_steps_go_in_groups() -> None:
    sizes, asked = _sizes()
    for _ in range(1_000):
        assert sizes.reach(_left(256), 100) == 1
        assert sizes.fit(_rows(256, 64)) == (256, 64)
    sizes.wait()
    assert asked == []


def test_where_every_size_has_other_bits_the_whole_one_stays() -> None:
    sizes, _ = _sizes(refused=tuple((width, LONG) for width in ladder(256, 8)))
    for _ in range(1_000):
        assert sizes.reach(_left(256), 4) == 1
        assert sizes.fit(_rows(5, 64)) == (256, 64)
        sizes.wait()


def test_a_narrow_size_is_compiled_long_where_series_go_on() -> None:
    sizes, asked = _sizes()
    while not asked:
        assert sizes.fit(_rows(16, 64 * sizes.reach(_left(16), 2))) == (256, 64)
        sizes.wait()
    assert asked == [(16, LONG)]
