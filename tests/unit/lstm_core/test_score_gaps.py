"""The measure of two scorings: absolute within 1, else a share of the largest score of the column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_core.score_gaps import score_gaps


def worst(found: Any, truth: Any) -> float:
    return float(score_gaps(np.array(found, np.float32), np.array(truth, np.float32)).max(initial=0.0))


def test_small_scores_are_compared_as_they_are() -> None:
    assert worst([[0.25], [1e-3]], [[0.25], [2e-3]]) == pytest.approx(1e-3)


def test_large_scores_are_compared_by_the_largest_of_their_column() -> None:
    assert worst([[1500.0], [0.5]], [[1500.0], [0.0]]) == pytest.approx(0.5 / 1500)


def test_one_column_says_nothing_of_another() -> None:
    gaps = score_gaps(np.array([[1500.0, 0.5]], np.float32), np.array([[1500.0, 0.4]], np.float32))
    assert gaps.tolist() == [[0.0, pytest.approx(0.1)]]


@pytest.mark.parametrize("value", [1.0, 100.0, 1500.0, 1e6, -1e6, 3e38])
def test_the_last_bits_of_a_score_are_no_gap_and_a_thousandth_is_one(value: float) -> None:
    last = np.nextafter(np.float32(value), np.float32(0))
    assert worst([[value]], [[last]]) < 1e-6
    assert worst([[value]], [[value * (1 - 1e-3)]]) > 1e-4


def test_no_number_equals_no_number_and_is_infinitely_far_from_any() -> None:
    assert worst([[np.nan], [np.inf], [1.0]], [[np.nan], [np.inf], [1.0]]) == 0
    assert worst([[np.nan]], [[1.0]]) == worst([[1.0]], [[np.nan]]) == worst([[np.inf]], [[1.0]]) == np.inf


def test_an_infinite_score_hides_no_other() -> None:
    assert worst([[np.inf], [0.5]], [[np.inf], [0.4]]) == pytest.approx(0.1)


def test_no_rows_have_no_gap() -> None:
    assert score_gaps(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)).shape == (0, 2)
