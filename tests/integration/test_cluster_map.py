"""Scans on a cluster: in order, by one worker while that does, and by several where one item alone takes long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet import task_map
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.fleet.task_map import (
    HERE_LIGHT_MAX,
    HERE_MAX,
    NeedsCluster,
    map_here,
    map_here_or_on_cluster,
    map_on_cluster,
)
from cluster.runtime.plan.input_scan import LightWork

pytestmark = pytest.mark.ray

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with connected(ClusterSettings(replicas=2)):
        yield


def squared(number: int) -> tuple[int, int]:
    """The square, and who made it."""
    return number * number, os.getpid()


def among_others(number: int, folder: Path) -> int:
    """Comes back once somebody else is at work on another item."""
    (folder / str(number)).touch()
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline, "alone to the end"
        pause.wait(0.01)
    return number


def timed(number: int) -> tuple[int, float, float]:
    """The square, and when it was begun and done, by the clock of all processes."""
    begin = time.monotonic()
    return number * number, begin, time.monotonic()


@pytest.mark.usefixtures("ray_here")
def test_quick_items_are_done_one_after_the_other_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_map, "WORKER_START_S", DEADLINE_S)  # however long a worker takes here to start
    found = list(map_on_cluster(timed, range(300)))
    assert [value for value, _, _ in found] == [number * number for number in range(300)]
    # Which worker does it is Ray's choice, which may change between two tasks; two at once would be ours.
    moments = [moment for _, begin, end in found for moment in (begin, end)]
    assert moments == sorted(moments), "two workers at once"


@pytest.mark.usefixtures("ray_here")
def test_an_item_that_takes_long_is_not_waited_for_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_map, "WORKER_START_S", 0.2)
    assert list(map_on_cluster(partial(among_others, folder=tmp_path), range(4))) == [0, 1, 2, 3]


def test_a_few_items_of_light_work_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_map, "WORKER_START_S", DEADLINE_S)
    found = list(map_here_or_on_cluster(LightWork(squared), range(HERE_LIGHT_MAX)))
    assert found == [(number * number, os.getpid()) for number in range(HERE_LIGHT_MAX)]


def test_without_a_cluster_what_wants_one_is_told_and_the_rest_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_map, "WORKER_START_S", 0.0)
    found = map_here(LightWork(squared), range(HERE_LIGHT_MAX))
    assert next(found) == (0, os.getpid())
    with pytest.raises(NeedsCluster):
        next(found)
    with pytest.raises(NeedsCluster):
        list(map_here(squared, range(HERE_MAX + 1)))
    assert len(list(map_here(squared, range(HERE_MAX)))) == HERE_MAX


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("count", [HERE_LIGHT_MAX, HERE_LIGHT_MAX + 1], ids=["slow", "many"])
def test_many_items_and_slow_ones_are_done_elsewhere(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if count <= HERE_LIGHT_MAX:
        monkeypatch.setattr(task_map, "WORKER_START_S", 0.0)
    found = list(map_here_or_on_cluster(LightWork(squared), range(count)))
    assert [value for value, _ in found] == [number * number for number in range(count)]
    here = [worker == os.getpid() for _, worker in found]
    assert here == [count <= HERE_LIGHT_MAX] + [False] * (count - 1)


@pytest.mark.usefixtures("ray_here")
def test_nothing_is_mapped_to_nothing() -> None:
    assert list(map_on_cluster(squared, [])) == []
