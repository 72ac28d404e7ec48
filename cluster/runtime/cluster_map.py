"""`map` over a cluster: one small Ray task for each item, in order, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from cluster.runtime.outcomes import task_value
from cluster.runtime.session import cluster_resources


def map_on_cluster(function: Callable[[str], Any], items: Sequence[str]) -> Iterator[Any]:
    """`function` of each item. A fault of ours that a task meets is raised here as it was there."""
    # No CPU is asked for: the replicas have been promised them all, and are importing TensorFlow meanwhile.
    remote = ray.remote(_call).options(num_cpus=0, max_retries=2)
    shared = ray.put(function)
    window = max(2, int(cluster_resources().get("CPU", 2)))
    pending: deque[Any] = deque()
    for item in items:
        if len(pending) == window:
            yield task_value(pending.popleft())
        pending.append(remote.remote(shared, item))
    while pending:
        yield task_value(pending.popleft())


def _call(function: Callable[[str], Any], item: str) -> Any:
    return function(item)
