"""Columns in the names of folders: what they mean, and that they are columns like any other."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.plan.file_list import FileList
from cluster.core.plan.partitions import Partitions
from cluster.core.plan.shard_plan import make_plan
from cluster.run_errors import InputRefused
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.plan.input_scan import make_inventory
from tests.inputs.laid import Laid
from tests.inputs.series import make_series, settings_for

NULL = "__HIVE_DEFAULT_PARTITION__"


def write(root: Path, folders: dict[str, Any]) -> None:
    """One file in each folder."""
    for folder, table in folders.items():
        (root / folder).mkdir(parents=True)
        pq.write_table(table, root / folder / "part-0.parquet")


def beside(root: Path, **settings: Any) -> Partitions:
    """What stands beside the files of a folder."""
    asked = settings_for(root, **settings)
    return Partitions.of(list_files(asked), asked)


def read(root: Path, **settings: Any) -> dict[str, Any]:
    """Column `a` of each file -> the value of its folder `k`, as it is read."""
    asked = settings_for(root, **settings)
    files = list_files(asked)
    groups = RowGroups(files.paths, ("a", "k"), Partitions.of(files, asked), cache_bytes=0)
    rows = [groups.rows(index, 0, 1) for index in range(len(files))]
    return {row.column("a")[0].as_py(): row.column("k")[0].as_py() for row in rows}


def lay_out(root: Path, folders: dict[str, Any], **settings: Any) -> Laid:
    write(root, folders)
    asked = settings_for(root, **settings)
    return Laid(asked, make_plan(make_inventory(asked, map), shard_rows=100))


OTHERS = [
    ["1", "2"],
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
    ["-5", "+5"],
    ["-5", "5"],
]


@pytest.mark.parametrize("values", OTHERS, ids=str)
def test_names_mean_what_pyarrow_reads_in_them(tmp_path: Path, values: list[str]) -> None:
    write(tmp_path, {f"k={value}": pa.table({"a": [value]}) for value in values})
    theirs = ds.dataset(tmp_path, partitioning=ds.HivePartitioning.discover()).to_table()
    assert read(tmp_path, keep=("k",)) == dict(
        zip(theirs.column("a").to_pylist(), theirs.column("k").to_pylist(), strict=True)
    )
    assert beside(tmp_path, keep=("k",)).types["k"] == theirs.schema.field("k").type


@pytest.mark.parametrize(
    "values",
    [["007", "7", "05"], ["a b", "a%b", "a+b", "x/y", "a=b", "é"], ["", "null", "None"], [None, "x"], ["true", "1.0"]],
    ids=str,
)
def test_folders_of_duckdb_say_the_text_that_it_reads_itself(tmp_path: Path, values: list[str | None]) -> None:
    with duckdb.connect() as connection:
        connection.register("given", pa.table({"a": pa.array(range(len(values))), "k": pa.array(values)}))
        connection.execute(f"COPY (FROM given) TO '{tmp_path}/in' (FORMAT parquet, PARTITION_BY (k))")
        options = "hive_partitioning = true, hive_types_autocast = false"
        theirs = connection.execute(
            f"SELECT a, k FROM read_parquet('{tmp_path}/in/**/*.parquet', {options})"
        ).fetchall()
    assert read(tmp_path / "in", keep=("k",)) == dict(theirs) == dict(enumerate(values))


# What pyarrow, Polars and DuckDB take for one number, where the folders are two: the keys of two entities.
APART = [
    ["007", "7"],
    ["0", "-0"],
    ["01", "1", "001"],
    ["7", "٧"],
    ["+7", "7"],
    [" 7", "7"],
    ["7%20", "7"],
    ["%FF", "%FE"],
    ["%FF", "%C3%BF"],
    ["%ED%A0%80", "%EF%BF%BD"],
    ["é", "e\u0301"],
    ["%C3%A9", "e%CC%81"],
    ["a", "A"],
    ["1.0", "1"],
    ["1e3", "1000"],
    ["true", "True"],
    ["null", NULL],
    ["", NULL],
    ["99999999999999999999", "099999999999999999999"],
]


@pytest.mark.parametrize("role", ["entity", "keep"])
@pytest.mark.parametrize("values", APART, ids=str)
def test_no_two_folders_fall_together(tmp_path: Path, values: list[str], role: str) -> None:
    write(tmp_path, {f"k={value}": pa.table({"a": [value]}) for value in values})
    found = read(tmp_path, **{role: ("k",)})
    assert len(found) == len(set(found.values())) == len(values)


TEXT = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc")), max_size=4)
DIGITS = st.from_regex(r"[ +-]?0{0,2}[0-9]{0,3}", fullmatch=True)
BYTES = st.binary(min_size=1, max_size=3).map(lambda found: "".join(f"%{byte:02X}" for byte in found))


@given(st.lists(st.one_of(TEXT, DIGITS, BYTES), min_size=2, max_size=6, unique=True))
def test_two_names_are_one_value_only_where_both_spell_it(names: list[str]) -> None:
    paths = [f"/in/k={name}/part-0.parquet" for name in names]
    try:
        partitions = Partitions.of(FileList.of(paths), settings_for("/in", entity=("k",)))
    except InputRefused:  # with both names, as below
        return
    values = [partitions.values(path)["k"].as_py() for path in paths]
    for (one, left), (other, right) in combinations(zip(names, values, strict=True), 2):
        assert left != right or unquote_to_bytes(one) == unquote_to_bytes(other)


@pytest.mark.parametrize("names", [("%FF", "%25FF"), ("%fe", "%25fe")], ids=str)
def test_folders_that_would_fall_together_are_refused_with_both_names(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path, {f"k={name}": pa.table({"a": [name]}) for name in names})
    with pytest.raises(InputRefused, match=f"'k={names[1]}' and 'k={names[0]}' would both say"):
        beside(tmp_path, keep=("k",))


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        ({"features": (("rows", ("k",)),)}, pa.int32()),
        ({"target": ("k",)}, pa.int32()),
        ({"time": ("k",)}, pa.int32()),
        ({"time": ("time", "k")}, pa.int32()),
        ({"features": (("rows", ("k",)),), "vocabulary": {"k": ("7", "8")}}, pa.int32()),
        ({"features": (("rows", ("k",)),), "vocabulary": {"k": ("07", "08")}}, pa.string()),
        ({"features": (("rows", ("k",)),), "vocabulary": {"k": ("7", "8")}, "keep": ("k",)}, pa.string()),
        ({"features": (("rows", ("k",)),), "keep": ("k",)}, pa.int32()),
        ({"entity": ("k",)}, pa.string()),
        ({"keep": ("k",)}, pa.string()),
    ],
    ids=str,
)
def test_a_padded_number_is_a_number_where_a_run_computes_with_it(use: dict[str, Any], kind: pa.DataType) -> None:
    paths = ["/in/k=07/part-0.parquet", "/in/k=08/part-0.parquet", "/in/k=11/part-0.parquet"]
    partitions = Partitions.of(FileList.of(paths), settings_for("/in", **use))
    assert partitions.types == {"k": kind}
    assert [partitions.values(path)["k"].as_py() for path in paths] == (
        [7, 8, 11] if kind == pa.int32() else ["07", "08", "11"]
    )


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        ({"features": (("rows", ("k",)),)}, pa.int64()),
        ({"time": ("k",)}, pa.int64()),
        ({"time": ("time", "k")}, pa.string()),
        ({"entity": ("k",)}, pa.string()),
    ],
    ids=str,
)
def test_a_number_beyond_32_bits_is_one_where_text_would_be_of_no_use(use: dict[str, Any], kind: pa.DataType) -> None:
    listing = FileList.of([f"/in/k={value}/p.parquet" for value in (202611200530, 7)])
    assert Partitions.of(listing, settings_for("/in", **use)).types == {"k": kind}


def test_an_entity_that_a_run_computes_with_is_refused_where_its_numbers_fall_together() -> None:
    listing = FileList.of([f"/in/k={value}/p.parquet" for value in ("07", "7", "8")])
    with pytest.raises(InputRefused, match="folders 'k=07' and 'k=7' would be the entity 7"):
        Partitions.of(listing, settings_for("/in", entity=("k",), features=(("rows", ("k",)),)))


def test_of_a_plan_without_partitions_types_are_pyarrows() -> None:
    paths = [f"/in/k={value}/p.parquet" for value in ("007", "2", "-0")]
    before = Partitions.as_before(paths)
    assert before.types == {"k": pa.int32()}
    assert [before.values(path)["k"].as_py() for path in paths] == [7, 2, 0]


def test_a_name_that_is_null_everywhere_is_text(tmp_path: Path) -> None:
    write(tmp_path, {f"k={NULL}": pa.table({"a": ["x"]})})
    assert beside(tmp_path, keep=("k",)).types == {"k": pa.string()}
    assert read(tmp_path, keep=("k",)) == {"x": None}


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
