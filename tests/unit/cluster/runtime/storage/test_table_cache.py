"""Which tables are kept."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from cluster.runtime.storage.table_cache import TableCache


def test_tables_that_were_used_last_are_kept_up_to_their_bytes() -> None:
    cache, made = TableCache(100), list[str]()

    def make(name: str, values: int) -> pa.Table:
        made.append(name)
        return pa.table({"x": pa.array(np.zeros(values))})

    for name, values in (("a", 5), ("b", 5), ("a", 5), ("c", 5), ("a", 5), ("b", 5), ("huge", 1_000), ("huge", 1_000)):
        assert cache.get(name, partial(make, name, values)).num_rows == values
    assert made == ["a", "b", "c", "b", "huge"]
    cache.get("a", partial(make, "a", 5))
    assert made[-1] == "a"


def test_a_table_that_is_not_to_be_kept_is_given_once_more() -> None:
    cache, made = TableCache(100), list[int]()

    def make() -> pa.Table:
        made.append(len(made))
        return pa.table({"x": pa.array(np.zeros(5))})

    assert cache.get("a", make) is cache.get("a", make, keep=False)
    assert made == [0], "it was at hand"
    assert cache.get("a", make, keep=False).num_rows == 5
    cache.get("a", make)
    assert made == [0, 1, 2], "made each time"
