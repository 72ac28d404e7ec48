"""Entity columns that come from the plan: the output is that of columns that were read, to the type and the footer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.commit import STAGED
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.planned_keys import PlannedKeys, without_dictionaries
from cluster.runtime.rows.row_origins import InputFiles
from tests.inputs.laid import Laid, lay, numeric
from tests.inputs.series import make_series, replace, with_nulls
from tests.unit.cluster.runtime.replica.test_fragment_writer import write, writer_of

LENGTHS = [5, 1, 9, 30, 3]
TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int16(), pa.string())]


def blocks(laid: Laid, keys: PlannedKeys) -> list[Block]:
    """The blocks of all shards; long entities come in pieces of 8 rows."""
    files, found = InputFiles(laid.files), []
    reader = BlockReader(laid.settings, Encoder(laid.settings, (numeric(1),)), files, Bounds(8, 1 << 20), keys)
    for shard in laid.plan.shards:
        for block in reader.blocks(shard, laid.extents(shard)):
            rows = pa.array([0.0] * block.rows, pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, 1).copy()
            reader.encode(block, [rows], None, None)
            found.append(block)
            if block.final:
                break
    return found


def files(folder: Path, found: list[Block]) -> list[Path]:
    return [folder / STAGED / (fragment.staged or "") for fragment in write(writer_of(folder), found)]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
@pytest.mark.parametrize("shard_rows", [1000, 16], ids=["whole", "streamed"])
def test_what_is_written_is_what_reading_them_would_give(kind: Any, shard_rows: int, tmp_path: Path) -> None:
    table = make_series(LENGTHS, extra=True)
    table = replace(table, "entity", table.column("entity").combine_chunks().cast(kind))
    field = table.schema.field("entity").with_metadata({"PARQUET:field_id": "7"})
    table = table.cast(table.schema.set(0, field)).replace_schema_metadata({"said": "so"})
    laid = lay(tmp_path / "in", with_nulls(table, "row", [20]), shard_rows=shard_rows, cut=([20, 28], [7]))
    planned = PlannedKeys.of(laid.settings, InputFiles(laid.files))
    assert planned.names == ("entity",)
    found, read = blocks(laid, planned), blocks(laid, PlannedKeys())
    assert all(pa.types.is_dictionary(block.table.schema.field("entity").type) for block in found)
    for one, other in zip(found, read, strict=True):
        assert without_dictionaries(one.table).select(other.table.column_names).equals(other.table)
        assert (one.quarantine is None) == (other.quarantine is None)
        assert one.quarantine is None or one.quarantine.equals(other.quarantine)
    for path, wanted in zip(files(tmp_path / "a", found), files(tmp_path / "b", read), strict=True):
        with pq.ParquetFile(path) as written, pq.ParquetFile(wanted) as expected:
            schemas = written.schema_arrow, expected.schema_arrow
            assert schemas[0].remove_metadata().equals(schemas[1].remove_metadata(), check_metadata=True)
            assert pa.types.is_dictionary(kind) or schemas[0].metadata == schemas[1].metadata == {b"said": b"so"}
            assert written.schema.equals(expected.schema)
            assert written.read().equals(expected.read())
            column, same = (file.metadata.row_group(0).column(0).statistics for file in (written, expected))
            assert (column.min, column.max, column.null_count) == (same.min, same.max, same.null_count)


def test_fragments_say_the_same_of_both(tmp_path: Path) -> None:
    laid = lay(tmp_path / "in", with_nulls(make_series(LENGTHS, extra=True), "row", [12]))
    planned = PlannedKeys.of(laid.settings, InputFiles(laid.files))
    (one,), (other,) = (
        write(writer_of(tmp_path / name), blocks(laid, keys)) for name, keys in (("a", planned), ("b", PlannedKeys()))
    )
    assert one == other


def test_a_key_that_is_no_text_or_is_wanted_otherwise_is_read(tmp_path: Path) -> None:
    table = make_series(LENGTHS, extra=True)
    numbered = replace(table, "entity", pa.array([int(name[1:]) for name in table.column("entity").to_pylist()]))
    laid = lay(tmp_path / "number", numbered)
    assert PlannedKeys.of(laid.settings, InputFiles(laid.files)).names == ()
    laid = lay(tmp_path / "kept", table, keep=("entity",))
    assert PlannedKeys.of(laid.settings, InputFiles(laid.files)).names == ()


def test_of_several_key_columns_only_text_comes_from_the_plan(tmp_path: Path) -> None:
    table = make_series(LENGTHS, extra=True)
    number = pa.array([int(name[1:]) for name in table.column("entity").to_pylist()], pa.int16())
    table = table.append_column("number", number)
    laid = lay(tmp_path / "in", table, entity=("number", "entity"))
    planned = PlannedKeys.of(laid.settings, InputFiles(laid.files))
    assert planned.names == ("entity",)
    (one,), (other,) = blocks(laid, planned), blocks(laid, PlannedKeys())
    assert one.table.column_names == other.table.column_names
    assert without_dictionaries(one.table).equals(other.table)


def test_a_first_file_that_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    laid = lay(tmp_path / "in", make_series(LENGTHS, extra=True))
    Path(laid.files[0]).write_bytes(b"not Parquet")
    assert PlannedKeys.of(laid.settings, InputFiles(laid.files)).names == ()
