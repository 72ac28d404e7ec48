"""What the Keras models of the tests are built of: seeded weights, inputs, one stack of layers, and the list of them.

`FIT` holds every builder that chunked scoring must accept, by name; importing `keras_models` fills it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import ModelContract, read_contract
from lstm_core.proof.chunk_proof import prove
from lstm_core.proof.proof_request import ProofRequest
from lstm_core.step.tensorflow_setup import configure_compiler, configure_devices

# As in a replica with one CPU; it must come before the first operation of the test's process.
configure_devices(threads=1, gpu=False)
configure_compiler()

FEATURES = 3
CODE = CustomCode(modules=("tests.models.custom_layers",))
VOCABULARY = 7

Builder = Callable[..., Any]
FIT: dict[str, Builder] = {}


def fit(builder: Builder) -> Builder:
    """List a builder among the models that must be accepted."""
    FIT[builder.__name__] = builder
    return builder


def save(model: Any) -> bytes:
    """The bytes of the model's `.keras` archive."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def contract_of(archive: bytes, name: str = "model.keras") -> ModelContract:
    """The whole contract of a model, custom code proved as a run proves it."""
    contract = read_contract(archive, name=name, code=CODE)
    return prove(ProofRequest(archive, contract, name, chunk=16)) if contract.unproved else contract


def seeded(model: Any, seed: int = 0) -> Any:
    """The same model with weights drawn from `seed`: not symmetric, biases not zero, variances positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = generator.normal(scale=0.4, size=weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return model


def numbers(*, batch: int | None = None, time: int | None = None, columns: int = FEATURES, name: str = "rows") -> Any:
    """An input of `columns` numbers per row."""
    return keras.Input(batch_shape=(batch, time, columns), name=name)


def codes(*, batch: int | None = None, time: int | None = None, name: str = "carrier", dtype: str = "int32") -> Any:
    """An input of one code per row."""
    return keras.Input(batch_shape=(batch, time), dtype=dtype, name=name)


def recurrent_model(*stack: Any, batch: int | None = None, time: int | None = None, scores: int = 1) -> Any:
    """rows -> the layers of `stack` -> Dense `score`."""
    rows = hidden = numbers(batch=batch, time=time)
    for layer in stack:
        hidden = layer(hidden)
    return seeded(keras.Model(rows, layers.Dense(scores, name="score")(hidden), name="model"))


def sequence_of(layer: Any, units: int = 4, **options: Any) -> Any:
    """A recurrent layer that gives all its rows."""
    return layer(units, return_sequences=True, **options)
