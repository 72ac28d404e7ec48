"""Columns that fit, and the sentence for each that does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from cluster.core.plan.file_list import FileList
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, InputRefused
from cluster.runtime.input.column_checks import check_columns, check_schema
from lstm_core.contract.model_contract import InputContract, ModelContract
from tests.inputs.series import make_series, settings_for, write_cut


@dataclass
class Inputs:
    """The part of a model's contract that a schema is checked against."""

    inputs: tuple[InputContract, ...]


def contract_of(kind: str) -> ModelContract:
    wanted = InputContract(name="rows", kind=cast(Any, kind), columns=3, rank=3, dtype="float32", vocabulary=None)
    return cast(ModelContract, Inputs((wanted,)))


def schema_with(**types: Any) -> Any:
    schema = make_series([1]).schema
    for name, column_type in types.items():
        field = pa.field(name, column_type)
        index = schema.get_field_index(name)
        schema = schema.append(field) if index < 0 else schema.set(index, field)
    return schema


def refused(schema: Any, settings: InputSettings) -> str:
    with pytest.raises(InputRefused) as caught:
        check_columns(schema, settings, "in.parquet")
    sentence = str(caught.value)
    assert "in.parquet" in sentence
    assert "\n" not in sentence
    return sentence


def test_needed_columns_come_back_in_plain_types() -> None:
    schema = schema_with(
        entity=pa.dictionary(pa.int8(), pa.string()), f0=pa.int8(), f1=pa.decimal128(9, 2), kept=pa.int8()
    )
    found = check_columns(schema, settings_for("x", keep=("kept",)), "in.parquet")
    assert found.names == ["entity", "time", "f0", "f1", "f2", "kept"]
    assert found.types[:4] == [pa.large_string(), pa.timestamp("us"), pa.int8(), pa.decimal128(9, 2)]
    assert found.field("kept").type == pa.int8()


def test_a_missing_column_is_refused_with_the_nearest_name() -> None:
    settings = settings_for("x", features=(("rows", ("dep_dely",)),))
    sentence = refused(schema_with(dep_delay=pa.float32()), settings)
    assert "no column 'dep_dely'" in sentence
    assert "'dep_delay'" in sentence
    assert "input.features" in sentence


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"entity": ("nope",)}, "input.entity"),
        ({"time": ("time", "nope")}, "input.time"),
        ({"keep": ("nope",)}, "output.keep"),
        ({"target": ("nope",)}, "train.target"),
    ],
)
def test_the_setting_that_asks_for_a_missing_column_is_named(changes: dict[str, Any], setting: str) -> None:
    assert refused(schema_with(), settings_for("x", **changes)).startswith(setting)


def test_a_wide_schema_is_not_listed_whole() -> None:
    schema = schema_with(**{f"column_{i}": pa.int8() for i in range(50)})
    assert "and 43 more" in refused(schema, settings_for("x", entity=("zzz",)))


def test_a_column_that_is_there_twice_is_refused() -> None:
    assert "2 times" in refused(schema_with().append(pa.field("f0", pa.int8())), settings_for("x"))


@pytest.mark.parametrize("key_type", [pa.float64(), pa.list_(pa.int8()), pa.null(), pa.duration("s")], ids=str)
def test_what_cannot_name_an_entity_is_refused(key_type: Any) -> None:
    assert "cannot name an entity" in refused(schema_with(entity=key_type), settings_for("x"))


@pytest.mark.parametrize("time_type", [pa.float32(), pa.bool_(), pa.binary(), pa.time64("us"), pa.null()], ids=str)
def test_what_cannot_order_rows_is_refused(time_type: Any) -> None:
    assert "cannot order rows" in refused(schema_with(time=time_type), settings_for("x"))


def test_a_time_of_day_may_break_ties() -> None:
    check_columns(schema_with(daytime=pa.time32("s")), settings_for("x", time=("time", "daytime")), "in.parquet")


@pytest.mark.parametrize(
    "feature_type",
    [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.decimal128(5, 1), pa.decimal256(40, 1)],
    ids=str,
)
def test_every_kind_of_number_is_a_feature(feature_type: Any) -> None:
    check_columns(schema_with(f0=feature_type), settings_for("x"), "in.parquet")


@pytest.mark.parametrize("feature_type", [pa.timestamp("s"), pa.list_(pa.float32()), pa.binary()], ids=str)
def test_what_is_no_number_is_no_feature(feature_type: Any) -> None:
    assert "is no feature: make it a number." in refused(schema_with(f0=feature_type), settings_for("x"))


def test_text_is_a_feature_only_with_a_vocabulary() -> None:
    assert "[input.vocabulary]" in refused(schema_with(f0=pa.string()), settings_for("x"))
    check_columns(schema_with(f0=pa.string()), settings_for("x", vocabulary={"f0": ("a", "b")}), "in.parquet")


def test_a_categorical_input_takes_whole_numbers(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, make_series([3]))
    check_schema(settings_for(tmp_path), contract_of("numeric"), FileList.of([str(path)]))
    with pytest.raises(InputRefused, match="whole numbers"):
        check_schema(settings_for(tmp_path), contract_of("categorical"), FileList.of([str(path)]))


def test_words_become_whole_numbers_by_their_vocabulary(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, make_series([3]))
    settings = settings_for(tmp_path, features=(("rows", ("entity",)),), vocabulary={"entity": ("e0000",)})
    check_schema(settings, contract_of("categorical"), FileList.of([str(path)]))


def test_a_first_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no Parquet")
    with pytest.raises(InputBroken, match=r"notes\.txt"):
        check_schema(settings_for(tmp_path), contract_of("numeric"), FileList.of([str(path)]))
