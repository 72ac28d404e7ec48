"""Files of carry-over: how their columns lie in Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.carry import carry_schema
from cluster.core.commit import STAGED
from cluster.runtime.carry.carry_writer import CarryTarget, stage_rows
from cluster.runtime.storage.local_store import LocalStore
from tests.unit.cluster.core.test_carry import COLUMNS, CONTRACT, settings


@pytest.mark.parametrize("wanted", ["zstd", "gzip", "none"])
def test_states_get_the_compression_that_costs_least_and_all_else_the_one_asked_for(
    wanted: str, tmp_path: Path
) -> None:
    schema = carry_schema(COLUMNS, settings(), CONTRACT)
    target = CarryTarget(LocalStore(str(tmp_path)), schema, {}, wanted)
    rows = pa.table([pa.nulls(3, field.type) for field in schema.arrow], schema=schema.arrow)
    stage_rows(target, [rows], "carry.parquet", "staged.parquet")
    group = pq.read_metadata(tmp_path / STAGED / "staged.parquet").row_group(0)
    found = {column.path_in_schema: column.compression for column in map(group.column, range(group.num_columns))}
    other = {"none": "UNCOMPRESSED"}.get(wanted, wanted.upper())
    states = [f"{state.name}.list.element" for state in schema.states]
    assert len(states) == 3
    assert {found.pop(name) for name in states} == {other if wanted == "none" else "LZ4"}
    assert set(found.values()) == {other}
