"""Roofline: the step alone, on one thread: the Keras model as it is, under `tf.function(jit_compile=True)`.

No reading, no packing, no state handed on but the one inside the call: `slots` full entities, one chunk, again and
again. `run_own` is the step that Slotcar runs, with reset, lengths and the state of its slots. Where the workload
leaves XLA out so do they, and a GPU may run them on cuDNN.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tests.bench.engine import device_bytes, tensorflow
from tests.bench.task import Measured, Task
from tests.bench.workloads import FEATURES, SEED

LEAST_S = 3.0


def rows_of(task: Task) -> Any:
    """One full step's rows."""
    shape = (task.workload.slots, task.workload.chunk, len(FEATURES))
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


def repeated(call: Callable[[], Any], rows: int) -> Measured:
    """Calls for some seconds; the work is counted without the first call, which compiles."""
    begin = time.perf_counter()
    call()
    ready, calls = time.perf_counter(), 0
    while time.perf_counter() - ready < LEAST_S:
        call()
        calls += 1
    return Measured(time.perf_counter() - ready, calls * rows, ready - begin)


def run(task: Task) -> Measured:
    """The model that Keras gives."""
    tf = tensorflow(threads=1, gpu=task.gpus > 0)
    from tests.bench.network import load

    model, rows, jit = load(task.model), rows_of(task), task.workload.jit
    for layer in model.layers:
        if jit and hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False  # XLA has no kernel for it, and refuses the step
    step = tf.function(lambda rows: model(rows, training=False), jit_compile=jit, autograph=False)
    return repeated(lambda: step(rows).numpy(), rows.shape[0] * rows.shape[1])


def run_own(task: Task) -> Measured:
    """The step of a replica, as many to a call as it takes."""
    tensorflow(threads=1, gpu=task.gpus > 0)
    from lstm_core.step.stateful_replica import StatefulReplica, StepShape
    from lstm_core.step.tensorflow_setup import configure_compiler

    configure_compiler()
    rows = rows_of(task)
    slots, chunk = rows.shape[:2]
    replica = StatefulReplica(task.model.read_bytes(), StepShape(slots, chunk, task.workload.jit))
    count = replica.group[0]
    reset, lengths = np.zeros(count * slots, np.bool_), np.full(count * slots, chunk, np.int32)

    several = np.concatenate([rows] * count)

    def call() -> None:
        if count > 1:
            replica.step_group([several], reset, lengths, [])
        else:
            replica.step([rows], reset, lengths)[0].numpy()

    measured = repeated(call, count * slots * chunk)
    return replace(measured, notes={"device_bytes": device_bytes()})
