"""What columns of ours are called beside those of the user."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.own_columns import LINE, apart, line_column, line_keys, own_name, quarantine_lines, with_rows

TAKEN = st.lists(st.sampled_from(["file", "slotcar_file", "slotcar_slotcar_file", "slotcar_", "row", "other"]))


@given(TAKEN, st.sampled_from([*LINE, "slotcar_", "last_time"]))
def test_a_name_is_set_apart_and_found_again(taken: list[str], name: str) -> None:
    found = apart(name, taken)
    assert found not in taken
    assert (found == name) == (name not in taken)
    if not name.startswith("slotcar_"):
        assert own_name(found, taken) == name


@pytest.mark.parametrize("entity", [("tailnum",), ("file",), ("rows", "time"), LINE, ("file", "slotcar_file")])
def test_lines_are_found_by_their_places(entity: tuple[str, ...]) -> None:
    keys = pa.table([pa.array(["a", "b"])] * len(entity), names=list(entity))
    lines = quarantine_lines(keys, ["why", "who"], [3, 4], (["f", "g"], [5, 6]))
    assert len(set(lines.column_names)) == len(entity) + len(LINE)
    assert line_keys(lines).equals(keys)
    found = [line_column(lines, name).to_pylist() for name in LINE]
    assert found == [["why", "who"], [3, 4], ["f", "g"], [5, 6], [None, None]]
    assert line_column(with_rows(lines, [7, 8]), "rows").to_pylist() == [7, 8]
    assert with_rows(lines, [7, 8]).schema.equals(lines.schema)
