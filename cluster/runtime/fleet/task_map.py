"""`map` over a cluster: Ray tasks of some items each, in order, a bounded number at a time.

What it decides: that one task runs at a time until it is seen that more would help, and that none is started for light
work that is done sooner here. Workers are started beside replicas that are importing TensorFlow, and each costs a small
input more than its whole scan takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import ray

from cluster.runtime.fleet.ray_errors import task_value
from cluster.runtime.fleet.ray_session import avoid_nodes, cluster_resources
from cluster.runtime.plan.input_scan import Item, LightWork, Value

if TYPE_CHECKING:
    from ray import ObjectRef

BATCHES_WANTED = 16  # for each CPU: few enough that a task's start does not show, enough that all end together
BATCH_ITEMS_MAX = 256
WORKER_START_S = 2.5  # what a worker costs before its first item: Python, Ray, Arrow
HERE_MAX = 3  # items that are done here whatever they are
HERE_LIGHT_MAX = 16  # items of light work that are begun here


class NeedsCluster(Exception):
    """What is left is work for a cluster."""


def map_here(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """As `map_here_or_on_cluster` while there is no cluster yet.

    Raises `NeedsCluster` at the first item that wants one.
    """
    anyhow, light = len(items) <= HERE_MAX, isinstance(function, LightWork) and len(items) <= HERE_LIGHT_MAX
    here, done = anyhow or light, 0
    while here and done < len(items):
        seconds, values = _call(function, items[done : done + 1])
        yield from values
        done += 1
        here = anyhow or not _is_worth_a_worker(seconds, done, len(items) - done)
    if done < len(items):
        raise NeedsCluster


def map_here_or_on_cluster(
    function: Callable[[Item], Value], items: Sequence[Item], avoided: Collection[str] = ()
) -> Iterator[Value]:
    """As `map_on_cluster`; items so few and so quick that no worker is worth its start are done here."""
    done = 0
    try:
        for value in map_here(function, items):
            yield value
            done += 1
    except NeedsCluster:
        yield from map_on_cluster(function, items[done:], avoided)


def map_on_cluster(
    function: Callable[[Item], Value], items: Sequence[Item], avoided: Collection[str] = ()
) -> Iterator[Value]:
    """`function` of each item, and on no node to avoid. A fault of ours that a task meets is raised here as it was."""
    # No CPU is asked for: the replicas have been promised them all, and are importing TensorFlow meanwhile.
    call: Callable[[Callable[[Item], Value], Sequence[Item]], tuple[float, list[Value]]] = _call
    remote = ray.remote(call).options(num_cpus=0, max_retries=2, **avoid_nodes(avoided))
    shared = ray.put(function)
    full = max(2, int(cluster_resources().get("CPU", 2)))
    size = max(1, min(BATCH_ITEMS_MAX, -(-len(items) // (BATCHES_WANTED * full))))
    pending: deque[ObjectRef[tuple[float, list[Value]]]] = deque()
    window = 1
    for start in range(0, len(items), size):
        if window == 1 and pending and not ray.wait([pending[0]], timeout=WORKER_START_S)[0]:
            window = full
        if len(pending) == window:
            seconds, values = task_value(pending.popleft())
            yield from values
            if _is_worth_a_worker(seconds, start // size, (len(items) - start) / size):
                window = full
        pending.append(remote.remote(shared, items[start : start + size]))
    while pending:
        yield from task_value(pending.popleft())[1]


def _is_worth_a_worker(seconds: float, done: int, left: float) -> bool:
    """Whether one more would help with what is left, given how long the last of what is done took.

    The first has imported what all need, and says nothing of those behind it.
    """
    return seconds * (left if done > 1 else 1) > WORKER_START_S


def _call(function: Callable[[Item], Value], items: Sequence[Item]) -> tuple[float, list[Value]]:
    """The items' values, and the seconds that they took."""
    begin = time.perf_counter()
    values = [function(item) for item in items]
    return time.perf_counter() - begin, values
