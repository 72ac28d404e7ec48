"""`map` over a cluster: Ray tasks of some items each, in order, a bounded number at a time.

What it decides: that one task runs at a time until it is seen that more would help, and that none is started for light
work that is done sooner here. Workers are started beside replicas that are importing TensorFlow, and each costs a small
input more than its whole scan takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import ray

from cluster.runtime.outcomes import task_value
from cluster.runtime.planning import Light
from cluster.runtime.session import cluster_resources, elsewhere

BATCHES_WANTED = 16  # for each CPU: few enough that a task's start does not show, enough that all end together
BATCH_ITEMS_MAX = 256
WORKER_START_S = 2.5  # what a worker costs before its first item: Python, Ray, Arrow
HERE_ITEMS_MAX = 16


def map_here_or_on_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], avoided: Collection[str] = ()
) -> Iterator[Any]:
    """As `map_on_cluster`; a few items of light work are done here, for as long as they are as light as that."""
    few, done = isinstance(function, Light) and len(items) <= HERE_ITEMS_MAX, 0
    while few and done < len(items):
        begin = time.monotonic()
        yield function(items[done])
        done += 1
        # The first one imports what all need: it is only asked not to take as long as a worker would.
        few = (time.monotonic() - begin) * (len(items) - done if done > 1 else 1) < WORKER_START_S
    if done < len(items):
        yield from map_on_cluster(function, items[done:], avoided)


def map_on_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], avoided: Collection[str] = ()
) -> Iterator[Any]:
    """`function` of each item, and on no node to avoid. A fault of ours that a task meets is raised here as it was."""
    # No CPU is asked for: the replicas have been promised them all, and are importing TensorFlow meanwhile.
    remote = ray.remote(_call).options(num_cpus=0, max_retries=2, **elsewhere(avoided))
    shared = ray.put(function)
    full = max(2, int(cluster_resources().get("CPU", 2)))
    size = max(1, min(BATCH_ITEMS_MAX, -(-len(items) // (BATCHES_WANTED * full))))
    pending: deque[Any] = deque()
    window = 1
    for start in range(0, len(items), size):
        if window == 1 and pending:
            done, _ = ray.wait([pending[0]], timeout=WORKER_START_S)
            if not done:
                window = full  # each takes long
        if len(pending) == window:
            seconds, values = task_value(pending.popleft())
            yield from values
            # The first one has imported what all need: only those behind it say how long the rest will take.
            if start > size and seconds * (len(items) - start) / size > WORKER_START_S:
                window = full
        pending.append(remote.remote(shared, items[start : start + size]))
    while pending:
        yield from task_value(pending.popleft())[1]


def _call(function: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, list[Any]]:
    """The items' values, and the seconds that they took."""
    begin = time.perf_counter()
    values = [function(item) for item in items]
    return time.perf_counter() - begin, values
