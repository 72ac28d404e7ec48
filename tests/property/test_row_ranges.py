"""Row ranges are taken and put as their rows are, one by one, whatever is whole, short, empty or at the array's end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lstm_core.packing.row_ranges import RowRanges, row_numbers, valid_mask


@st.composite
def stretches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """An array (row, 2), and stretches of it of which no two share a row."""
    steps = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.one_of(st.just(steps), st.integers(0, steps)), min_size=1, max_size=9))
    gaps = draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    starts, behind = [], 0
    for length, gap in zip(lengths, gaps, strict=True):
        starts.append(behind + gap if length else -1)
        behind += gap + length
    rows = max(behind + draw(st.integers(0, 3)), 1)
    order = draw(st.permutations(range(len(lengths))))
    array = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    return array, np.array(starts)[order], np.array(lengths)[order], steps


@given(stretches())
def test_taking_stretches_is_taking_their_rows(given: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    array, starts, lengths, steps = given
    [found] = RowRanges([array], steps).take(starts, lengths)
    for one, start, length in zip(found, starts, lengths, strict=True):
        rows = [start + min(step, length - 1) for step in range(steps)] if length else [0] * steps
        np.testing.assert_array_equal(one, array[rows])
    np.testing.assert_array_equal(found, array[row_numbers(starts, lengths, steps)])


@given(stretches())
def test_putting_stretches_writes_their_rows_and_no_others(
    given: tuple[np.ndarray, np.ndarray, np.ndarray, int],
) -> None:
    array, starts, lengths, steps = given
    values = -1.0 - np.arange(len(starts) * steps * 2, dtype=np.float32).reshape(len(starts), steps, 2)
    expected = array.copy()
    for start, length, own in zip(starts, lengths, values, strict=True):
        expected[start : start + length] = own[:length]
    flags = np.zeros(len(array), np.bool_)
    RowRanges([array, flags], steps).put(starts, lengths, [values, True])
    np.testing.assert_array_equal(array, expected)
    assert flags.sum() == valid_mask(lengths, steps).sum()
    assert (array[flags] < 0).all()
