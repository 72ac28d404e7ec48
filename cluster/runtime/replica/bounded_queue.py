"""A bounded queue: what one thread hands to the next, at most so many items ahead.

Made of two queues that Python keeps in C, one for the items and one for the room that is left, since a hand-over
happens several times in every step; `queue.Queue` takes ten times as long for it. Decides nothing.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BoundedQueue(Generic[Item]):
    """Items in the order in which they were put; whoever puts waits for room, whoever gets waits for an item."""

    def __init__(self, length: int) -> None:
        assert length > 0, length
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(length):
            self._room.put(None)

    def put(self, item: Item) -> None:
        """Adds an item, once there is room for it."""
        self._room.get()
        self._items.put(item)

    def get(self) -> Item:
        """Takes the oldest item, once there is one."""
        item = self._items.get()
        self._room.put(None)
        return item

    def qsize(self) -> int:
        """Items that wait."""
        return self._items.qsize()
