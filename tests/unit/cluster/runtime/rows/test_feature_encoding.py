"""Arrow columns -> a model's inputs: every kind of value, what fills a gap, and the rows that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.settings import Fill, InputSettings
from cluster.runtime.rows.feature_encoding import BLOCK_ROWS, Encoder
from cluster.runtime.rows.null_filling import Faults, LastKnown
from lstm_core.contract.model_contract import InputContract
from tests.inputs.laid import categorical, numeric

Features = tuple[tuple[str, tuple[str, ...]], ...]


def encoder(*inputs: InputContract, features: Features = (("rows", ("a",)),), **settings: Any) -> Encoder:
    asked = InputSettings(path=(), entity=(), time=(), features=features, **settings)
    return Encoder(asked, inputs)


def encode(
    column: Any, contract: InputContract | None = None, starts: Sequence[int] = (0,), **settings: Any
) -> tuple[list[float], dict[int, str]]:
    """One column into one input -> what stands in its rows, and the faults."""
    wanted = contract or numeric()
    out = np.full((len(column), 1) if wanted.rank == 3 else (len(column),), 77, wanted.dtype)
    faults = encoder(wanted, **settings).encode(pa.table({"a": column}), np.array(starts), [out])
    return out.ravel().tolist(), faults.reasons


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_whole_numbers_of_any_width_become_floats(kind: Any) -> None:
    assert encode(pa.array([0, 3, 127], kind)) == ([0, 3, 127], {})


@pytest.mark.parametrize("kind", FLOATS, ids=str)
def test_floats_of_any_width_keep_their_value(kind: Any) -> None:
    values = pa.array(np.array([0, -1.5, 0.25], kind.to_pandas_dtype()))
    assert encode(values) == ([0, -1.5, 0.25], {})


def test_booleans_and_decimals_are_numbers() -> None:
    assert encode(pa.array([True, False])) == ([1, 0], {})
    assert encode(pa.array([Decimal("1.50"), Decimal("-2.25")], pa.decimal128(8, 2))) == ([1.5, -2.25], {})


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS, pa.bool_(), pa.decimal128(8, 2)], ids=str)
def test_a_null_of_any_type_is_a_fault_that_names_its_column(kind: Any) -> None:
    column = pa.array([1, None, 1], pa.float64()).cast(kind)
    found, faults = encode(column)
    assert (found[0], found[2]) == (1, 1)
    assert faults == {1: "a is null and [input.fill] names no value for it"}


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS, pa.bool_(), pa.decimal128(8, 2)], ids=str)
def test_a_null_of_any_type_is_filled_by_value(kind: Any) -> None:
    column = pa.array([None, 1, None], pa.float64()).cast(kind)
    assert encode(column, fill={"a": Fill(value=-0.5)}) == ([-0.5, 1, -0.5], {})


def test_nan_is_a_gap_like_null() -> None:
    column = pa.array([1.0, np.nan, None])
    assert sorted(encode(column)[1]) == [1, 2]
    assert encode(column, fill={"a": Fill(value=4.0)}) == ([1, 4, 4], {})


def test_what_stands_in_a_bad_row_is_no_nan() -> None:
    assert np.isfinite(encode(pa.array([1.0, np.nan, None]))[0]).all()


@pytest.mark.parametrize(
    "fill", [{}, {"a": Fill(value=0.0)}, {"a": Fill(previous=True)}], ids=["none", "value", "previous"]
)
def test_infinite_values_are_faults_whatever_fills_gaps(fill: dict[str, Fill]) -> None:
    _, faults = encode(pa.array([1.0, np.inf, 2.0, -np.inf]), fill=fill)
    assert faults == {1: "a is infinite", 3: "a is infinite"}


def test_a_number_too_large_for_float32_is_infinite_and_not_a_warning() -> None:
    assert encode(pa.array([1.0, 1e300]))[1] == {1: "a is infinite"}


def test_chunks_of_a_column_follow_each_other() -> None:
    column = pa.chunked_array([[1.0, None], [], [3.0]], pa.float64())
    assert encode(column, fill={"a": Fill(value=2.0)}) == ([1, 2, 3], {})


def test_a_sliced_column_is_read_from_its_slice() -> None:
    assert encode(pa.array([9, 1, None, 3, 9]).slice(1, 3), fill={"a": Fill(value=2.0)}) == ([1, 2, 3], {})


def test_columns_of_an_input_stand_in_the_order_of_its_features() -> None:
    table = pa.table({"a": [1, 2], "b": [3.0, 4.0], "unused": ["x", "y"]})
    out = np.zeros((2, 2), np.float32)
    encoder(numeric(2), features=(("rows", ("b", "a")),)).encode(table, np.array([0]), [out])
    assert out.tolist() == [[3, 1], [4, 2]]


def test_columns_that_are_cut_anywhere_stand_side_by_side() -> None:
    rows, rng = 2 * BLOCK_ROWS + 5, np.random.default_rng(0)
    values = rng.standard_normal((rows, 3)).astype(np.float32)
    cuts = [[], [7, BLOCK_ROWS - 1, BLOCK_ROWS + 1], [BLOCK_ROWS, 2 * BLOCK_ROWS + 4]]
    columns = [pa.chunked_array(np.split(values[:, index], where)) for index, where in enumerate(cuts)]
    out = np.zeros((rows, 3), np.float32)
    table = pa.table(columns, names=["a", "b", "c"])
    faults = encoder(numeric(3), features=(("rows", ("a", "b", "c")),)).encode(table, np.array([0]), [out])
    np.testing.assert_array_equal(out, values)
    assert faults.reasons == {}


def test_a_gap_in_any_block_of_rows_is_found() -> None:
    values = np.ones(2 * BLOCK_ROWS + 5, np.float32)
    values[BLOCK_ROWS + 3] = np.nan
    assert list(encode(pa.array(values))[1]) == [BLOCK_ROWS + 3]


def test_inputs_are_filled_in_the_models_order() -> None:
    table = pa.table({"a": [1.5, 2.5], "carrier": ["AA", "UA"]})
    both = encoder(
        categorical(name="carrier"),
        numeric(),
        features=(("rows", ("a",)), ("carrier", ("carrier",))),
        vocabulary={"carrier": ("UA", "AA")},
    )
    codes, numbers = np.zeros(2, np.int32), np.zeros((2, 1), np.float32)
    assert both.encode(table, np.array([0]), [codes, numbers]).reasons == {}
    assert (codes.tolist(), numbers.ravel().tolist()) == ([2, 1], [1.5, 2.5])


# ---- "previous"


PREVIOUS = {"a": Fill(previous=True)}


def test_previous_repeats_the_last_known_value_over_a_gap_of_any_length() -> None:
    assert encode(pa.array([1, None, None, 4, None]), fill=PREVIOUS) == ([1, 1, 1, 4, 4], {})


def test_previous_takes_nothing_from_the_series_before() -> None:
    found, faults = encode(pa.array([1, 2, None, 4, None]), starts=(0, 2, 4), fill=PREVIOUS)
    assert found[:2] + found[3:4] == [1, 2, 4]
    assert faults == dict.fromkeys((2, 4), 'a is null and its entity has no earlier value that "previous" could repeat')


def test_previous_works_for_codes() -> None:
    column = pa.array(["x", None, None, "y"])
    found = encode(column, categorical(), starts=(0, 2), fill=PREVIOUS, vocabulary={"a": ("y", "x")})
    assert found[0][:2] + found[0][3:] == [2, 2, 1]
    assert sorted(found[1]) == [2]


def test_previous_of_one_column_does_not_look_at_another() -> None:
    table = pa.table({"a": [1, None], "b": pa.array([None, 6.0])})
    out = np.zeros((2, 2), np.float32)
    wanted = encoder(numeric(2), features=(("rows", ("a", "b")),), fill={**PREVIOUS, "b": Fill(previous=True)})
    assert sorted(wanted.encode(table, np.array([0]), [out]).reasons) == [0]
    assert out[1].tolist() == [1, 6]


def in_pieces(column: Any, sizes: Sequence[int], **settings: Any) -> tuple[list[float], list[int]]:
    """One series in pieces, as a stream brings them -> its values and its bad rows."""
    wanted, last_known = encoder(numeric(), **settings), LastKnown()
    found: list[float] = []
    bad: list[int] = []
    for size in sizes:
        piece, out = column.slice(len(found), size), np.zeros((size, 1), np.float32)
        bad += [
            len(found) + row for row in wanted.encode(pa.table({"a": piece}), np.array([0]), [out], last_known).rows
        ]
        last_known = wanted.last_known([out], np.array([size - 1]))
        found += out.ravel().tolist()
    return found, bad


@pytest.mark.parametrize("sizes", [(8,), (1,) * 8, (2, 2, 2, 2), (3, 1, 4), (4, 4), (7, 1)], ids=str)
def test_previous_goes_on_from_piece_to_piece(sizes: tuple[int, ...]) -> None:
    column = pa.array([None, 1, 2, None, None, 5, 6, None])
    found, bad = in_pieces(column, sizes, fill=PREVIOUS)
    assert (found[1:], bad) == ([1, 2, 2, 2, 5, 6, 6], [0])


def test_previous_remembers_a_piece_that_has_no_gap() -> None:
    assert in_pieces(pa.array([1.0, 2.0, None, 4.0]), (2, 2), fill=PREVIOUS) == ([1, 2, 2, 4], [])


def test_previous_remembers_nothing_of_a_column_filled_by_value() -> None:
    wanted, out = encoder(numeric(), fill={"a": Fill(value=3.0)}), np.zeros((2, 1), np.float32)
    wanted.encode(pa.table({"a": [1, None]}), np.array([0]), [out])
    assert wanted.last_known([out], np.array([1])).values == {}


def test_each_series_goes_on_from_what_is_known_of_it() -> None:
    column, before = pa.array([None, 1, None, None, None, 2]), LastKnown({"a": np.array([5, np.nan, 7])})
    out = np.zeros((6, 1), np.float32)
    found = encoder(numeric(), fill=PREVIOUS).encode(pa.table({"a": column}), np.array([0, 2, 4]), [out], before)
    assert out.ravel().tolist() == [5, 1, 0, 0, 7, 2]
    assert sorted(found.reasons) == [2, 3]


def test_a_column_of_two_inputs_goes_on_alike_in_both() -> None:
    both = encoder(numeric(name="one"), numeric(name="two"), features=(("one", ("a",)), ("two", ("a",))), fill=PREVIOUS)
    last_known = LastKnown({"a": np.array([5.0])})
    one, two = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)
    both.encode(pa.table({"a": pa.array([None, 7.0])}), np.array([0]), [one, two], last_known)
    assert one.tolist() == two.tolist() == [[5], [7]]
    assert both.last_known([one, two], np.array([1])).values == {"a": np.array([7])}


# ---- codes


def test_words_become_their_place_in_the_vocabulary_and_0_is_for_the_rest() -> None:
    column = pa.array(["b", "a", "new", "b"])
    assert encode(column, categorical(vocabulary=3), vocabulary={"a": ("a", "b")}) == ([2, 1, 0, 2], {})


WORDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]


@pytest.mark.parametrize("kind", WORDS, ids=str)
def test_words_of_any_type_are_found_and_their_nulls_are_faults(kind: Any) -> None:
    words = pa.array(["b", None, "a"])
    column = words.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else words.cast(kind)
    found, faults = encode(column, categorical(), vocabulary={"a": ("a", "b")})
    assert (found[0], found[2], sorted(faults)) == (2, 1, [1])


def test_a_null_among_a_dictionarys_values_is_a_null() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))
    assert sorted(encode(column, categorical(), vocabulary={"a": ("a",)})[1]) == [1]


def test_whole_numbers_may_be_words() -> None:
    assert encode(pa.array([20, 10, 30]), categorical(), vocabulary={"a": ("10", "20")}) == ([2, 1, 0], {})


@pytest.mark.parametrize(("word", "code"), [("b", 2), ("nowhere", 0)])
def test_a_word_fills_a_gap_with_its_code(word: str, code: int) -> None:
    column = pa.array(["a", None])
    found = encode(column, categorical(), vocabulary={"a": ("a", "b")}, fill={"a": Fill(value=word)})
    assert found == ([1, code], {})


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64(), pa.bool_(), pa.float32()], ids=str)
def test_codes_without_a_vocabulary_are_taken_as_they_are(kind: Any) -> None:
    column = pa.array([1, 0, 1]).cast(kind)
    assert encode(column, categorical(vocabulary=2)) == ([1, 0, 1], {})


def test_dictionaries_of_numbers_are_opened() -> None:
    column = pa.array([7, 5, None, 7]).dictionary_encode()
    assert encode(column, fill={"a": Fill(value=0.0)}) == ([7, 5, 0, 7], {})
    assert encode(column, categorical(), fill={"a": Fill(value=0.0)}) == ([7, 5, 0, 7], {})


def test_codes_outside_the_embedding_are_faults_and_never_reach_it() -> None:
    found, faults = encode(pa.array([0, 3, 4, -1]), categorical(vocabulary=4))
    assert faults == dict.fromkeys((2, 3), "a is outside 0..3, the codes that the model knows")
    assert found == [0, 3, 0, 0]


def test_a_vocabulary_longer_than_the_embedding_is_seen_where_its_words_are_used() -> None:
    column = pa.array(["a", "c"])
    _, faults = encode(column, categorical(vocabulary=3), vocabulary={"a": ("a", "b", "c")})
    assert sorted(faults) == [1]


@pytest.mark.parametrize("code", [0.5, 2.0**31, -(2.0**31) - 1, np.inf, -np.inf])
def test_a_code_that_is_no_whole_number_is_a_fault(code: float) -> None:
    found, faults = encode(pa.array([1.0, code]), categorical())
    assert found == [1, 0]
    assert faults == {1: "a is no whole number below 2**31"}


@pytest.mark.parametrize("code", [2**31, 2**62, -(2**63)])
def test_an_integer_that_does_not_fit_is_a_fault_and_does_not_wrap(code: int) -> None:
    assert sorted(encode(pa.array([1, code]), categorical(vocabulary=10))[1]) == [1]


def test_gaps_among_codes_are_filled_by_a_code() -> None:
    assert encode(pa.array([3, None]), categorical(vocabulary=4), fill={"a": Fill(value=2.0)}) == ([3, 2], {})


def test_several_columns_of_codes_share_one_input() -> None:
    table = pa.table({"a": [1, 2], "b": [3, 9]})
    out = np.zeros((2, 2), np.int32)
    faults = encoder(categorical(2, vocabulary=5), features=(("rows", ("a", "b")),)).encode(table, np.array([0]), [out])
    assert out[0].tolist() == [1, 3]
    assert faults.reasons == {1: "b is outside 0..4, the codes that the model knows"}


# ---- faults and targets


def test_the_first_fault_of_a_row_is_kept_and_bad_rows_ascend() -> None:
    table = pa.table({"a": pa.array([1.0, None, np.inf]), "b": pa.array([None, None, 1.0])})
    out = np.zeros((3, 2), np.float32)
    faults = encoder(numeric(2), features=(("rows", ("a", "b")),)).encode(table, np.array([0]), [out])
    assert faults.rows.tolist() == [0, 1, 2]
    assert faults.reasons[1].startswith("a is null")
    assert faults.reasons[0].startswith("b is null")


def test_no_fault_is_no_row() -> None:
    assert Faults().rows.tolist() == []


def test_targets_keep_their_nulls_as_nan() -> None:
    table = pa.table({"y": pa.array([1, None, 3]), "z": pa.chunked_array([[0.5], [1e300, None]])})
    out = np.zeros((3, 2), np.float32)
    encoder(numeric(), features=(("rows", ("y",)),), target=("y", "z")).encode_targets(table, out)
    assert np.isnan(out[1, 0])
    assert np.isnan(out[2, 1])
    assert out[[0, 2], 0].tolist() == [1, 3]


STATIC = InputContract("rows", "numeric", 1, 3, "float32", None, static=True)


def test_a_static_value_that_changes_within_its_entity_is_a_fault() -> None:
    found, faults = encode(pa.array([1.0, 1.0, 2.0, 2.0, 3.0]), STATIC, starts=[0, 2])
    assert found == [1, 1, 2, 2, 3]
    assert faults == {4: "a is not the same in all rows of its entity, as the model has it"}


def test_a_static_value_is_carried_from_piece_to_piece() -> None:
    asked, out = encoder(STATIC), np.zeros((2, 1), np.float32)
    assert not asked.encode(pa.table({"a": pa.array([5.0, 5.0])}), np.array([0]), [out]).reasons
    known = asked.last_known([out], np.array([1]))
    assert known.values == {"a": np.array([5.0])}
    assert list(asked.encode(pa.table({"a": pa.array([5.0, 6.0])}), np.array([0]), [out], known).reasons) == [1]
