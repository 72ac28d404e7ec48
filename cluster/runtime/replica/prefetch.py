"""Prefetch: the next items are made in a thread of their own while the caller uses the last one.

Decides nothing of the items: they come in their order, each once, so what is made of them does not depend on timing. A
fault of the maker is raised where its item would have come; a caller that stops early ends the thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")
_PATIENCE_S = 0.05  # how often a thread with a full queue looks whether anybody still wants it


class _Mark(Enum):
    END = auto()  # behind the last item


class _Fault:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetched(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """The items, at most `depth` of them made ahead."""
    ahead: Queue[Item | _Fault | _Mark] = Queue(depth)
    unwanted = threading.Event()

    def offer(item: Item | _Fault | _Mark) -> bool:
        while not unwanted.is_set():
            try:
                ahead.put(item, timeout=_PATIENCE_S)
                return True
            except Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
            offer(_Mark.END)
        except BaseException as error:  # raised again where the item is waited for
            offer(_Fault(error))

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not _Mark.END:
            if isinstance(item, _Fault):
                raise item.error
            yield item
    finally:
        unwanted.set()
        thread.join()
