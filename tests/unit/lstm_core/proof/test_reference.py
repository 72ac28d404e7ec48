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


def _called(model: Any, arrays: list[Any], contract: ModelContract) -> Any:
    """Scores (row or window, value) of one entity that stands in every slot of the model's own batch."""
    given = [
        np.repeat(array[:1] if spec.static else array[None], contract.batch or 1, axis=0)
        for array, spec in zip(arrays, contract.inputs, strict=True)
    ]
    scores = keras.tree.flatten(model(keras.tree.pack_sequence_as(as_functional(model).input, given), training=False))
    values = np.concatenate([np.asarray(keras.ops.convert_to_numpy(score)) for score in scores], axis=-1)
    return values[:1] if contract.window else values[0]
