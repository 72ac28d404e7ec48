"""Columns in the names of folders: what they mean, and that they are columns like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.shard_plan import make_plan
from cluster.run_errors import InputRefused
from cluster.runtime.input.file_listing import list_files
from cluster.runtime.input.hive_partitions import HivePartitions
from cluster.runtime.plan.input_scan import make_inventory
from tests.inputs.laid import Laid
from tests.inputs.series import make_series, settings_for

NULL = "__HIVE_DEFAULT_PARTITION__"


def write(root: Path, folders: dict[str, Any]) -> list[str]:
    """One file in each folder; returns their paths."""
    for folder, table in folders.items():
        (root / folder).mkdir(parents=True)
        pq.write_table(table, root / folder / "part-0.parquet")
    return list_files(settings_for(root))


def lay_out(root: Path, folders: dict[str, Any], **settings: Any) -> Laid:
    write(root, folders)
    asked = settings_for(root, **settings)
    return Laid(asked, make_plan(make_inventory(asked, map), shard_rows=100))


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        ["007", "2", "-0"],
        ["-5", "+5"],
        ["5000000000", "1"],
        ["2147483647", "-2147483648"],
        ["1", "x"],
        ["a%2Fb", "a%20b", "%27%22", "%C3%BC"],
        [NULL, "1"],
        [NULL, "x"],
        ["", "1"],
        ["2026-01-01"],
        ["1.5", "true"],
        ["a=b"],
    ],
    ids=str,
)
def test_names_mean_what_pyarrow_reads_in_them(tmp_path: Path, values: list[str]) -> None:
    paths = write(tmp_path, {f"k={value}": pa.table({"a": [value]}) for value in values})
    theirs = ds.dataset(tmp_path, partitioning=ds.HivePartitioning.discover()).to_table()
    ours = [HivePartitions.of(paths).values(path)["k"] for path in paths]
    assert {value.type for value in ours} == {theirs.schema.field("k").type}
    written = [pq.ParquetFile(path).read().column("a")[0].as_py() for path in paths]
    found = dict(zip(written, (value.as_py() for value in ours), strict=True))
    assert found == dict(zip(theirs.column("a").to_pylist(), theirs.column("k").to_pylist(), strict=True))


def test_a_name_that_is_null_everywhere_is_text(tmp_path: Path) -> None:
    (path,) = write(tmp_path, {f"k={NULL}": pa.table({"a": [1]})})
    assert HivePartitions.of([path]).values(path)["k"].equals(pa.scalar(None, pa.string()))


def test_an_entity_may_stand_in_its_folders_name_only(tmp_path: Path) -> None:
    table = make_series([3, 2])
    folders = {
        f"entity=e%2F{i}": table.slice(start, rows).drop_columns("entity")
        for i, (start, rows) in enumerate([(0, 3), (3, 2)])
    }
    laid = lay_out(tmp_path, folders)
    inventory = laid.plan.inventory
    assert inventory.keys.column("entity").to_pylist() == ["e/0", "e/1"]
    assert (inventory.entity_rows.tolist(), inventory.layout) == ([3, 2], "clustered")
    (block,) = blocks_of(laid)
    assert block.table.column("entity").to_pylist() == ["e/0"] * 3 + ["e/1"] * 2


def blocks_of(laid: Laid) -> list[Any]:
    reader = laid.reader()
    return [block for shard in laid.plan.shards for block in reader.blocks(shard, laid.extents(shard))]


def test_time_and_features_may_stand_there_too(tmp_path: Path) -> None:
    rows = pa.table({"entity": ["a", "b"], "hour": [1, 1]})
    folders = {f"day=2026-01-0{day}/f0={day}": rows for day in (2, 1)}
    laid = lay_out(tmp_path, folders, time=("day", "hour"), columns=1)
    assert laid.plan.head.layout == "clustered"
    (block,) = blocks_of(laid)
    found = block.table.select(["entity", "day", "f0"]).to_pydict()
    assert found == {
        "entity": ["a", "a", "b", "b"],
        "day": ["2026-01-01", "2026-01-02"] * 2,
        "f0": [1, 2, 1, 2],
    }


def test_rows_may_have_no_column_of_their_own(tmp_path: Path) -> None:
    laid = lay_out(tmp_path, {f"entity=a/time={t}/f0=1": pa.table({"x": [0]}) for t in (5, 3)}, columns=1)
    (block,) = blocks_of(laid)
    assert block.table.to_pydict() == {"entity": ["a", "a"], "time": [3, 5], "f0": [1, 1]}


def test_a_null_entity_in_a_folders_name_is_a_bad_row(tmp_path: Path) -> None:
    table = make_series([2]).drop_columns("entity")
    laid = lay_out(tmp_path, {"entity=a": table, f"entity={NULL}": table})
    assert laid.plan.inventory.bad.column("reason").to_pylist() == ["null_entity"] * 2
    assert laid.plan.head.rows_planned == 2


def test_a_folder_above_the_input_counts(tmp_path: Path) -> None:
    write(tmp_path, {"entity=7/x": make_series([2]).drop_columns("entity")})
    inventory = make_inventory(settings_for(tmp_path / "entity=7" / "x"), map)
    assert inventory.keys.to_pydict() == {"entity": [7]}


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.float64()])
def test_a_column_in_file_and_folder_may_stand_there_twice_if_both_agree(tmp_path: Path, kind: Any) -> None:
    texts = pa.array(["7", "7"])
    column = texts.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else texts.cast(kind)
    table = make_series([2]).append_column("g", column)
    words = {} if pa.types.is_floating(kind) else {"g": ("7",)}
    laid = lay_out(tmp_path, {"g=7": table}, features=(("rows", ("g",)),), vocabulary=words)
    assert laid.plan.inventory.columns.names == ["entity", "time", "g"]


@pytest.mark.parametrize("other", [["e0", "e1"], ["e0", None], ["x", "x"]], ids=str)
def test_a_column_that_says_something_else_than_its_folder_is_refused(tmp_path: Path, other: list[str | None]) -> None:
    table = make_series([2]).set_column(0, "entity", pa.array(other, pa.string()))
    with pytest.raises(InputRefused, match=r"Column 'entity' is .* in row [01] of .*, but its folder says e0"):
        lay_out(tmp_path, {"entity=e0": table})


def test_a_column_that_nobody_asks_for_may_say_what_it_likes(tmp_path: Path) -> None:
    table = make_series([2]).append_column("g", pa.array(["x", "y"]))
    assert lay_out(tmp_path, {"g=7": table}).plan.head.rows_planned == 2


def test_folders_without_the_column_are_refused(tmp_path: Path) -> None:
    table = make_series([2]).drop_columns("entity")
    with pytest.raises(InputRefused, match=r"there is no column 'entity' in .*/x/part-0"):
        lay_out(tmp_path, {"entity=a": table, "x": table})
