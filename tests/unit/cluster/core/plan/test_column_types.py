"""One type for a column of files that differ: whose it is, and that files which say nothing have no say."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cluster.core.plan.column_types import LikeFiles, by_types, is_of_folders, plain_schema, together, type_choices
from cluster.core.settings import Fill
from cluster.core.times import plain_type
from cluster.run_errors import InputRefused
from tests.inputs.series import settings_for

SETTINGS = settings_for("in", columns=1, keep=("note",), fill={"f0": Fill(0.0)})
ONE: dict[str, Any] = {"entity": pa.string(), "time": pa.timestamp("us"), "f0": pa.float32(), "note": pa.int64()}


def files(number: int, rows: int = 1, folders: frozenset[str] = frozenset(), **kinds: Any) -> LikeFiles:
    own = pa.schema({**ONE, **kinds})
    plain = pa.schema([(field.name, plain_type(field.type)) for field in own])
    return LikeFiles((f"part-{number}",), rows, plain, own, folders)


def chosen(*given: LikeFiles) -> dict[str, Any] | None:
    choices = type_choices(by_types(given), SETTINGS)
    return None if choices is None else {choice.fields[0].name: choice.fields[0].type for choice in choices}


def test_files_alike_are_read_as_ever() -> None:
    assert chosen(files(0), files(1)) is None
    assert chosen(files(0), files(1, entity=pa.large_string())) is None
    assert chosen(files(0, note=pa.null()), files(1, note=pa.null())) is None


def test_files_of_one_kind_are_together_whatever_lies_between_them() -> None:
    found = by_types([files(0), files(1, rows=2, f0=pa.null()), files(2), files(3), files(4, f0=pa.null())])
    assert [(one.paths, one.rows) for one in found] == [(("part-0", "part-2", "part-3"), 3), (("part-1", "part-4"), 3)]


def test_the_first_file_that_says_something_gives_the_type() -> None:
    first, second = files(1, entity=pa.large_string()), files(2, entity=pa.string())
    assert chosen(files(0, entity=pa.null()), first, second) == {**ONE, "entity": pa.large_string()}
    assert chosen(files(0, rows=0, entity=pa.null(), note=pa.string()), second) == ONE


def test_features_that_differ_are_numbers_and_nothing_else_is_touched() -> None:
    assert chosen(files(0), files(1, f0=pa.bool_())) == {**ONE, "f0": pa.float64()}
    assert chosen(files(0, f0=pa.null()), files(1, f0=pa.int8())) == {**ONE, "f0": pa.int8()}
    assert chosen(files(0, f0=pa.null())) == {**ONE, "f0": pa.float64()}


def test_what_one_file_requires_and_another_does_not_may_be_null() -> None:
    required = pa.schema([pa.field("entity", pa.large_string(), nullable=False), *list(files(0).plain)[1:]])
    both = by_types([LikeFiles(("part-0",), 1, required, required, frozenset()), files(1)])
    choices = type_choices(both, SETTINGS)
    assert choices is not None
    assert choices[0].fields[0].nullable


def test_names_of_folders_are_text_where_some_are_and_numbers_of_files_are_not() -> None:
    number, text = (pa.int32(), True), (pa.large_string(), False)
    assert together([number, text]) == [pa.large_string()]
    assert together([(pa.int32(), False), text]) == []
    assert together([(pa.int64(), False), (pa.large_string(), True)]) == [pa.large_string()]
    assert together([number, (pa.int64(), False)]) == [pa.int64()]


def test_a_key_that_is_null_everywhere_is_refused_but_not_where_there_are_no_rows() -> None:
    null = {"entity": pa.null(), "f0": pa.null()}
    with pytest.raises(InputRefused, match="'entity' of part-0 is null"):
        chosen(files(0, **null))
    assert chosen(files(0, rows=0, **null)) is not None


def test_columns_of_folders_say_so() -> None:
    found = plain_schema(files(0).own, ["entity"])
    assert [is_of_folders(field) for field in found] == [True, False, False, False]
