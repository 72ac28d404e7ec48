"""The proof that a model may be scored in chunks: short random series, chunked with carried state and at once.

What it decides: a model whose scores differ between the two, or that cannot be called in chunks at all, is refused,
whatever its layers say of themselves. Two slots hold three series, so a layer that mixes neighbours, that keeps a state
of its own behind the reset of a slot, or that draws random numbers is found too. The truth is `reference`.

Limits: Keras's own layers are known, so for them a few rows at the smallest cost are enough. A model with custom code
is proved on its real chunk and over `CHUNKS` of them: what looks back further than that is not found, nor what moves a
score by less than the tolerance. What the archive does not show of custom code, `complete` reads from the model.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from lstm_core.array_types import Array, Floats, Ints
from lstm_core.contract.custom_code import CustomCode, first_sentence
from lstm_core.contract.model_contract import NO_STATE, InputContract, ModelContract, RecurrentContract
from lstm_core.errors import ModelRefused, SlotcarError
from lstm_core.packing.packer import Packer
from lstm_core.proof.proof_request import ProofRequest
from lstm_core.proof.reference import Reference
from lstm_core.score_gaps import score_gaps
from lstm_core.step.rebatch import StepModel, build_step_model, load_model
from lstm_core.step.stateful_replica import make_step
from lstm_core.step.tensorflow_setup import configure_devices

if TYPE_CHECKING:
    import keras

SLOTS = 2
CHUNK = 3  # where the model leaves it open and all of its layers are known
CHUNKS = 4
TOLERANCE = 1e-4  # as `score_gaps` measures


_proved: set[tuple[str, CustomCode, int]] = set()  # in this process: replicas in one process need one proof


def prove(request: ProofRequest) -> ModelContract:
    """The whole contract of a model that may be scored in chunks. Raises `ModelRefused`, `UsageError`."""
    model = load_model(request.model, name=request.name, code=request.contract.code)
    return prove_model(model, request.contract, name=request.name, chunk=request.chunk)


def prove_model(model: keras.Model, contract: ModelContract, *, name: str, chunk: int) -> ModelContract:
    """As `prove`, for a model that is loaded already."""
    chunk = contract.chunk or (chunk if contract.unproved else CHUNK)
    key = (contract.fingerprint, contract.code, chunk)
    try:
        step_model = build_step_model(model)
        whole = complete(contract, step_model, name)
        gap = None if key in _proved else _largest_gap(model, step_model, contract, chunk)
    except ModelRefused:
        raise
    except Exception as error:  # custom code may raise anything
        raised = f"{first_sentence(error)}{_suspects(contract)}"
        raise ModelRefused(
            f"Model '{name}' cannot be scored in chunks: the attempt raised {raised}; every layer must take series of"
            " any length, and any number of them."
        ) from error
    if gap is not None:
        raise ModelRefused(
            f"Model '{name}' cannot be scored in chunks: random series that were scored in chunks, with the state"
            f" carried, and at once differ by {gap:.2g}, so something looks along time, or at other series, outside of"
            f" the state of a recurrent layer{_suspects(contract)}; use recurrent layers for what looks along time."
        )
    _proved.add(key)
    return whole


def complete(contract: ModelContract, step_model: StepModel, name: str) -> ModelContract:
    """The contract with the states and the numbers of scores that the loaded model has."""
    if not step_model.states:
        raise ModelRefused(f"Model '{name}' cannot be scored in chunks: {NO_STATE}.")
    if not contract.unproved:
        return contract
    _check_beginnings(step_model, name)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for state in step_model.states:
        shapes.setdefault(state.layer, []).append(state.shape)
    kinds = {path: (type(layer).__name__, bool(layer.stateful)) for path, layer in step_model.recurrent}
    named = {layer.name: layer.without_cudnn for layer in contract.recurrent}
    order = [*named, *(path for path in shapes if path not in named)]
    recurrent = tuple(
        RecurrentContract(
            path, kinds[path][0], tuple(shapes[path]), kinds[path][1], named.get(path, "it is custom code")
        )
        for path in order
    )
    scores = step_model.model.outputs[: len(contract.outputs)]
    outputs = tuple(
        replace(output, values=int(tensor.shape[-1])) for output, tensor in zip(contract.outputs, scores, strict=True)
    )
    return replace(contract, recurrent=recurrent, outputs=outputs)


def _check_beginnings(step_model: StepModel, name: str) -> None:
    for path, layer in step_model.recurrent:
        if any(np.any(state) for state in tf.nest.flatten(layer.get_initial_state(1))):
            raise ModelRefused(
                f"Model '{name}' cannot be scored in chunks: layer '{path}' begins with a state of its own that is not"
                " zero, and every entity begins with zero state; leave get_initial_state out of its cell, and let the"
                " cell add that state to its own."
            )


def _largest_gap(model: keras.Model, step_model: StepModel, contract: ModelContract, chunk: int) -> float | None:
    """How far the two ways of scoring are apart; None where they agree."""
    lengths = np.array([CHUNKS * chunk - chunk // 2, chunk + 1, chunk + 2])
    reference = Reference(model)
    for positive in (False, True):  # a logarithm of what was drawn may be no number, and then nothing is compared
        rows = _random_rows(contract.inputs, lengths, positive=positive)
        found = _chunked(step_model, rows, lengths, chunk)
        truth = _at_once(reference, rows, lengths)
        if np.isfinite(truth).all():
            break
    gap = float(score_gaps(found, truth).max(initial=0.0))
    return None if gap <= max(TOLERANCE, contract.tolerance) else gap


def _random_rows(inputs: Sequence[InputContract], lengths: Ints, *, positive: bool) -> list[Array]:
    generator = np.random.default_rng(0)
    begin = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    drawn = [_random(generator, spec, int(lengths.sum()), positive) for spec in inputs]
    return [array[begin] if spec.static else array for array, spec in zip(drawn, inputs, strict=True)]


def _random(generator: np.random.Generator, spec: InputContract, count: int, positive: bool) -> Array:
    shape = (count, spec.columns) if spec.rank == 3 else (count,)
    if spec.kind == "categorical":
        return generator.integers(0, spec.vocabulary or 2, shape).astype(np.int32)
    drawn = generator.uniform(0.1, 1.0, shape) if positive else generator.normal(size=shape)
    return drawn.astype(np.float32)


def _chunked(step_model: StepModel, rows: list[Array], lengths: Ints, chunk: int) -> Floats:
    step = tf.function(make_step(step_model, chunk), autograph=False)
    dtypes = [dtype for _, dtype in step_model.row_shapes()]
    states: list[tf.Tensor] = [tf.zeros((SLOTS, *state.shape)) for state in step_model.states]
    packer = Packer(slots=SLOTS, chunk=chunk)
    packer.admit(np.cumsum([0, *lengths[:-1]]), lengths)
    found: Floats | None = None
    while (planned := packer.next_step()) is not None:
        index, valid = planned.gather(chunk), planned.valid(chunk)
        batch = [tf.cast(array[index], dtype) for array, dtype in zip(rows, dtypes, strict=True)]
        scores, states = step(batch, tf.constant(planned.reset), tf.constant(planned.lengths), states)
        values = np.concatenate([tensor.numpy() for tensor in scores], axis=-1)
        if found is None:
            found = np.full((int(lengths.sum()), values.shape[-1]), np.nan, np.float32)
        found[index[valid]] = values[valid]
    assert found is not None, "series without rows"
    return found


def _at_once(reference: Reference, rows: list[Array], lengths: Ints) -> Array:
    borders = np.cumsum(lengths)[:-1]
    series = zip(*(np.split(array, borders) for array in rows), strict=True)
    return np.concatenate([_of_rows(reference, list(one)) for one in series])


def _of_rows(reference: Reference, rows: list[Array]) -> Array:
    """Scores (row, score) of one series; a window's stands at each of its rows, as the step gives it."""
    scores = np.concatenate(reference.score(rows), axis=-1)
    return scores if reference.window is None else np.repeat(scores, reference.window, axis=0)[: len(rows[0])]


def _suspects(contract: ModelContract) -> str:
    if not contract.unproved:
        return ""
    named = ", ".join(f"'{layer}'" for layer in contract.unproved)
    return f" (not Keras's own code: {named})"


def _answer(request: ProofRequest) -> ModelContract | SlotcarError:
    try:
        return prove(request)
    except SlotcarError as refusal:
        return refusal


def main() -> None:
    """A process that proves one model: a pickled `ProofRequest` in, its contract or the refusal out."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # custom code may print
    configure_devices(threads=1, gpu=False)
    answer = _answer(pickle.load(sys.stdin.buffer))
    with os.fdopen(answer_to, "wb") as out:
        pickle.dump(answer, out)


if __name__ == "__main__":
    main()
