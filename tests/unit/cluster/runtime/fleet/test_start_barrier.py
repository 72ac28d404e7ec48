"""Replicas begin together, but never wait long for one that does not come."""

from __future__ import annotations

import pytest

from cluster.runtime.fleet.start_barrier import PATIENCE_S, StartBarrier


class Clock:
    """A clock that stands still."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nobody_begins_before_all_have_their_model(clock: Clock) -> None:
    together = StartBarrier(clock)
    assert not together.may_begin(waiting=0, loading=3)
    assert not together.may_begin(waiting=2, loading=1)
    assert together.may_begin(waiting=3, loading=0)


def test_the_first_one_waits_so_long_and_no_longer(clock: Clock) -> None:
    together = StartBarrier(clock)
    assert not together.may_begin(waiting=1, loading=2)
    clock.now_s += 0.75 * PATIENCE_S
    assert not together.may_begin(waiting=2, loading=1)
    assert together.left_s() == pytest.approx(0.25 * PATIENCE_S)
    clock.now_s += 0.25 * PATIENCE_S
    assert together.left_s() == 0
    assert together.may_begin(waiting=2, loading=1)


def test_time_in_which_nobody_waits_does_not_count(clock: Clock) -> None:
    together = StartBarrier(clock)
    for _ in range(3):
        assert not together.may_begin(waiting=0, loading=2)
        clock.now_s += PATIENCE_S
    assert not together.may_begin(waiting=1, loading=1)
    assert together.left_s() == PATIENCE_S


def test_whoever_comes_once_others_have_begun_does_not_wait(clock: Clock) -> None:
    together = StartBarrier(clock)
    assert together.may_begin(waiting=1, loading=0)
    assert together.may_begin(waiting=1, loading=5)


def test_one_replica_alone_begins_at_once(clock: Clock) -> None:
    assert StartBarrier(clock).may_begin(waiting=1, loading=0)
