"""Which prefix of the slots a step runs on, and when a size is compiled."""

from __future__ import annotations

import pytest

from lstm_core.step_sizes import CALL_WASTE, REACH, WASTE_MAX, Size, Sizes, ladder


def _sizes(refused: tuple[Size, ...] = ()) -> tuple[Sizes, list[Size]]:
    asked: list[Size] = []

    def compile_size(size: Size) -> str | None:
        asked.append(size)
        return None if size in refused else f"step {size}"

    return Sizes((256, 64), compile_size), asked


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
    assert sizes.fit(30, 64) == (256, 64)
    for size in ((32, 64), (64, 64), (64, 8), (256, 64)):
        sizes.prepare(size)
    assert asked == [(32, 64), (64, 64), (64, 8)]  # the whole one is there from the start
    assert sizes.fit(30, 64) == (32, 64)
    assert sizes.fit(33, 9) == (64, 64)
    assert sizes.fit(33, 8) == (64, 8)
    assert sizes.fit(65, 1) == (256, 64)
    assert sizes.get((64, 8)) == "step (64, 8)"


def test_a_size_with_other_bits_is_never_used_nor_compiled_again() -> None:
    sizes, asked = _sizes(refused=((8, 64),))
    for _ in range(2):
        sizes.prepare((8, 64))
    for _ in range(2 * int(WASTE_MAX)):
        sizes.fit(8, 64)
        sizes.wait()
    assert asked == [(8, 64), (16, 64)]  # the next one will do
    assert sizes.fit(8, 64) == (16, 64)


def test_a_size_is_compiled_once_enough_was_wasted() -> None:
    sizes, asked = _sizes()
    few = 0
    while not asked:
        sizes.fit(16, 64)
        sizes.wait()
        few += 1
    assert few == int(WASTE_MAX / (1 - 16 / 256)) + 1
    assert asked == [(16, 64)]
    assert sizes.fit(16, 64) == (16, 64)


def test_short_steps_on_all_slots_waste_nothing() -> None:
    sizes, asked = _sizes()
    for _ in range(1000):
        assert sizes.fit(256, 3) == (256, 64)
    sizes.wait()
    assert asked == []


def test_a_call_reaches_as_far_as_the_narrowest_size_that_holds_its_slots() -> None:
    sizes, _ = _sizes()
    assert sizes.reach(30, 9) == 1
    sizes.prepare((32, REACH * 64))
    assert [sizes.reach(*asked) for asked in ((30, 9), (30, 3), (30, 1), (33, 9))] == [REACH, 3, 1, 1]
    assert sizes.fit(30, REACH * 64) == (32, REACH * 64)
    assert sizes.fit(30, 5) == (32, REACH * 64)


def test_the_reach_of_all_slots_grows_once_enough_calls_were_needless() -> None:
    sizes, asked = _sizes()
    needless = 0
    while not asked:
        assert sizes.reach(256, 100) == 1
        sizes.wait()
        needless += 1
    assert needless == pytest.approx(WASTE_MAX / (CALL_WASTE * (REACH - 1)), abs=2)
    assert asked == [(256, REACH * 64)]
    assert sizes.reach(256, 100) == REACH
    assert sizes.fit(256, 64) == (256, 64)


def test_where_every_size_has_other_bits_the_whole_one_stays() -> None:
    sizes, _ = _sizes(refused=tuple((width, REACH * 64) for width in ladder(256, 8)))
    for _ in range(1_000):
        assert sizes.reach(256, 4) == 1
        assert sizes.fit(5, 64) == (256, 64)
        sizes.wait()


def test_a_narrow_size_is_compiled_long_where_series_go_on() -> None:
    sizes, asked = _sizes()
    while not asked:
        assert sizes.fit(16, sizes.reach(16, 2) * 64) == (256, 64)
        sizes.wait()
    assert asked == [(16, REACH * 64)]
