"""Items made ahead: in order, each once, with the maker's fault in its place and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cluster.runtime.replica.prefetch import prefetched


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 100])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_items_come_in_their_order_and_once(count: int, depth: int) -> None:
    assert list(prefetched(iter(range(count)), depth)) == list(range(count))
    assert threads() == []


def test_the_makers_fault_comes_behind_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    seen: list[int] = []
    with pytest.raises(ValueError, match="no third"):
        seen.extend(item for item in prefetched(broken(), 2))
    assert threads() == []


def test_a_caller_that_stops_early_ends_the_thread() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    items = prefetched(endless(), 2)
    assert [next(items), next(items)] == [0, 1]
    items.close()  # type: ignore[attr-defined]  # it is a generator
    assert threads() == []
    assert len(made) <= 6
