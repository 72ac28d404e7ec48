"""Carry-over as data: its columns, what is refused, and who is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.carry import absent_rows, carry_schema, difference, match
from cluster.core.settings import Fill, InputSettings
from cluster.run_errors import InputRefused
from lstm_core.contract.model_contract import InputContract, ModelContract, OutputContract, RecurrentContract

COLUMNS = pa.schema(
    [
        ("site", pa.large_string()),
        ("unit", pa.int64()),
        ("at", pa.timestamp("s", "UTC")),
        ("number", pa.int32()),
        ("a", pa.float64()),
        ("carrier", pa.large_string()),
        ("code", pa.float64()),
    ]
)
CONTRACT = ModelContract(
    inputs=(
        InputContract("rows", "numeric", 1, 3, "float32", None),
        InputContract("codes", "categorical", 2, 3, "int32", 9),
    ),
    outputs=(OutputContract("score", 1),),
    recurrent=(
        RecurrentContract("memory", "LSTM", ((4,), (4,)), False),
        RecurrentContract("inner/slow", "GRU", ((3,),), True),
    ),
    chunk=None,
    batch=None,
    fingerprint="f" * 64,
    parameters=1,
    flop_per_row=1,
)


def settings(**changes: Any) -> InputSettings:
    asked: dict[str, Any] = {
        "path": (),
        "entity": ("site", "unit"),
        "time": ("at", "number"),
        "features": (("rows", ("a",)), ("codes", ("carrier", "code"))),
        "fill": {name: Fill(previous=True) for name in ("a", "carrier", "code")},
        "vocabulary": {"carrier": ("AA", "UA")},
    }
    return InputSettings(**{**asked, **changes})


def test_a_row_has_keys_times_counts_last_known_values_and_one_list_per_state_tensor() -> None:
    schema = carry_schema(COLUMNS, settings(), CONTRACT).arrow
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "site": pa.large_string(),
        "unit": pa.int64(),
        "last_time": pa.timestamp("ms", "UTC"),
        "last_time__number": pa.int32(),
        "rows_seen": pa.int64(),
        "broken_since": pa.timestamp("ms", "UTC"),
        "broken_since__number": pa.int32(),
        "previous__a": pa.float32(),
        "previous__carrier": pa.large_string(),
        "previous__code": pa.int32(),
        "state__memory__0": pa.list_(pa.float32(), 4),
        "state__memory__1": pa.list_(pa.float32(), 4),
        "state__inner/slow__0": pa.list_(pa.float32(), 3),
    }


def test_state_bytes_are_those_of_all_tensors() -> None:
    assert carry_schema(COLUMNS, settings(), CONTRACT).state_bytes == 4 * (4 + 4 + 3)


def test_states_come_in_the_order_of_the_model_that_asks() -> None:
    schema = carry_schema(COLUMNS, settings(), CONTRACT)
    ordered = schema.ordered_as([("inner/slow", 0), ("memory", 1), ("memory", 0)])
    assert [state.name for state in ordered.states] == ["state__inner/slow__0", "state__memory__1", "state__memory__0"]
    assert ordered.arrow.equals(schema.arrow)


def test_a_table_of_the_same_run_tomorrow_fits() -> None:
    schema = carry_schema(COLUMNS, settings(), CONTRACT)
    assert difference(schema, schema.arrow) is None


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (lambda schema: schema.remove_metadata(), "was not written by slotcar score"),
        (lambda schema: schema.with_metadata({b"slotcar.carry_over": b"{}"}), "was not written by slotcar score"),
        (lambda schema: _of_model(schema, "e" * 64), "of the model eeeeeeeeeeee, and tonight's is ffffffffffff"),
        (lambda schema: schema.remove(0), "has no column 'site'"),
        (lambda schema: schema.set(1, pa.field("unit", pa.large_string())), "'unit' is large_string, and tonight's is"),
        (lambda schema: schema.remove(schema.get_field_index("previous__a")), "has no column 'previous__a'"),
        (
            lambda schema: schema.set(len(schema) - 1, pa.field(schema.names[-1], pa.list_(pa.float32(), 2))),
            r"'state__inner/slow__0' is fixed_size_list<",
        ),
    ],
    ids=["foreign", "old", "model", "key", "key_type", "previous", "shape"],
)
def test_another_table_is_refused_with_what_differs(found: Any, says: str) -> None:
    schema = carry_schema(COLUMNS, settings(), CONTRACT)
    differs = difference(schema, found(schema.arrow))
    assert differs is not None
    assert says in differs


def _of_model(schema: Any, fingerprint: str) -> Any:
    metadata = {key: value.replace(b"f" * 64, fingerprint.encode()) for key, value in schema.metadata.items()}
    return schema.with_metadata(metadata)


def keys(*pairs: tuple[str, int]) -> Any:
    sites, units = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.table({"site": pa.array(sites, pa.large_string()), "unit": pa.array(units, pa.int64())})


def test_an_entity_is_known_by_all_of_its_keys() -> None:
    carried = keys(("a", 1), ("b", 1), ("a", 2))
    assert match(keys(("a", 2), ("c", 1), ("b", 1), ("b", 2)), carried).tolist() == [2, -1, 1, -1]
    assert match(keys(("a", 2)), keys()).tolist() == [-1]
    assert match(keys(), carried).tolist() == []


def test_an_entity_that_is_carried_twice_is_refused_by_name() -> None:
    with pytest.raises(InputRefused, match=r"has the entity site='b', unit=7 twice"):
        match(keys(("a", 1)), keys(("b", 7), ("a", 1), ("b", 7)))


def test_what_tonight_does_not_name_is_handed_on_in_stretches() -> None:
    assert absent_rows(np.array([2, -1, 3, 7]), 8).tolist() == [[0, 2], [4, 7]]
    assert absent_rows(np.array([0, 1, 2]), 3).tolist() == []
    assert absent_rows(np.zeros(0, np.int64), 3).tolist() == [[0, 3]]
    assert absent_rows(np.zeros(0, np.int64), 0).tolist() == []


def test_a_table_that_names_the_model_as_earlier_versions_did_is_of_this_model() -> None:
    mine = replace(CONTRACT, earlier_fingerprint="e" * 64)
    kept = carry_schema(COLUMNS, settings(), replace(CONTRACT, fingerprint="e" * 64)).arrow
    assert difference(carry_schema(COLUMNS, settings(), mine), kept) is None
    other = carry_schema(COLUMNS, settings(), replace(CONTRACT, fingerprint="0" * 64)).arrow
    assert "another architecture or other weights" in str(difference(carry_schema(COLUMNS, settings(), mine), other))
