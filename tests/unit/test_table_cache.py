"""Which tables are kept."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from cluster.runtime.table_cache import TableCache


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
