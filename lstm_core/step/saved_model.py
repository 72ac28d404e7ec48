"""Export: the rebuilt step as a TensorFlow SavedModel with its state explicit, to serve single entities online.

What it decides: the signature. Rows come by the names of the model's inputs, then `reset`, `lengths` and one tensor per
state, named as its carry-over column; scores go out by the names of the outputs, and the states under the same names as
they came in. The number of entities is open, and so is the number of rows unless a layer needs to know it.

Keras is not needed to serve it. `assets.extra/slotcar.json` says of which model it is and what stands where.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Literal, TypedDict

import keras
import tensorflow as tf

from lstm_core.contract.model_contract import ModelContract
from lstm_core.step.rebatch import StateTensor, StepModel, build_step_model
from lstm_core.step.stateful_replica import make_step

FIXED_LENGTH = (keras.layers.TimeDistributed, keras.layers.RepeatVector)  # an unknown length is wrong for these
FACTS = os.path.join("assets.extra", "slotcar.json")


class InputFacts(TypedDict):
    """What slotcar.json says of one input."""

    columns: int
    kind: Literal["numeric", "categorical"]
    static: bool


class StepFacts(TypedDict):
    """What slotcar.json says."""

    model_fingerprint: str
    rows_per_call: int | None  # None: any number
    inputs: dict[str, InputFacts]  # by the argument of the signature
    outputs: dict[str, list[str]]  # by the output of the signature: one name per score value
    states: dict[str, str]  # by the argument of the signature: the carry-over column


def export_step(model: keras.Model, contract: ModelContract, *, chunk: int, folder: str) -> StepFacts:
    """Writes the step of a proved model into `folder`; returns what slotcar.json says.

    `chunk` is the number of rows of a call where the model or a layer fixes it.
    """
    step_model = build_step_model(model)
    fixed = contract.chunk or (chunk if any(isinstance(one, FIXED_LENGTH) for one in model._flatten_layers()) else None)
    module = tf.Module()
    read = [variable.value for variable in step_model.model.variables]  # by the saved graph
    module.kept = read  # type: ignore[attr-defined]  # why: a module keeps what it is given, under any name
    specs = _specs(step_model, fixed)
    serve = tf.function(_serving(step_model, contract, fixed), autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(module, folder, signatures={"serving_default": serve})
    facts = _facts(step_model, contract, fixed)
    os.makedirs(os.path.dirname(os.path.join(folder, FACTS)), exist_ok=True)
    with open(os.path.join(folder, FACTS), "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
    return facts


def plain(name: str) -> str:
    """A name as the signature has it: letters, digits and underscores."""
    return re.sub(r"\W", "_", name)


def column(state: StateTensor) -> str:
    """The carry-over column of a state tensor."""
    return f"state__{state.layer}__{state.index}"


def _argument(state: StateTensor) -> str:
    return plain(column(state))


def _specs(step_model: StepModel, chunk: int | None) -> dict[str, tf.TensorSpec]:
    shapes = zip(step_model.input_names, step_model.row_shapes(), step_model.static, strict=True)
    specs = {
        plain(name): tf.TensorSpec((None, *(() if static else (chunk,)), *shape), dtype, name=plain(name))
        for name, (shape, dtype), static in shapes
    }
    specs["reset"] = tf.TensorSpec((None,), tf.bool, name="reset")
    specs["lengths"] = tf.TensorSpec((None,), tf.int32, name="lengths")
    for state in step_model.states:
        specs[_argument(state)] = tf.TensorSpec((None, *state.shape), tf.float32, name=_argument(state))
    return specs


def _serving(step_model: StepModel, contract: ModelContract, chunk: int | None) -> Callable[..., dict[str, tf.Tensor]]:
    names = [_argument(state) for state in step_model.states]
    timed = step_model.static.index(False)

    def serve(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = [given[plain(name)] for name in step_model.input_names]
        length = chunk or tf.shape(rows[timed])[1]
        packed = [row[:, None] if static else row for row, static in zip(rows, step_model.static, strict=True)]
        step = make_step(step_model, length)
        scores, states = step(packed, given["reset"], given["lengths"], [given[name] for name in names])
        scores = [score[:, 0] for score in scores] if contract.window else scores
        outputs = [plain(output.name) for output in contract.outputs]
        return {**dict(zip(outputs, scores, strict=True)), **dict(zip(names, states, strict=True))}

    return serve


def _facts(step_model: StepModel, contract: ModelContract, chunk: int | None) -> StepFacts:
    return {
        "model_fingerprint": contract.fingerprint,
        "rows_per_call": chunk,
        "inputs": {
            plain(spec.name): {"columns": spec.columns, "kind": spec.kind, "static": spec.static}
            for spec in contract.inputs
        },
        "outputs": {plain(output.name): list(output.names) for output in contract.outputs},
        "states": {_argument(state): column(state) for state in step_model.states},
    }
