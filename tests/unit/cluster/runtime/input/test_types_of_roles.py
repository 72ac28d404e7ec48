"""Every type of Parquet in every role: it is taken, or refused in one sentence; what is taken can be compared."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.core.entity_keys import describe_entity, number_keys
from cluster.core.plan.shuffle_plan import row_hashes
from cluster.core.row_accounting import number_entities
from cluster.core.times import as_plain, table_ordinals
from cluster.run_errors import InputRefused
from cluster.runtime.commit.row_checksum import RowChecksum, canonical_table
from cluster.runtime.input.column_checks import check_columns
from tests.inputs.series import make_series, settings_for

TAKEN_ANYWHERE = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TIMES = [
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp("us", zone) for zone in ("UTC", "Europe/Berlin", "GMT+05:30", "Nowhere")),
    *(
        pa.date32(),
        pa.date64(),
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
    ),
]
WITHIN = [  # others, what they hold may be a time
    *(pa.bool8(), pa.opaque(pa.int32(), "kind", "vendor"), pa.dictionary(pa.int32(), pa.int64()), pa.json_())
]
KEYS = [
    *WITHIN,
    *(pa.time32("s"), pa.time64("ns"), pa.bool_(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16)),
    *(pa.decimal32(5, 2), pa.decimal64(9, 2), pa.decimal128(20, 2), pa.decimal256(60, 2), pa.uuid()),
]
NUMBERS = [pa.float16(), pa.float32(), pa.float64(), pa.dictionary(pa.int8(), pa.float64())]
NOTHING = [
    *(pa.null(), pa.duration("ns"), pa.list_(pa.int64()), pa.large_list(pa.string()), pa.list_(pa.float32(), 2)),
    *(pa.list_view(pa.int64()), pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.int64())),
    *(pa.fixed_shape_tensor(pa.float32(), (2,)), pa.opaque(pa.list_(pa.int8()), "kind", "vendor")),
]
ALL = [*TAKEN_ANYWHERE, *TIMES, *KEYS, *NUMBERS, *NOTHING]
ROLES = {"entity": "entity", "time": "time", "f0": "features"}


@pytest.mark.parametrize(("kind", "column"), list(product(ALL, ROLES)), ids=str)
def test_a_type_is_taken_or_refused_in_one_sentence(kind: Any, column: str) -> None:
    schema = make_series([1]).schema
    schema = schema.set(schema.get_field_index(column), pa.field(column, kind))
    try:
        check_columns(schema, settings_for("x"), "in.parquet")
    except InputRefused as refused:
        sentence = str(refused)
        assert all(part in sentence for part in (f"column {column!r}", str(kind), "in.parquet", ROLES[column]))
        assert "\n" not in sentence
        assert kind not in TAKEN_ANYWHERE
    else:
        fits = {"entity": (*TIMES, *KEYS), "time": (*TIMES, *WITHIN), "f0": (*NUMBERS, *KEYS, pa.null())}[column]
        assert kind in (*TAKEN_ANYWHERE, *fits)


@pytest.mark.parametrize("kind", [*TAKEN_ANYWHERE, *TIMES, *KEYS], ids=str)
def test_what_may_be_a_key_is_numbered_hashed_ordered_named_and_summed(kind: Any) -> None:
    plain = values_of(kind)
    keys = pa.table({"entity": as_plain(pa.chunked_array([plain]))})
    numbers, distinct = number_keys(keys)
    assert numbers.tolist() == [0, 1, 0]
    assert number_entities(distinct, keys).tolist() == [0, 1, 0]
    hashes = row_hashes(keys)
    assert (hashes[0] == hashes[2], hashes[0] == hashes[1]) == (True, False)
    assert len({describe_entity(keys, row) for row in range(3)}) == 2
    checksum, again = RowChecksum(), RowChecksum()
    checksum.add(pa.table({"entity": plain}))
    for row in range(3):
        again.add(pa.table({"entity": plain[row : row + 1]}))
    assert checksum.hexdigest() == again.hexdigest()
    assert pc.equal(
        *(canonical_table(keys, ["entity"]).column(0)[rows] for rows in (slice(0, 1), slice(2, 3)))
    ).to_pylist() == [True]


@pytest.mark.parametrize("kind", [*TAKEN_ANYWHERE, *TIMES], ids=str)
def test_what_may_be_a_time_has_numbers_in_its_order(kind: Any) -> None:
    found = table_ordinals(pa.table({"time": values_of(kind)}))
    assert np.lexsort(tuple(reversed(found))).tolist() == [0, 2, 1]


def values_of(kind: Any) -> Any:
    """One value, a larger one, and the first again."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, values_of(kind.storage_type))
    if pa.types.is_dictionary(kind):
        return values_of(kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return pa.array([0, 1, 0], pa.int32()).cast(pa.string()).cast(kind)
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([bytes([one]) * kind.byte_width for one in (1, 2, 1)], kind)
    if pa.types.is_temporal(kind) or pa.types.is_integer(kind):
        whole = pa.array([0, 86_400_000 if pa.types.is_date64(kind) else 100, 0], pa.int64())
        return (whole.cast(pa.int32()) if kind.bit_width == 32 and pa.types.is_temporal(kind) else whole).cast(kind)
    texts = ["2026-11-20", "2026-11-21T05:00", "2026-11-20"]
    return pa.array(texts if "string" in str(kind) else [text.encode() for text in texts], kind)
