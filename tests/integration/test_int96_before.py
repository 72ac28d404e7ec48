"""Runs that an earlier version has begun, when it read times of 96 bits in nanoseconds: they go on, and hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cluster.runtime.input import source_files
from cluster.runtime.run.run import score
from cluster.runtime.storage import open_parquet
from jobs.commands import verify
from jobs.commands.score import request_of
from tests.harness.every_road import ENTITIES, Spelling, alone, config_of, lay, truth
from tests.harness.inprocess import in_process
from tests.harness.truth import TOLERANCE
from tests.kills.breaking import Broken, breaking

KEPT = {"kept": lambda row: pa.array(row * 10**6 + 5, pa.int64()).cast(pa.timestamp("us"))}
SPELLING = Spelling(kept=KEPT, write={"use_deprecated_int96_timestamps": True})
OFTEN = {"faults": {"checkpoint_s": 0.0001, "quarantine_limit": 1.0}, "output": {"rows_per_file": 4}}


@contextmanager
def reading_nanoseconds() -> Iterator[None]:
    """As it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_parquet, "INT96_UNIT", "ns")
        patch.setitem(source_files.open_source.__wrapped__.__kwdefaults__, "int96_unit", "ns")
        yield


@pytest.mark.parametrize("layout", ["tidy", "turned", "mixed"])
@pytest.mark.parametrize("fragments", [1, 3, 99], ids=["begun", "half done", "done"])
def test_a_run_goes_on_and_its_times_are_the_same_moments(
    tmp_path: Path, layout: str, fragments: int, impatient: None
) -> None:
    spelling = Spelling(**{**vars(SPELLING), "settings": OFTEN})
    lay(tmp_path / "in-first", spelling, layout, 0)
    config = config_of(tmp_path, spelling, "first", None)
    with reading_nanoseconds():
        try:
            score(request_of(config), open_cluster=breaking(fragments))
        except Broken:
            assert fragments < 99
    record = score(request_of(config), open_cluster=in_process)
    assert (record["status"], record["rows_scored"]) == ("done", 15)
    verify.expect_holds(verify.run(tmp_path / "out-first", ENTITIES, alone))
    units = {ds.dataset(path).schema.field("time").type.unit for path in (tmp_path / "out-first").glob("*.parquet")}
    assert "ns" in units
    found = ds.dataset(sorted((tmp_path / "out-first").glob("*.parquet"))).to_table().sort_by("row_number")
    rows = found.column("row_number").to_numpy()
    assert abs(found.column("score").to_numpy() - truth()[rows]).max() < TOLERANCE
    assert found.column("kept").cast(pa.timestamp("us")).cast(pa.int64()).to_pylist() == [
        int(row) * 10**6 + 5 for row in rows
    ]
