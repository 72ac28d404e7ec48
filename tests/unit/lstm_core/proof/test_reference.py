"""The reference is the truth of all other tests, so it is held to Keras itself: to the model as loaded, called once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from lstm_core.contract.model_contract import ModelContract
from lstm_core.proof.reference import Reference
from lstm_core.step.rebatch import as_functional
from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from tests.harness.truth import arrays_of, assert_same_scores, table_for
from tests.models.keras_models import FIT, contract_of, save
from tests.models.window_models import WINDOWED

ROWS = 9


@pytest.mark.parametrize("name", sorted({**FIT, **WINDOWED}))
def test_the_reference_gives_what_the_loaded_model_gives(name: str, tmp_path: Path) -> None:
    blob = save({**FIT, **WINDOWED}[name]())
    contract = contract_of(blob, name)
    arrays = arrays_of(table_for(contract, [contract.chunk or ROWS]), contract)
    found = np.concatenate(Reference(blob).score(arrays), axis=-1)
    (tmp_path / "model.keras").write_bytes(blob)
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert_same_scores(found, _called(loaded, arrays, contract), contract.tolerance)


@pytest.mark.parametrize("name", sorted(name for name in FIT if name.startswith("masked")))
@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_series_with_masked_rows_goes_on_from_a_kept_state_as_if_it_had_never_ended(name: str, cut: int) -> None:
    """Keras gives zeros for masked rows at the beginning of a call; where a night begins, the row before counts."""
    blob = save(FIT[name]())
    contract = contract_of(blob, name)
    arrays = arrays_of(table_for(contract, [20], seed=cut), contract)
    _mask(name, arrays, slice(cut - 1, cut + 3))
    reference, replica = Reference(blob), StatefulReplica(blob, StepShape(1, cut, jit=False))
    replica.step([array[None, :cut] for array in arrays], np.ones(1, np.bool_), np.full(1, cut, np.int32))
    kept = zip(replica.step_model.states, replica.slot_state(np.array([0])), strict=True)
    states = {(state.layer, state.index): values[0] for state, values in kept}
    found = reference.score([array[cut:] for array in arrays], states)
    whole = reference.score(arrays)
    for one, other in zip(found, whole, strict=True):
        assert_same_scores(one, other[cut:])


def _mask(name: str, arrays: list[Any], rows: slice) -> None:
    """Makes some rows masked ones: code 0, or numbers below what the model cuts off."""
    for array in arrays:
        if array.dtype == np.int32:
            array[rows] = 0
        elif "codes" not in name:
            array[rows] = -1.0


def _called(model: Any, arrays: list[Any], contract: ModelContract) -> Any:
    """Scores (row or window, value) of one entity that stands in every slot of the model's own batch."""
    given = [
        np.repeat(array[:1] if spec.static else array[None], contract.batch or 1, axis=0)
        for array, spec in zip(arrays, contract.inputs, strict=True)
    ]
    scores = keras.tree.flatten(model(keras.tree.pack_sequence_as(as_functional(model).input, given), training=False))
    values = np.concatenate([np.asarray(keras.ops.convert_to_numpy(score)) for score in scores], axis=-1)
    return values[:1] if contract.window else values[0]
