"""What the first file says of an input's columns, and where the others are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.file_list import FileList
from cluster.core.settings import Fill
from cluster.run_errors import InputRefused
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.input.first_columns import FirstColumns
from tests.inputs.series import make_series, replace, settings_for
from tests.unit.cluster.runtime.input.test_column_checks import contract_of

FILLED = {"fill": {"f1": Fill(0.0)}}
CODES = {"features": (("rows", ("code",)),)}


def lay(folder: Path, *tables: Any) -> FileList:
    paths = [folder / f"part-{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path)
    return FileList.of(map(str, paths))


def series(**columns: Any) -> Any:
    table = make_series([2])
    for name, values in columns.items():
        there = name in table.column_names
        table = replace(table, name, values) if there else table.append_column(name, values)
    return table


def test_a_column_that_came_later_is_looked_for_in_the_last_file_first(tmp_path: Path) -> None:
    without, files = make_series([2]).drop_columns("f1"), []
    files = lay(tmp_path, without, without, series(f1=pa.array([1, 2])), series())
    Path(files[2]).write_bytes(b"never opened")
    found = check_schema(settings_for(tmp_path, **FILLED), contract_of("numeric"), files)
    assert found.field("f1").type == pa.float32()


def test_files_without_rows_and_null_keys_leave_the_word_to_others(tmp_path: Path) -> None:
    empty = pa.table({"entity": pa.nulls(0), "time": pa.nulls(0)})
    files = lay(tmp_path, empty, series(entity=pa.nulls(2)), series())
    found = check_schema(settings_for(tmp_path), contract_of("numeric"), files)
    assert found.types[:2] == [pa.large_string(), pa.timestamp("us")]


def test_a_column_that_no_file_has_is_refused_with_the_first_one(tmp_path: Path) -> None:
    without = make_series([2]).drop_columns("f1")
    with pytest.raises(
        InputRefused, match=r"there is no column 'f1' in .*part-0\.parquet; it has entity, time, f0, f2"
    ):
        check_schema(settings_for(tmp_path, **FILLED), contract_of("numeric"), lay(tmp_path, without, without))


@pytest.mark.parametrize("turned", [False, True])
def test_codes_are_whole_numbers_in_one_file_at_least(tmp_path: Path, turned: bool) -> None:
    tables = [series(code=pa.array([1.0, None])), series(code=pa.array([1, 2]))]
    settings = settings_for(tmp_path, **CODES)
    check_schema(settings, contract_of("categorical"), lay(tmp_path, *(tables[::-1] if turned else tables)))
    with pytest.raises(InputRefused, match=r"takes whole numbers, but column 'code' of .*part-0\.parquet is double"):
        check_schema(settings, contract_of("categorical"), lay(tmp_path, tables[0], tables[0]))


def test_a_key_that_is_none_is_named_beside_the_last_files(tmp_path: Path) -> None:
    files = lay(tmp_path, series(entity=pa.array([1.0, None])), series(entity=pa.array([1, 2])))
    with pytest.raises(InputRefused, match=r"'entity' is double in .*part-0\.parquet but int64 in .*part-1\.parquet"):
        check_schema(settings_for(tmp_path), contract_of("numeric"), files)
    with pytest.raises(InputRefused, match=r"'entity' of .*part-0\.parquet is double, which cannot name an entity"):
        check_schema(settings_for(tmp_path), contract_of("numeric"), FileList.of(files[:1]))


def test_columns_that_only_folders_have_are_known_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "entity=7").mkdir()
    table = make_series([2])
    files = lay(tmp_path / "entity=7", table.drop_columns("entity"), table.drop_columns("entity"))
    assert FirstColumns.of(settings_for(tmp_path), files).folders == {"entity"}
