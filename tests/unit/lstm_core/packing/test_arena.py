"""The arena: ranges, lowest free address first, and rows by number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_core.packing.arena import Arena, RowLayout
from tests.inputs.laid import make_arena


def test_regions_lie_side_by_side_from_the_lowest_address() -> None:
    arena = make_arena(10)
    assert [arena.allocate(3), arena.allocate(4), arena.allocate(3)] == [0, 3, 7]
    assert arena.used_rows == 10
    assert arena.allocate(1) is None


def test_a_released_region_is_taken_again_before_a_higher_one() -> None:
    arena = make_arena(10)
    first, _, third = arena.allocate(3), arena.allocate(3), arena.allocate(2)
    assert first is not None
    assert third is not None
    arena.release(third)
    arena.release(first)
    assert [arena.allocate(2), arena.allocate(2), arena.allocate(1)] == [0, 6, 2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
def test_released_neighbours_become_one_region_in_whatever_order(order: tuple[int, ...]) -> None:
    arena = make_arena(9)
    starts = [arena.allocate(3) for _ in range(3)]
    for index in order:
        start = starts[index]
        assert start is not None
        arena.release(start)
    assert arena.used_rows == 0
    assert arena.allocate(9) == 0


def test_free_rows_that_do_not_lie_together_are_no_region() -> None:
    arena = make_arena(9)
    starts = [arena.allocate(3) for _ in range(3)]
    arena.release(starts[0] or 0)
    arena.release(starts[2] or 0)
    assert arena.allocate(4) is None
    assert arena.allocate(3) == 0


@pytest.mark.parametrize("rows", [0, 11])
def test_a_region_that_can_never_fit_is_a_bug_of_the_caller(rows: int) -> None:
    with pytest.raises(AssertionError, match="can never fit"):
        make_arena(10).allocate(rows)


def test_gather_takes_stretches_of_every_input() -> None:
    layout = RowLayout((((2,), np.dtype("float32")), ((), np.dtype("int32"))), 1)
    arena = Arena(4, layout)
    arena.inputs[0][:] = np.arange(8).reshape(4, 2)
    arena.inputs[1][:] = [10, 11, 12, 13]
    numbers, codes = arena.gather(np.array([2, 1, -1]), np.array([2, 1, 0]), 2)
    assert numbers.tolist() == [[[4, 5], [6, 7]], [[2, 3], [2, 3]], [[0, 1], [0, 1]]]
    assert codes.tolist() == [[12, 13], [11, 11], [10, 10]]
    assert codes.dtype == np.int32


def test_scatter_puts_the_outputs_side_by_side_and_leaves_other_rows_alone() -> None:
    arena = Arena(4, RowLayout((), 3))
    arena.scores[:] = -1
    scores = [np.array([[[1.0, 2.0]], [[3.0, 4.0]], [[7.0, 7.0]]]), np.array([[[5.0]], [[6.0]], [[7.0]]])]
    arena.scatter(np.array([2, 0, -1]), np.array([1, 1, 0]), scores)
    assert arena.scores.tolist() == [[3, 4, 6], [-1, -1, -1], [1, 2, 5], [-1, -1, -1]]
    assert arena.scored.tolist() == [True, False, True, False]


def test_scores_of_another_width_are_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        Arena(4, RowLayout((), 3)).scatter(np.array([0]), np.array([1]), [np.array([[[1.0, 2.0]]])])


def test_row_bytes_count_inputs_scores_and_targets() -> None:
    layout = RowLayout((((3,), np.dtype("float32")), ((), np.dtype("int32"))), score_values=2, target_values=1)
    assert layout.row_bytes == 3 * 4 + 4 + 2 * 4 + 2 * 4


@given(st.lists(st.integers(1, 12), max_size=40), st.randoms(use_true_random=False))
def test_regions_in_use_never_overlap_and_all_come_back(sizes: list[int], chance: object) -> None:
    arena = make_arena(20)
    used: dict[int, int] = {}
    for size in sizes:
        start = arena.allocate(size)
        while start is None:
            gone = sorted(used)[chance.randrange(len(used))]  # type: ignore[attr-defined]
            arena.release(gone)
            del used[gone]
            start = arena.allocate(size)
        used[start] = size
        rows = [row for begin, count in used.items() for row in range(begin, begin + count)]
        assert len(set(rows)) == len(rows) == arena.used_rows
        assert 0 <= min(rows) <= max(rows) < 20
    for start in used:
        arena.release(start)
    assert (arena.used_rows, arena.allocate(20)) == (0, 0)
