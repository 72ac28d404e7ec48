"""`slotcar inspect`: everything of the contract, as tables and as JSON; refusals pass through."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import inspect
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.proof.chunk_proof import prove
from tests.inputs.configs import IN_AND_OUT
from tests.inputs.series import make_series, write_cut
from tests.models import keras_models
from tests.models.unfit_models import bidirectional


def run(path: Path) -> inspect.Inspection:
    """As the command does, with the proof in this process."""
    return inspect.run(path, prove=prove)


def written(folder: Path, archive: bytes) -> Path:
    path = folder / "model.keras"
    path.write_bytes(archive)
    return path


def test_inspect_gives_the_contract_as_plain_values(tmp_path: Path) -> None:
    found = json.loads(json.dumps(run(written(tmp_path, keras_models.save(keras_models.two_inputs()))).as_dict()))
    assert found["fit"] is True
    assert [item["name"] for item in found["inputs"]] == ["numeric", "carrier"]
    assert found["outputs"] == [{"name": "score", "values": 1}]
    assert found["score_names"] == ["score"]
    [layer] = found["recurrent"]
    assert layer["state_shapes"] == [[4], [4]]
    assert (layer["name"], layer["kind"], layer["stateful"]) == ("memory", "LSTM", False)
    assert "cuDNN with" in found["kernels"]["memory"]["gpu"]
    assert found["notes"] == []
    assert found["state_bytes_per_slot"] == 32
    assert found["flop_per_row"] > 0
    assert len(found["fingerprint"]) == 64


def test_inspect_shows_the_contract_as_tables(tmp_path: Path) -> None:
    inspection = run(written(tmp_path, keras_models.save(keras_models.nested_functional())))
    shown = io.StringIO()
    Console(file=shown, width=120).print(inspection.render())
    for word in (
        "rows",
        "score",
        "inner/memory",
        "second",
        "[4], [4]",
        "FLOP per row",
        inspection.contract.fingerprint,
    ):
        assert word in shown.getvalue()


def test_inspect_refuses_an_unfit_model(tmp_path: Path) -> None:
    path = written(tmp_path, keras_models.save(bidirectional()))
    with pytest.raises(ModelRefused, match="Bidirectional") as refusal:
        run(path)
    assert str(path) in str(refusal.value)


def test_inspect_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read") as fault:
        run(tmp_path / "missing.keras")
    assert fault.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gru_reset_before", "reset_after is False"),
        ("lstm_other_activations", "activation is 'relu'"),
        ("unrolled", "unroll is True"),
        ("rnn_of_stacked_cells", "not for RNN"),
        ("custom_recurrent_layer", "custom code"),
    ],
)
def test_inspect_says_why_cudnn_would_not_run_a_layer(name: str, reason: str) -> None:
    [layer] = keras_models.contract_of(keras_models.save(keras_models.FIT[name]())).recurrent
    assert reason in layer.without_cudnn


def test_the_pitfalls_of_stateful_models_are_named_with_why_they_do_no_harm(tmp_path: Path) -> None:
    fixed = run(written(tmp_path, keras_models.save(keras_models.stateful_lstm()))).notes
    assert "fixes a batch of 4" in fixed[0]
    assert "reset where an entity begins" in fixed[1]
    assert "shuffles its batches" in fixed[2]
    [opened, _, _] = inspect._pitfalls(
        replace(keras_models.contract_of(keras_models.save(keras_models.stateful_lstm())), batch=None)
    )
    assert "open batch" in opened


CONFIG = '[model]\npath = "another.keras"\nchunk = 6\n' + IN_AND_OUT


def test_inspect_says_whether_an_input_needs_the_state(tmp_path: Path) -> None:
    path = written(tmp_path, keras_models.save(keras_models.lstm()))
    (tmp_path / "job.toml").write_text(CONFIG)
    for lengths, words in (([5, 7, 30], "2 of 3 entities are longer"), ([5, 6], "a stateless model")):
        write_cut(tmp_path / "in", make_series(lengths))
        [note] = inspect.run(path, config=str(tmp_path / "job.toml"), prove=prove).notes
        assert words in note


def test_inspect_with_a_configuration_names_the_columns_of_each_input_and_their_words(tmp_path: Path) -> None:
    """It needs no output.path: nothing is written."""
    path = written(tmp_path, keras_models.save(keras_models.two_inputs()))
    [numeric, carrier] = run(path).contract.inputs
    columns = [f"f{index}" for index in range(numeric.columns)]
    table = make_series([5, 7])
    table = table.append_column("word", pa.array(["UA", "AA"] * 6))
    write_cut(tmp_path / "in", table)
    (tmp_path / "job.toml").write_text(
        '[model]\npath = "other.keras"\n[input]\npath = "in"\nentity = "entity"\ntime = "time"\n'
        f'[input.features]\nnumeric = {json.dumps(columns)}\ncarrier = ["word"]\n'
        '[input.vocabulary]\nword = ["AA", "UA"]\n'
    )
    page = DataConsole(width=250)
    with page.capture() as shown:
        page.print(inspect.run(path, config=str(tmp_path / "job.toml"), prove=prove).render())
    assert f"{numeric.columns}: {', '.join(columns)}" in shown.get()
    assert "1: word (2 words)" in shown.get()
    assert f"{carrier.vocabulary:,}, of which 0 is for unknown words" in shown.get()
