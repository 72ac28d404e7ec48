"""The truth test of the whole road, Parquet to Parquet, for every kind of model, shape of step and number of replicas.

The replicas live in this process; `test_score_on_ray` runs the same road on a real cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.core.settings import StepSettings
from tests.harness.inprocess import Job, run, scores, tidy
from tests.harness.truth import assert_same_scores, columns_for, expected, table_for
from tests.inputs.series import make_series, replace, write_cut
from tests.models.keras_models import FIT, contract_of, keras, save

KINDS = (
    "lstm",
    "gru",
    "gru_reset_before",
    "simple_rnn",
    "rnn_of_one_cell",
    "rnn_of_stacked_cells",
    "stacked",
    "two_inputs",
)
# Of these one shape of step each.
MORE_KINDS = (
    "several_outputs",
    "nested_functional",
    "mixed_float16",
    "static_numbers_and_codes_repeated",
    "custom_cell_among_others",
)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, its input on disk, cut across files and row groups, and the truth."""
    return laid_out(request.param, tmp_path_factory.mktemp(request.param))


def laid_out(name: str, folder: Path) -> Any:
    """As `case`, in `folder`."""
    blob = save(FIT[name]())
    contract = contract_of(blob, name)
    table = table_for(contract)
    write_cut(folder / "in", table, [100, 0, 3, table.num_rows - 103], [17, 40])
    return blob, contract, folder, table, expected(blob, table, contract)


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("slots", [1, 3, 64])
def test_scores_are_the_truth_and_not_one_bit_depends_on_the_replicas(
    case: Any, slots: int, chunk: int, tmp_path: Path
) -> None:
    blob, contract, folder, table, truth = case
    outputs = []
    for replicas in (1, 2):
        output = tmp_path / f"out{replicas}"
        step = StepSettings(slots=slots, chunk=chunk)
        job = Job(blob, folder / "in", output, columns_for(contract), step=step, replicas=replicas)
        record = run(job)
        assert record["rows_scored"] == table.num_rows
        outputs.append(scores(output).sort_by([("entity", "ascending"), ("time", "ascending")]))
    assert outputs[0].select(["entity", "time"]).equals(table.select(["entity", "time"]))
    found = np.stack([outputs[0].column(name).to_numpy() for name in contract.score_names], axis=1)
    assert_same_scores(found, truth, contract.tolerance)
    assert outputs[1].equals(outputs[0])


@pytest.mark.parametrize("name", MORE_KINDS)
def test_scores_of_rarer_models_are_the_truth(name: str, tmp_path: Path) -> None:
    case = laid_out(name, tmp_path)
    test_scores_are_the_truth_and_not_one_bit_depends_on_the_replicas(case, 3, case[1].chunk or 7, tmp_path)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_words_are_codes_in_an_input_of_numbers(tmp_path: Path, kind: Any) -> None:
    """Their codes are those of Keras's StringLookup, where a word that the vocabulary lacks is 0."""
    blob = save(FIT["lstm"]())
    contract, words = contract_of(blob, "lstm"), ("Ulm", "Zürich", "Köln")
    table = make_series([30, 12])
    said = [("Ulm", "Köln", "Bonn", "Zürich")[row * 7 % 4] for row in range(table.num_rows)]
    values = pa.array([word.encode() for word in said] if kind == pa.binary() else said)
    values = values.dictionary_encode() if pa.types.is_dictionary(kind) else values
    write_cut(tmp_path / "in", replace(table, "f1", values), [20, 22], [7])
    job = Job(blob, tmp_path / "in", tmp_path / "out", columns_for(contract), input={"vocabulary": {"f1": words}})
    assert run(job)["rows_scored"] == table.num_rows
    codes = np.asarray(keras.layers.StringLookup(vocabulary=list(words))(np.array(said)), np.float32)
    truth = expected(blob, replace(table, "f1", pa.array(codes)), contract)
    found = np.stack([tidy(job.output).column(name).to_numpy() for name in contract.score_names], axis=1)
    np.testing.assert_allclose(found, truth, atol=contract.tolerance, rtol=0)
