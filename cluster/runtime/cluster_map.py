"""`map` over a cluster: Ray tasks of some items each, in order, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import ray

from cluster.runtime.outcomes import task_value
from cluster.runtime.session import cluster_resources, elsewhere

BATCHES_WANTED = 16  # for each CPU: few enough that a task's start does not show, enough that all end together
BATCH_ITEMS_MAX = 256


def map_on_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], avoided: Collection[str] = ()
) -> Iterator[Any]:
    """`function` of each item, and on no node to avoid. A fault of ours that a task meets is raised here as it was."""
    # No CPU is asked for: the replicas have been promised them all, and are importing TensorFlow meanwhile.
    remote = ray.remote(_call).options(num_cpus=0, max_retries=2, **elsewhere(avoided))
    shared = ray.put(function)
    window = max(2, int(cluster_resources().get("CPU", 2)))
    pending: deque[Any] = deque()
    size = min(BATCH_ITEMS_MAX, -(-len(items) // (BATCHES_WANTED * window)))
    for start in range(0, len(items), max(1, size)):
        if len(pending) == window:
            yield from task_value(pending.popleft())
        pending.append(remote.remote(shared, items[start : start + size]))
    while pending:
        yield from task_value(pending.popleft())


def _call(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    return [function(item) for item in items]
