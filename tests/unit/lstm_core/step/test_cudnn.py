"""Where Keras sees a GPU: a step that XLA compiles is free of cuDNN, which XLA refuses, and a plain one runs on it.

A graph can be traced for a GPU that is not there, since only running it needs the kernel: what sees the GPU is Keras.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lstm_core.step.rebatch import build_step_model
from lstm_core.step.stateful_replica import StatefulReplica, StepShape, make_step
from tests.models.keras_models import FIT, save

SLOTS, CHUNK = 3, 5
ON_CUDNN = ["gru", "lstm", "nested_functional"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    keras_rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
    monkeypatch.setattr(keras_rnn, "_is_gpu_available", lambda: True)


def _traced(replica: StatefulReplica, *, jit: bool) -> Any:
    """The step on the whole chunk through each layer, which is that of a GPU."""
    step = make_step(replica.step_model, CHUNK)
    return tf.function(step, input_signature=replica.signature(), jit_compile=jit, autograph=False)


def _runs_on_cudnn(step: Any) -> bool:
    return any(operation.type == "CudnnRNNV3" for operation in step.get_concrete_function().graph.get_operations())


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ON_CUDNN)
def test_without_xla_a_step_runs_on_cudnn(name: str) -> None:
    replica = StatefulReplica(save(FIT[name]()), StepShape(SLOTS, CHUNK, jit=False))
    assert _runs_on_cudnn(_traced(replica, jit=False))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ON_CUDNN)
def test_with_xla_a_step_is_compiled_though_there_is_a_gpu(name: str) -> None:
    replica = StatefulReplica(save(FIT[name]()), StepShape(SLOTS, CHUNK))
    step = _traced(replica, jit=True)
    assert not _runs_on_cudnn(step)
    rows = [np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in replica.signature()[0]]
    scores, _ = step(rows, np.zeros(SLOTS, np.bool_), np.full(SLOTS, CHUNK, np.int32), replica.states)
    assert np.isfinite(scores[0].numpy()).all()


@pytest.mark.usefixtures("gpu")
def test_xla_refuses_a_step_on_cudnn() -> None:
    """Else there were no reason to keep them apart."""
    replica = StatefulReplica(save(FIT["lstm"]()), StepShape(SLOTS, CHUNK, jit=False))
    rows = np.zeros((SLOTS, CHUNK, 3), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="CudnnRNNV3"):
        _traced(replica, jit=True)([rows], np.zeros(SLOTS, np.bool_), np.ones(SLOTS, np.int32), replica.states)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_on_a_cpu_not_one_bit_depends_on_it(name: str, jit: bool) -> None:
    model = FIT[name]()
    replica = StatefulReplica(model, StepShape(SLOTS, CHUNK, jit))
    generator = np.random.default_rng(2)
    rows = [tf.constant(generator.normal(size=spec.shape), spec.dtype) for spec in replica.signature()[0]]
    states = [tf.constant(generator.normal(size=state.shape), tf.float32) for state in replica.states]
    reset, lengths = tf.constant([True, False, False]), tf.constant([CHUNK, 2, 0])
    found = []
    for cudnn in (True, False):
        step = make_step(build_step_model(model, cudnn=cudnn), CHUNK)
        compiled = tf.function(step, jit_compile=jit, autograph=False)
        found.append([tensor.numpy() for tensor in tf.nest.flatten(compiled(rows, reset, lengths, states))])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.view(np.int32), other.view(np.int32))
