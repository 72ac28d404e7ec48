"""Models with one score per window: the step, its proof, and what a configuration may ask of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cluster.core.row_accounting import Ledger
from jobs.config.configuration import Config, load_config
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import UsageError
from lstm_core.proof.chunk_proof import prove
from lstm_core.proof.proof_request import ProofRequest
from lstm_core.proof.reference import Reference
from lstm_core.step.saved_model import export_step
from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from tests.harness.stepping import score_packed
from tests.harness.truth import arrays_of, table_for
from tests.inputs.configs import IN_AND_OUT
from tests.models.keras_models import contract_of, save
from tests.models.window_models import WINDOW, WINDOWED, scored_by_keras

LENGTHS = (1, 6, 40, 13, 12, 5)
CONFIG = """
[model]
path = "m.keras"
tail = "drop"
[state]
write = "state"
[train]
model = "m.keras"
target = ["y"]
"""


@pytest.mark.parametrize("name", sorted(WINDOWED))
def test_a_window_is_the_chunk_and_each_is_scored_from_the_state_before_it(name: str) -> None:
    blob = save(WINDOWED[name]())
    contract = contract_of(blob)
    assert (contract.window, contract.chunk) == (WINDOW, WINDOW)
    assert prove(ProofRequest(blob, contract, name, 16)) == contract
    table, reference = table_for(contract, LENGTHS), Reference(blob)
    arrays = arrays_of(table, contract)
    replica = StatefulReplica(blob, StepShape(slots=3, chunk=WINDOW))
    assert replica.kernel == "layers, XLA: the whole chunk through each, as there is one score for it"
    found = score_packed(replica, arrays, LENGTHS)
    for start, stop in zip(np.cumsum((0, *LENGTHS)), np.cumsum(LENGTHS), strict=False):
        scores = np.concatenate(reference.score([array[start:stop] for array in arrays]), axis=-1)
        assert len(scores) == -(-(stop - start) // WINDOW)
        by_row = np.repeat(scores, WINDOW, axis=0)[: stop - start]
        np.testing.assert_allclose(found[start:stop], by_row, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm_of_windows", "stacked_gru_of_windows"])
def test_the_reference_gives_what_keras_gives_window_by_window(name: str) -> None:
    series = np.random.default_rng(0).normal(size=(4 * WINDOW + 2, 3)).astype(np.float32)
    scores = np.concatenate(Reference(WINDOWED[name]()).score([series]), axis=-1)
    np.testing.assert_allclose(scores, scored_by_keras(WINDOWED[name], series), rtol=0, atol=1e-6)


def test_an_exported_step_takes_a_window_and_gives_its_score(tmp_path: Path) -> None:
    model = WINDOWED["lstm_of_windows"]()
    contract = contract_of(save(model))
    facts = export_step(model, contract, chunk=WINDOW, folder=str(tmp_path / "served"))
    assert facts["rows_per_call"] == WINDOW
    serve = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    series = np.random.default_rng(0).normal(size=(2 * WINDOW + 2, 3)).astype(np.float32)
    padded = np.concatenate([series, np.full((WINDOW - 2, 3), 9, np.float32)]).reshape(3, 1, WINDOW, 3)
    state, found = {name: np.zeros((1, 5), np.float32) for name in facts["states"]}, []
    for rows, count in zip(padded, (WINDOW, WINDOW, 2), strict=True):
        given = {"rows": rows, "reset": [False], "lengths": np.array([count], np.int32), **state}
        made = serve(**{name: tf.constant(value) for name, value in given.items()})
        found.append(made["score"].numpy())
        state = {name: made[name].numpy() for name in state}
    truth = scored_by_keras(WINDOWED["lstm_of_windows"], series)
    np.testing.assert_allclose(np.concatenate(found), truth, rtol=0, atol=1e-6)


def test_a_ledger_counts_the_rows_of_windows_and_the_tails_that_are_dropped() -> None:
    ledger = Ledger(np.array([20, 13, 5]))
    ledger.late[:] = 2, 0, 0
    ledger.quarantined[:] = 2, 0, 0
    entity, covers = np.array([0, 1, 0, 1]), np.array([6, 6, 6, 6])
    position, _ = ledger.take(entity, 0, covers)
    assert position.tolist() == [7, 5, 13, 11]
    ledger.skip_tails(WINDOW)
    assert ledger.left.tolist() == [6, 0, 0]  # a whole window is missing, which is no tail
    assert ledger.skipped.tolist() == [0, 1, 5]


@pytest.fixture
def configured(tmp_path: Path) -> Config:
    (tmp_path / "m.keras").write_bytes(save(WINDOWED["lstm_of_windows"]()))
    (tmp_path / "job.toml").write_text(CONFIG + IN_AND_OUT)
    return load_config(str(tmp_path / "job.toml"))


def with_overrides(config: Config, *overrides: str) -> Config:
    return load_config(config.source, overrides)


def test_carry_over_needs_whole_windows(configured: Config) -> None:
    contract = read_contract(configured.model_bytes(), name="m.keras")
    assert (configured.input_settings(contract).window, configured.input_settings(contract).tail) == (WINDOW, "drop")
    configured.output_settings(contract)
    masked = with_overrides(configured, "model.tail=mask")
    with pytest.raises(UsageError, match=r'model\.tail is "mask" and state\.write is set.*set model\.tail = "drop"'):
        masked.output_settings(contract)
    masked.output_settings(replace(contract, window=None))


def test_the_columns_of_a_window_are_taken(configured: Config) -> None:
    contract = read_contract(configured.model_bytes(), name="m.keras")
    for override in ("output.keep=['window_rows']", "output.names=['window_start']"):
        with pytest.raises(
            UsageError, match=r"Column 'window_\w+' has the name of one that is written for each window"
        ):
            with_overrides(configured, override).output_settings(contract)
