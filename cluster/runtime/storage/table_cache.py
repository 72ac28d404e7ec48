"""A cache: the tables that were used last, up to a bound of bytes; the newest stays, however large it is.

Their bytes are counted once, when they come: asking a table for them costs as much as decoding a small one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class TableCache:
    """Tables by a key."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._tables: OrderedDict[Hashable, tuple[pa.Table, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], pa.Table], *, keep: bool = True) -> pa.Table:
        """The table of that key, which `make` gives where it is not at hand.

        With `keep=False`, where nobody will soon ask for it again, it is at hand no longer.
        """
        if not keep:
            table, size = self._tables.pop(key, (None, 0))
            self._bytes -= size
            return make() if table is None else table
        if key not in self._tables:
            table = make()
            self._tables[key] = (table, int(table.nbytes))
            self._bytes += self._tables[key][1]
            while len(self._tables) > 1 and self._bytes > self._bytes_max:
                self._bytes -= self._tables.popitem(last=False)[1][1]
        self._tables.move_to_end(key)
        return self._tables[key][0]
