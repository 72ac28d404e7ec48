"""The exported step: one entity, from a given state, with the scores of the batch run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cluster.core.settings import StepSettings
from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import export
from jobs.config.configuration import load_config
from lstm_core.errors import UsageError
from tests.harness.inprocess import Job, run, scores
from tests.harness.truth import arrays_of, columns_for, table_for
from tests.inputs.configs import IN_AND_OUT
from tests.inputs.series import write_cut
from tests.models.keras_models import CODE, FIT, contract_of, save, seeded

LENGTHS = (23, 9)
CONFIG = """
[model]
path = "model.keras"
chunk = 4
modules = ["tests.models.custom_layers"]
"""


def configured(folder: Path, name: str) -> Any:
    (folder / "model.keras").write_bytes(save(FIT[name]()))
    (folder / "job.toml").write_text(CONFIG + IN_AND_OUT)
    return load_config(str(folder / "job.toml"))


@pytest.mark.parametrize("name", ["nested_functional", "static_numbers", "time_distributed"])
def test_an_entity_is_served_from_its_state_as_the_batch_run_scored_it(name: str, tmp_path: Path) -> None:
    config = configured(tmp_path, name)
    model = config.model_bytes()
    contract = contract_of(model)
    table = table_for(contract, LENGTHS)
    write_cut(tmp_path / "in", table)
    run(Job(model, tmp_path / "in", tmp_path / "out", columns_for(contract), step=StepSettings(slots=2, chunk=4)))
    kept = scores(tmp_path / "out").sort_by([("entity", "ascending"), ("time", "ascending")])
    batch = np.stack([kept.column(score).to_numpy() for score in contract.score_names], axis=1)[: LENGTHS[0]]

    found = export.run(config).as_dict()
    serve = tf.saved_model.load(found["folder"]).signatures["serving_default"]
    arrays = [array[: LENGTHS[0]] for array in arrays_of(table, contract)]
    state = {name: np.zeros(serve.structured_input_signature[1][name].shape[1:]) for name in found["states"]}
    served = []
    for start, stop in ((0, 4), (4, 7), (7, 11), (11, 12), (12, 16), (16, 20), (20, 23)):
        width = found["rows_per_call"] or stop - start
        given = {
            spec.name: tf.constant(array[:1] if spec.static else padded(array[start:stop], width)[None])
            for spec, array in zip(contract.inputs, arrays, strict=True)
        }
        given |= {name: tf.constant(value[None], tf.float32) for name, value in state.items()}
        out = serve(reset=tf.constant([False]), lengths=tf.constant([stop - start]), **given)
        served.append(np.concatenate([out[one.name].numpy()[0, : stop - start] for one in contract.outputs], axis=-1))
        state = {name: out[name].numpy()[0] for name in state}
    np.testing.assert_allclose(np.concatenate(served), batch, atol=1e-6, rtol=0)


NAMES = {
    "differ by a sign": (["p+", "p-"], "score"),
    "differ by what becomes an underscore": (["dep delay", "dep_delay", "dep-delay"], "score"),
    "differ by capitals": (["Temp", "temp"], "score"),
    "begin with a digit": (["2m_temp", "10m_wind"], "2m_score"),
    "begin with an underscore": (["_x", "y"], "_score"),
    "in other letters": (["größe", "温度", "湿度"], "größe"),
    "with colons": (["s1:temp", "s1:press"], "s:1"),
    "of the step's own arguments": (["reset", "lengths", "RESET"], "reset"),
    "of a state": (["state__memory__0", "x"], "state__memory__1"),
    "of the output": (["score", "x"], "score"),
    "of a keyword": (["class", "self"], "lambda"),
}


@pytest.mark.parametrize("case", sorted(NAMES))
def test_names_that_keras_takes_are_served_apart(case: str, tmp_path: Path) -> None:
    inputs, output = NAMES[case]
    columns = [keras.Input((None, 1), name=name) for name in inputs]
    hidden = keras.layers.LSTM(4, return_sequences=True, name="memory")(keras.layers.Concatenate()(columns))
    head = keras.layers.Dense(1, name="head")(hidden)
    model = seeded(keras.Model(columns, {output: head}))
    (tmp_path / "model.keras").write_bytes(save(model))
    (tmp_path / "job.toml").write_text(CONFIG + IN_AND_OUT)
    found = export.run(load_config(str(tmp_path / "job.toml"))).as_dict()

    serve = tf.saved_model.load(found["folder"]).signatures["serving_default"]
    rows = np.random.default_rng(0).normal(size=(2, 5, len(inputs))).astype(np.float32)
    by_name = {name: rows[..., index : index + 1] for index, name in enumerate(inputs)}
    assert sorted(spec["name"] for spec in found["inputs"].values()) == sorted(inputs)
    given = {argument: tf.constant(by_name[spec["name"]]) for argument, spec in found["inputs"].items()}
    given |= {argument: tf.zeros((2, 4)) for argument in found["states"]}
    assert set(serve.structured_input_signature[1]) == {"reset", "lengths", *given}
    out = serve(reset=tf.constant([True, True]), lengths=tf.constant([5, 5]), **given)
    [score] = found["outputs"]
    assert set(out) == {score, *found["states"]}
    wanted = keras.ops.convert_to_numpy(model([by_name[name] for name in inputs])[output])
    np.testing.assert_allclose(out[score].numpy(), wanted, atol=1e-6, rtol=0)


def padded(rows: Any, width: int) -> Any:
    return np.concatenate([rows, np.zeros((width - len(rows), *rows.shape[1:]), rows.dtype)])


def test_an_export_says_what_it_is_and_overwrites_nothing(tmp_path: Path) -> None:
    config = configured(tmp_path, "nested_twice")
    exported = export.run(config, str(tmp_path / "step"))
    found = exported.as_dict()
    facts = json.loads((tmp_path / "step/assets.extra/slotcar.json").read_text())
    assert facts["states"] == {
        f"state__inner_innermost_memory__{index}": f"state__inner/innermost/memory__{index}" for index in (0, 1)
    }
    assert facts["model_fingerprint"] == contract_of(config.model_bytes()).fingerprint
    assert found["rows_per_call"] is None
    page = DataConsole(width=200)
    with page.capture() as shown:
        page.print(exported.render())
    assert "None" not in shown.get()
    for said in ("any number", str(tmp_path / "step"), *facts["inputs"], *facts["outputs"], *facts["states"]):
        assert said in shown.get()
    with pytest.raises(UsageError, match="exists already"):
        export.run(config, str(tmp_path / "step"))
    assert CODE.modules == config.model.modules
