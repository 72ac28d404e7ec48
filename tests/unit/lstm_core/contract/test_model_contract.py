"""The contract read from an archive: what fits is described as Keras describes it, what does not is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import keras
import pytest
from keras import layers

from lstm_core.contract.model_contract import InputContract, ModelContract, OutputContract, RecurrentContract
from lstm_core.errors import ModelRefused
from tests.models import keras_models
from tests.models.keras_models import FIT, save
from tests.models.unfit_models import UNFIT
from tests.models.unsupported_models import UNSUPPORTED


def contract_of(model: Any) -> ModelContract:
    return keras_models.contract_of(save(model))


@pytest.mark.parametrize("name", sorted({**UNFIT, **UNSUPPORTED}))
def test_an_unfit_model_is_refused_with_its_reason(name: str) -> None:
    build, words = {**UNFIT, **UNSUPPORTED}[name]
    with pytest.raises(ModelRefused) as refusal:
        contract_of(build())
    sentence = str(refusal.value)
    assert refusal.value.exit_code == 2
    assert "model.keras" in sentence
    assert [word for word in words if word not in sentence] == [], sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", sorted(FIT))
def test_a_fit_model_is_described_as_keras_describes_it(name: str, tmp_path: Any) -> None:
    archive = save(FIT[name]())
    contract = keras_models.contract_of(archive, name)
    path = tmp_path / "model.keras"
    path.write_bytes(archive)
    model = keras.saving.load_model(path)
    assert [item.name for item in contract.inputs] == [tensor._keras_history.operation.name for tensor in model.inputs]
    ranks = [item.rank - item.static for item in contract.inputs]  # a static input is packed with every row
    assert ranks == [len(tensor.shape) for tensor in model.inputs]
    assert [item.values for item in contract.outputs] == [tensor.shape[-1] for tensor in model.outputs]
    twice = 3 * 4 if name == "spectral_normalization" else 0  # Keras writes the wrapped kernel for the wrapper too
    assert contract.parameters == model.count_params() + twice
    assert contract.chunk in (model.inputs[0].shape[1], 5 if "repeated" in name else None)
    assert contract.batch == model.inputs[0].shape[0]
    assert len(set(contract.score_names)) == contract.score_values


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_of_stacked_cells", "stacked", "nested_twice"])
def test_state_shapes_are_those_of_keras(name: str) -> None:
    model = FIT[name]()
    contract = contract_of(model)
    shapes = [
        tuple(tuple(state.shape[1:]) for state in keras.tree.flatten(layer.get_initial_state(1)))
        for layer in model._flatten_layers()
        if isinstance(layer, layers.RNN)
    ]
    assert [layer.state_shapes for layer in contract.recurrent] == shapes
    assert contract.state_bytes == 4 * sum(sum(shape) for states in shapes for shape in states)


def test_the_contract_of_two_inputs_is_read_whole() -> None:
    contract = contract_of(keras_models.two_inputs(batch=4, time=7))
    assert contract.inputs == (
        InputContract("numeric", "numeric", columns=3, rank=3, dtype="float32", vocabulary=None),
        InputContract("carrier", "categorical", columns=1, rank=2, dtype="int32", vocabulary=7),
    )
    assert contract.outputs == (OutputContract("score", 1),)
    assert contract.recurrent == (RecurrentContract("memory", "LSTM", ((4,), (4,)), stateful=False),)
    assert (contract.chunk, contract.batch) == (7, 4)
    assert contract.flop_per_row == 2 * (4 * 4 * (5 + 4) + 4)
    assert contract.state_bytes == 32


def test_codes_in_a_float_input_are_categorical() -> None:
    carrier, _ = contract_of(keras_models.two_inputs_by_name()).inputs
    assert (carrier.name, carrier.kind, carrier.dtype) == ("carrier", "categorical", "int32")


def test_several_codes_per_row_are_counted() -> None:
    _, pair = contract_of(keras_models.several_codes_per_row()).inputs
    assert (pair.kind, pair.columns, pair.rank, pair.vocabulary) == ("categorical", 2, 3, keras_models.VOCABULARY)


def test_a_column_of_numbers_may_be_a_code_too() -> None:
    rows = keras_models.numbers()
    joined = layers.Concatenate()([rows[..., :2], layers.Embedding(5, 2)(rows[:, :, 2])])
    hidden = layers.LSTM(3, return_sequences=True)(joined)
    (item,) = contract_of(keras.Model(rows, layers.Dense(1)(hidden))).inputs
    assert (item.kind, item.columns, item.vocabulary) == ("numeric", 3, None)


def test_columns_of_codes_with_an_embedding_each_share_the_widest_vocabulary() -> None:
    pair = keras.Input((None, 2), dtype="int32", name="pair")
    embedded = [layers.Embedding(size, 2)(pair[..., column]) for column, size in enumerate((5, 9))]
    hidden = layers.LSTM(3, return_sequences=True)(layers.Concatenate()(embedded))
    (item,) = contract_of(keras.Model(pair, layers.Dense(1)(hidden))).inputs
    assert (item.kind, item.columns, item.vocabulary) == ("categorical", 2, 9)


def test_scores_are_named_after_outputs() -> None:
    assert contract_of(keras_models.several_outputs()).score_names == ("delay", "kinds_0", "kinds_1", "kinds_2")
    assert contract_of(keras_models.outputs_by_name()).score_names == ("alpha_0", "alpha_1", "zeta")


def test_outputs_of_one_layer_get_names_of_their_own() -> None:
    inner_rows = keras.Input((None, 3))
    hidden = layers.LSTM(2, return_sequences=True)(inner_rows)
    inner = keras.Model(inner_rows, [layers.Dense(1)(hidden), layers.Dense(1)(hidden)], name="inner")
    rows = keras_models.numbers()
    assert contract_of(keras.Model(rows, inner(rows))).score_names == ("inner_0", "inner_1")


def test_a_nested_layer_is_named_by_its_path() -> None:
    contract = contract_of(keras_models.nested_twice())
    assert [layer.name for layer in contract.recurrent] == ["inner/innermost/memory"]


def test_a_nested_model_that_fixes_the_time_fixes_the_chunk() -> None:
    inner = keras.Sequential([keras.Input((5, 3)), layers.LSTM(2, return_sequences=True)])
    assert contract_of(keras_models.recurrent_model(inner)).chunk == 5


def test_a_nested_model_may_take_its_inputs_by_name() -> None:
    first, second = keras.Input((None, 3), name="first"), keras.Input((None, 2), name="second")
    hidden = layers.LSTM(2, return_sequences=True)(layers.Concatenate()([second, first]))
    inner = keras.Model([second, first], hidden)
    rows = keras_models.numbers()
    made = inner({"first": rows, "second": rows[..., :2]})
    assert contract_of(keras.Model(rows, layers.Dense(1)(made))).flop_per_row == 2 * (4 * 2 * (5 + 2) + 2)


def test_one_timestep_is_a_chunk() -> None:
    assert contract_of(keras_models.lstm(batch=4, time=1)).chunk == 1


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_never_built_is_refused() -> None:
    model = keras.Sequential([layers.LSTM(2, return_sequences=True)])
    with pytest.raises(ModelRefused, match=r"before it was built.*keras\.Input"):
        contract_of(model)


def test_reading_a_contract_imports_no_keras() -> None:
    engines = "{'keras', 'tensorflow', 'ray'}"
    code = f"import sys, lstm_core.contract.model_contract, jobs.commands.inspect; print({engines} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
