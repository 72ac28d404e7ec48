"""Types that Arrow cannot pick rows of, opened at any depth: the same values, in types that it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.runtime.input.opened_types import empty_table, opened_schema, opened_table

VIEW, BYTES = pa.string_view(), pa.binary_view()
PARTS = [["a", None], None, [], ["b", "c"]]
OPENED: list[tuple[Any, Any, list[Any]]] = [
    (VIEW, pa.string(), ["a", None, "b", ""]),
    (BYTES, pa.binary(), [b"a", None, b"", b"b"]),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), ["a", None, "b", "a"]),
    (pa.list_(VIEW), pa.list_(pa.string()), PARTS),
    (pa.large_list(VIEW), pa.large_list(pa.string()), PARTS),
    (pa.list_(VIEW, 2), pa.list_(pa.string(), 2), [["a", None], None, ["b", "c"], ["d", "e"]]),
    (pa.list_view(VIEW), pa.list_(pa.string()), PARTS),
    (pa.large_list_view(VIEW), pa.large_list(pa.string()), PARTS),
    (pa.list_(pa.list_view(VIEW)), pa.list_(pa.list_(pa.string())), [PARTS, None, [], [PARTS[0]]]),
    (
        pa.struct({"a": VIEW, "b": pa.list_view(BYTES), "c": pa.int8()}),
        pa.struct({"a": pa.string(), "b": pa.list_(pa.binary()), "c": pa.int8()}),
        [{"a": "x", "b": [b"y", None], "c": 1}, None, {"a": None, "b": None, "c": None}, {"a": "", "b": [], "c": 2}],
    ),
    (
        pa.map_(VIEW, pa.list_view(VIEW)),
        pa.map_(pa.string(), pa.list_(pa.string())),
        [[("a", ["b", None]), ("c", None)], None, [], [("d", [])]],
    ),
]
SAME = [
    *(pa.string(), pa.int8(), pa.list_(pa.int64()), pa.list_view(pa.int64()), pa.map_(pa.string(), pa.int8())),
    *(pa.uuid(), pa.list_(pa.uuid()), pa.fixed_shape_tensor(pa.float32(), (2, 2)), pa.decimal32(5, 2)),
    *(pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.null(), pa.struct({})),
]


@pytest.mark.parametrize(("kind", "wanted", "values"), OPENED, ids=[str(kind) for kind, *_ in OPENED])
def test_what_a_view_shows_is_handed_on(kind: Any, wanted: Any, values: list[Any]) -> None:
    whole = pa.array(values, kind)
    for pieces in ([whole], [whole[1:], whole[:3], whole[:0]], [whole[2:3]]):
        table = pa.table({"column": pa.chunked_array(pieces, kind), "beside": range(sum(map(len, pieces)))})
        found = opened_table(table, opened_schema(table.schema))
        found.validate(full=True)
        assert found.schema.field("column").type == wanted
        assert found.to_pylist() == table.to_pylist()
        backwards = found.take(pa.array(np.arange(len(found))[::-1]))
        assert backwards.to_pylist() == table.to_pylist()[::-1]


def test_json_of_a_view_is_json() -> None:
    storage = pa.array(["1", None], VIEW)
    table = pa.table({"column": pa.ExtensionArray.from_storage(pa.json_(VIEW), storage)})
    found = opened_table(table, opened_schema(table.schema))
    assert found.schema.field("column").type == pa.json_(pa.string())
    assert found.to_pylist() == table.to_pylist()


@pytest.mark.parametrize("kind", SAME, ids=str)
def test_all_else_stays_as_it_is_and_has_empty_tables(kind: Any) -> None:
    schema = pa.schema({"column": kind})
    assert opened_schema(schema) == schema
    table = empty_table(schema)
    assert table.schema == schema
    assert opened_table(table, schema) is table


def test_a_column_of_another_width_is_brought_to_the_wanted_one() -> None:
    table = pa.table({"column": pa.array([["a"], None], pa.list_view(VIEW)), "number": pa.array([1, 2], pa.int8())})
    wanted = pa.schema({"column": pa.large_list(pa.large_string()), "number": pa.int64()})
    assert opened_table(table, wanted).to_pylist() == table.to_pylist()
