"""Roofline: ONNX Runtime's LSTM operator alone, on one thread, its state handed on from call to call."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench.subjects.step_alone import repeated, rows_of
from tests.bench.task import Measured, Task
from tests.bench.weights import Weights

OPSET = 17
IR_VERSION = 9


def run(task: Task) -> Measured:
    """The operator on one full step, again and again."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    rows = np.ascontiguousarray(rows_of(task).transpose(1, 0, 2))  # (step, slot, feature), as the operator wants it
    session = onnxruntime.InferenceSession(_model(Weights.read(task.model), rows.shape), options)
    zero = np.zeros((1, rows.shape[1], task.workload.units), np.float32)
    states = [zero, zero]

    def call() -> Any:
        scores, *states[:] = session.run(None, {"x": rows, "h0": states[0], "c0": states[1]})
        return scores

    return repeated(call, rows.shape[0] * rows.shape[1])


def _model(weights: Weights, shape: tuple[int, ...]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    steps, slots, features = shape
    units = weights.recurrent.shape[0]

    def value(name: str, *sizes: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    state = (1, slots, units)
    kernel, recurrent, bias = (weights.ordered("iofc", part) for part in ("kernel", "recurrent", "bias"))
    constants = {"W": kernel.T[None], "R": recurrent.T[None], "B": np.append(bias, np.zeros_like(bias))[None]}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["y", "h", "c"], hidden_size=units)],
        "lstm",
        [value("x", steps, slots, features), value("h0", *state), value("c0", *state)],
        [value("y", steps, 1, slots, units), value("h", *state), value("c", *state)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
