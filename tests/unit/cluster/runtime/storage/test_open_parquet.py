"""A Parquet file that stays open: what it gives, and that it keeps nothing of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.runtime.storage.open_parquet import OpenParquet

ROWS = 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = pa.table({"a": np.random.default_rng(0).standard_normal(ROWS), "b": np.arange(ROWS)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=ROWS // 4)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("local", [True, False])
def test_row_groups_come_in_any_order_with_the_columns_asked_for(path: Path, local: bool) -> None:
    whole, file = pq.read_table(path, partitioning=None), OpenParquet(pa.OSFile(str(path)), local=local)
    assert (file.schema.names, file.metadata.num_rows) == (["a", "b"], ROWS)
    for group in (3, 0, 3):
        rows = whole.slice(group * (ROWS // 4), ROWS // 4)
        assert file.read_row_group(group).equals(rows)
        assert file.read_row_group(group, ["b"]).equals(rows.select(["b"]))
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read_row_group(0)


@pytest.mark.parametrize("local", [True, False])
def test_nothing_that_was_read_is_kept(path: Path, local: bool) -> None:
    pool = pa.default_memory_pool()
    file = OpenParquet(pa.OSFile(str(path)), local=local)
    before = pool.bytes_allocated()
    file.read_row_group(0)
    until = time.monotonic() + 30  # a thread that has fetched lets go a moment later
    while pool.bytes_allocated() - before >= 10_000 and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert pool.bytes_allocated() - before < 10_000
    file.close()
