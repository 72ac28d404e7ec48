"""Carry-over that somebody has changed: the night that reads it says so, and so does the audit of that night."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.carry import CarryFile
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.carry.carry_sums import expect_sums, sums_of
from jobs.commands.verify import run as verify
from lstm_core.errors import SlotcarError
from tests.harness.commands import command
from tests.harness.stranger import Victim


@pytest.fixture
def tonight(victim: Victim) -> Victim:
    """A victim whose second night has not been scored yet."""
    shutil.rmtree(victim.second)
    shutil.rmtree(victim.second_state)
    return victim


def file_of(state: Path) -> Path:
    (found,) = state.glob("*.parquet")
    return found


def rewritten(state: Path, column: str, change: Callable[[Any], Any]) -> None:
    """One column of the table has other values, the file's metadata stay."""
    path = file_of(state)
    table = pq.read_table(path)
    index = next(i for i, name in enumerate(table.column_names) if name.startswith(column))
    values = table.column(index).combine_chunks()
    pq.write_table(table.set_column(index, table.schema.field(index), change(values)), path)


def states(values: Any) -> Any:
    flat = values.flatten().to_numpy().copy()
    flat[:] = 0.5
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.type.list_size)


def one_state(values: Any) -> Any:
    flat = values.flatten().to_numpy().copy()
    flat[-1] = np.nextafter(flat[-1], np.float32(9))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.type.list_size)


def swapped(values: Any) -> Any:
    return values.take(pa.array([1, 0, *range(2, len(values))]))


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "all states": ("state__", states),
    "one bit of one state": ("state__", one_state),
    "two entities' states": ("state__", swapped),
    "last_time": ("last_time", lambda values: pa.array([values[-1].as_py()] * len(values), values.type)),
    "rows_seen": ("rows_seen", lambda values: pa.array([7] * len(values), values.type)),
    "an entity's key": ("entity", lambda values: pa.array(["x", *values.to_pylist()[1:]], values.type)),
    "two entities' keys": ("entity", swapped),
}
every_change = pytest.mark.parametrize(("column", "change"), CHANGES.values(), ids=CHANGES.keys())


@every_change
def test_a_night_does_not_go_on_from_a_table_that_was_changed(
    tonight: Victim, column: str, change: Callable[[Any], Any]
) -> None:
    rewritten(tonight.state, column, change)
    with pytest.raises(SlotcarError, match="put the carry-over back as it was") as refused:
        tonight.second_night()
    assert file_of(tonight.state).name in str(refused.value)
    assert not (tonight.second / "_SUCCESS").exists()


@every_change
def test_a_copy_by_another_program_is_checked_as_well(
    tonight: Victim, column: str, change: Callable[[Any], Any]
) -> None:
    """Its footer has no checksums, so its rows are compared with `_SUCCESS`."""
    path = file_of(tonight.state)
    table = pq.read_table(path)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"slotcar.sums"}
    pq.write_table(table.replace_schema_metadata(kept), path, compression="gzip", row_group_size=2)
    pq.write_table(pq.read_table(path), path)
    assert sums_of(pq.read_metadata(path)) == ()
    tonight.second_night()
    shutil.rmtree(tonight.second)
    shutil.rmtree(tonight.second_state)
    rewritten(tonight.state, column, change)
    with pytest.raises(InputRefused, match="checksum"):
        tonight.second_night()


def test_every_flipped_bit_is_found(tonight: Victim) -> None:
    """In the pages of states: where Arrow reads the file at all, the value that it gives is another one."""
    path = file_of(tonight.state)
    whole, table = path.read_bytes(), pq.read_table(path)
    footer = pq.read_metadata(path)
    sums = sums_of(footer)
    assert {name for name, _ in sums} == set(table.column_names)
    columns = [footer.row_group(0).column(i) for i in range(footer.num_columns)]
    column = next(one for one in columns if one.path_in_schema.startswith("state__"))
    seen = 0
    for back in range(1, column.total_compressed_size - 40, 7):
        spoilt = bytearray(whole)
        spoilt[column.data_page_offset + column.total_compressed_size - back] ^= 0x40
        path.write_bytes(spoilt)
        try:
            read = pq.ParquetFile(path).read_row_group(0)
        except (OSError, pa.ArrowException):
            continue
        if not read.equals(table):
            seen += 1
            with pytest.raises(pa.ArrowInvalid, match="state__"):
                expect_sums(sums, 0, read)
    assert seen > 0


@every_change
def test_verify_looks_at_what_the_run_has_read(victim: Victim, column: str, change: Callable[[Any], Any]) -> None:
    assert verify(victim.second).holds
    rewritten(victim.state, column, change)
    failed = {check.name: check.first for check in verify(victim.second).checks if not check.holds}
    assert "carry-over" in failed
    assert "carry-over" in {check.name for check in verify(victim.output).checks if not check.holds}


def test_a_mark_that_names_other_files_is_refused(tonight: Victim) -> None:
    mark = tonight.state / "_SUCCESS"
    told = json.loads(mark.read_text())
    assert told["checksums"].keys() == {file_of(tonight.state).name}
    told["checksums"] = {"part-x.parquet": "0"}
    mark.write_text(json.dumps(told))
    with pytest.raises(InputRefused, match="_SUCCESS"):
        tonight.second_night()


def test_a_table_of_an_earlier_version_is_read_and_audited(tonight: Victim) -> None:
    """It has neither checksums of files in its mark nor sums in its footers."""
    path, mark = file_of(tonight.state), tonight.state / "_SUCCESS"
    table = pq.read_table(path)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"slotcar.sums"}
    with pq.ParquetWriter(path, table.schema.with_metadata(kept)) as writer:
        writer.write_table(table.replace_schema_metadata(kept))
    told = json.loads(mark.read_text())
    del told["checksums"]
    mark.write_text(json.dumps(told, indent=1, sort_keys=True))
    tonight.second_night()
    assert verify(tonight.second).holds
    assert verify(tonight.output).holds
    assert command("state", "show", str(tonight.state)) == 0


def test_sums_that_do_not_fit_the_footer_count_as_none(tonight: Victim) -> None:
    path = file_of(tonight.state)
    table = pq.read_table(path)
    for told in (b"[]", b"{}", b"\xff", b'{"entity": 5}', b'{"entity": []}', b"null"):
        pq.write_table(table.replace_schema_metadata({b"slotcar.sums": told}), path)
        assert sums_of(pq.read_metadata(path)) == ()
    expect_sums(CarryFile("x", (1,)).sums, 0, table)
    rewritten(tonight.state, "state__", states)
    with pytest.raises((InputRefused, InputBroken)):
        tonight.second_night()
