"""How many rows each stepping replica has left, and who has the fewest, at a cost that does not grow with replicas.

The fewest are found by a heap in which old entries stay until they come up: a change is one push.
"""

from __future__ import annotations

import heapq


class RemainingRows:
    """Invariant: the newest entry of every replica stands in the heap."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, replica: int, rows: int) -> None:
        """A replica that steps has so many rows left now."""
        if self._rows.get(replica) == rows:
            return
        self._rows[replica] = rows
        heapq.heappush(self._heap, (rows, replica))
        if len(self._heap) > 64 + 4 * len(self._rows):
            self._heap = [(held, number) for number, held in self._rows.items()]
            heapq.heapify(self._heap)

    def remove(self, replica: int) -> None:
        """A replica that gets nothing more; one that is not there is fine."""
        self._rows.pop(replica, None)

    def least(self) -> int:
        """The fewest rows that a replica has left; 0 where there is none."""
        while self._heap and self._rows.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else 0

    def check(self, rows: dict[int, int]) -> None:
        """Asserts that these are the loads, and the invariant."""
        assert self._rows == rows, (self._rows, rows)
        assert self.least() == min(rows.values(), default=0), "the heap has lost the replica with the fewest rows"
