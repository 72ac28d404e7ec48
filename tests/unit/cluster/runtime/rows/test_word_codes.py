"""Words and their codes: every type that a column with a vocabulary may have, and what is no text at all."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.settings import Fill
from cluster.runtime.rows.word_codes import codes_of
from lstm_core.contract.model_contract import InputContract
from tests.inputs.laid import categorical, numeric
from tests.unit.cluster.runtime.rows.test_feature_encoding import encode

DAY = datetime.date(2026, 11, 20)
LATIN = b"M\xfcnchen"
WORDS = [
    (pa.array(["Ulm", "Bonn", "x", None]), ["Ulm", "Bonn"]),
    (pa.array(["Ulm", "Bonn", "x", None], pa.large_string()), ["Ulm", "Bonn"]),
    (pa.array(["Ulm", "Bonn", "x", None], pa.string_view()), ["Ulm", "Bonn"]),
    (pa.array([b"Ulm", b"Bonn", LATIN, None], pa.binary()), ["Ulm", "Bonn"]),
    (pa.array([b"Ulm", b"Bonn", LATIN, None], pa.binary()).view(pa.string()), ["Ulm", "Bonn"]),
    (pa.array([b"Ulm", b"Bon", b"\xff\xfe\x00", None], pa.binary(3)), ["Ulm", "Bon"]),
    (pa.array(["Ulm", "Bonn", "x", None]).dictionary_encode(), ["Ulm", "Bonn"]),
    (pa.array([7, -1, 3, None], pa.int16()), ["7", "-1"]),
    (pa.array([7, 1, 3, None], pa.uint64()), ["7", "1"]),
    (pa.array([7, -1, 3, None]).dictionary_encode(), ["7", "-1"]),
    (pa.array([True, False, None, None]), ["true", "false"]),
    (pa.array([DAY, DAY.replace(day=21), DAY.replace(day=1), None]), ["2026-11-20", "2026-11-21"]),
    *(
        (pa.array([Decimal("1.50"), Decimal("-2.00"), Decimal("3.00"), None], kind), ["1.50", "-2.00"])
        for kind in (pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal128(5, 2), pa.decimal256(5, 2))
    ),
    (pa.array([1, 2, 3, None], pa.time32("s")), ["00:00:01", "00:00:02"]),
    (
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"x"', "1", "2", None])),
        ['"x"', "1"],
    ),
    (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, b"1" * 16, b"\xff" * 16, None], pa.binary(16))),
        [str(UUID(bytes=b"0" * 16)), str(UUID(bytes=b"1" * 16))],
    ),
]
every_kind = pytest.mark.parametrize(("column", "words"), WORDS, ids=lambda value: str(getattr(value, "type", "")))


@every_kind
def test_a_word_of_any_type_has_its_place_as_code(column: Any, words: list[str]) -> None:
    unknown = 0 if column[2].is_valid else None
    for values in (column, pa.chunked_array([column.slice(0, 1), column.slice(1)])):
        assert codes_of(values, pa.array(words)).to_pylist() == [1, 2, unknown, None]


@every_kind
@pytest.mark.parametrize("contract", [numeric(), categorical(vocabulary=3)], ids=["numbers", "codes"])
def test_an_input_of_numbers_takes_the_codes_as_numbers(column: Any, words: list[str], contract: InputContract) -> None:
    """As Keras has it, whose `StringLookup` gives codes to whatever layer comes next."""
    settings: dict[str, Any] = {"vocabulary": {"a": tuple(words)}}
    found, faults = encode(column, contract, **settings)
    missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist()
    assert found[:2] == [1, 2]
    assert found[2] == 0
    assert faults == dict.fromkeys(missing, "a is null and [input.fill] names no value for it")
    assert encode(column, contract, fill={"a": Fill(value=words[1])}, **settings)[0][3] == 2
    assert encode(column, contract, fill={"a": Fill(previous=True)}, **settings)[0][3] == (0 if 2 not in missing else 2)
