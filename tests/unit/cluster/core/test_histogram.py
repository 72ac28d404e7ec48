"""Distributions in bins, against the same taken from all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.histogram import BINS, Histogram, distance, length_bins, length_from

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200)


def counted(values: list[float], low: float | None = None, high: float | None = None) -> Histogram:
    array = np.array(values, np.float32)
    made = Histogram.between(float(array.min()) if low is None else low, float(array.max()) if high is None else high)
    for part in np.array_split(array, 3):
        made.add(part)
    return made


@given(VALUES)
def test_counts_mean_and_quantiles_are_those_of_the_values(values: list[float]) -> None:
    made = counted(values)
    assert made.total == len(values)
    assert made.mean == pytest.approx(np.array(values, np.float32).astype(np.float64).mean(), abs=1e-3, rel=1e-6)
    width = (made.high - made.low) / BINS
    for share in (0.01, 0.5, 0.99):
        nearest = np.quantile(np.array(values, np.float32), share, method="inverted_cdf")
        assert abs(made.quantile(share) - nearest) <= width * 1.01 + 1e-9


@given(VALUES, st.integers(1, 80))
def test_shares_add_up_to_one(values: list[float], bars: int) -> None:
    made = counted(values)
    assert made.shares(made.low, made.high, bars).sum() == pytest.approx(1.0)


def test_what_is_no_number_is_counted_apart() -> None:
    made = Histogram.between(0.0, 1.0)
    made.add(np.array([np.nan, 0.5, np.inf], np.float32))
    assert (made.total, made.not_finite, made.mean) == (1, 2, 0.5)


def test_the_distance_of_a_distribution_to_itself_is_none_and_to_one_apart_all() -> None:
    low, high = counted([0.0] * 5, 0.0, 10.0), counted([10.0] * 9, 0.0, 10.0)
    assert distance(low, low) == 0.0
    assert distance(low, high) == pytest.approx(1.0)
    assert distance(counted([0.0, 0.0, 10.0, 10.0]), counted([0.0, 10.0, 10.0, 10.0])) == pytest.approx(0.25)
    assert distance(low, Histogram.between(0.0, 10.0)) == 0.0


def test_one_value_has_a_distribution() -> None:
    assert counted([3.0, 3.0]).quantile(0.5) == pytest.approx(3.0, abs=1e-5)


@given(st.lists(st.integers(1, 10**9), max_size=100))
def test_each_length_falls_into_the_bin_that_begins_below_it(lengths: list[int]) -> None:
    bins = length_bins(np.array(lengths, np.int64))
    assert bins.sum() == len(lengths)
    for index, count in enumerate(bins.tolist()):
        assert count == sum(length_from(index) <= rows < length_from(index + 1) for rows in lengths)
