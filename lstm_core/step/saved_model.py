"""Export: the rebuilt step as a TensorFlow SavedModel with its state explicit, to serve single entities online.

What it decides: the signature. Rows come by the names of the model's inputs, then `reset`, `lengths` and one tensor per
state, named as its carry-over column; scores go out by the names of the outputs, and the states under the same names as
they came in. A name that TensorFlow would not take, or that another has, is changed, and slotcar.json says to what. The
number of entities is open, and so is the number of rows unless a layer needs to know it.

Keras is not needed to serve it. `assets.extra/slotcar.json` says of which model it is and what stands where.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from keyword import iskeyword
from typing import Literal, TypedDict

import keras
import tensorflow as tf

from lstm_core.contract.model_contract import ModelContract
from lstm_core.step.rebatch import StateTensor, StepModel, build_step_model
from lstm_core.step.stateful_replica import make_step

FIXED_LENGTH = (keras.layers.TimeDistributed, keras.layers.RepeatVector)  # an unknown length is wrong for these
RESERVED = ("reset", "lengths", "self")  # what every step is given, and what TensorFlow takes for itself
FACTS = os.path.join("assets.extra", "slotcar.json")


class InputFacts(TypedDict):
    """What slotcar.json says of one input."""

    name: str  # in the model
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
    names = _name_all(step_model, contract)
    specs = _specs(step_model, names, fixed)
    serve = _serving(step_model, contract, names, fixed)
    signature = tf.function(serve, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(module, folder, signatures={"serving_default": signature})
    facts = _facts(step_model, contract, names, fixed)
    os.makedirs(os.path.dirname(os.path.join(folder, FACTS)), exist_ok=True)
    with open(os.path.join(folder, FACTS), "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
    return facts


@dataclass(frozen=True)
class _Names:
    """What the signature calls what the model has, by the model's own name; states by their carry-over column."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    states: Mapping[str, str]


def _name_all(step_model: StepModel, contract: ModelContract) -> _Names:
    states = signature_names([column(state) for state in step_model.states], kind="state", taken=RESERVED)
    inputs = signature_names(step_model.input_names, kind="input", taken=(*RESERVED, *states.values()))
    outputs = signature_names([one.name for one in contract.outputs], kind="output", taken=states.values())
    return _Names(inputs, outputs, states)


def signature_names(names: Iterable[str], *, kind: str, taken: Iterable[str]) -> dict[str, str]:
    """Each name as the signature has it: ASCII letters, digits and underscores, a letter first, and no two alike.

    Two that differ by nothing but capitals are alike, since they are to TensorFlow's graphs. The first of them keeps
    its name, the others are numbered from 2.
    """
    used, found = {name.lower() for name in taken}, {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        plain = plain if plain[:1].isalpha() and not iskeyword(plain) else f"{kind}_{plain}"
        numbered = (f"{plain}_{number}" for number in count(2))
        found[name] = next(one for one in chain([plain], numbered) if one.lower() not in used)
        used.add(found[name].lower())
    return found


def column(state: StateTensor) -> str:
    """The carry-over column of a state tensor."""
    return f"state__{state.layer}__{state.index}"


def _specs(step_model: StepModel, names: _Names, chunk: int | None) -> dict[str, tf.TensorSpec]:
    shapes = zip(step_model.input_names, step_model.row_shapes(), step_model.static, strict=True)
    specs = {
        names.inputs[name]: tf.TensorSpec((None, *(() if static else (chunk,)), *shape), dtype, name=names.inputs[name])
        for name, (shape, dtype), static in shapes
    }
    specs["reset"] = tf.TensorSpec((None,), tf.bool, name="reset")
    specs["lengths"] = tf.TensorSpec((None,), tf.int32, name="lengths")
    for state in step_model.states:
        name = names.states[column(state)]
        specs[name] = tf.TensorSpec((None, *state.shape), tf.float32, name=name)
    return specs


def _serving(
    step_model: StepModel, contract: ModelContract, names: _Names, chunk: int | None
) -> Callable[..., dict[str, tf.Tensor]]:
    states_by_name = [names.states[column(state)] for state in step_model.states]
    timed = step_model.static.index(False)

    def serve(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = [given[names.inputs[name]] for name in step_model.input_names]
        length = chunk or tf.shape(rows[timed])[1]
        packed = [row[:, None] if static else row for row, static in zip(rows, step_model.static, strict=True)]
        step = make_step(step_model, length)
        scores, states = step(packed, given["reset"], given["lengths"], [given[name] for name in states_by_name])
        scores = [score[:, 0] for score in scores] if contract.window else scores
        outputs = [names.outputs[output.name] for output in contract.outputs]
        return {**dict(zip(outputs, scores, strict=True)), **dict(zip(states_by_name, states, strict=True))}

    return serve


def _facts(step_model: StepModel, contract: ModelContract, names: _Names, chunk: int | None) -> StepFacts:
    return {
        "model_fingerprint": contract.fingerprint,
        "rows_per_call": chunk,
        "inputs": {
            names.inputs[spec.name]: {
                "name": spec.name,
                "columns": spec.columns,
                "kind": spec.kind,
                "static": spec.static,
            }
            for spec in contract.inputs
        },
        "outputs": {names.outputs[output.name]: list(output.names) for output in contract.outputs},
        "states": {names.states[column(state)]: column(state) for state in step_model.states},
    }
