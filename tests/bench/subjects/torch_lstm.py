"""Roofline: PyTorch's `nn.LSTM` alone, on one thread, its state handed on from call to call."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench.subjects.step_alone import repeated, rows_of
from tests.bench.task import Measured, Task
from tests.bench.weights import Weights


def run(task: Task) -> Measured:
    """The module on one full step, again and again."""
    import torch

    torch.set_num_threads(1)
    rows = torch.tensor(np.ascontiguousarray(rows_of(task).transpose(1, 0, 2)))
    memory = _module(torch, Weights.read(task.model))
    states: list[Any] = [None]

    def call() -> Any:
        with torch.inference_mode():
            scores, states[0] = memory(rows, states[0])
        return scores

    return repeated(call, rows.shape[0] * rows.shape[1])


def _module(torch: Any, weights: Weights) -> Any:
    memory = torch.nn.LSTM(weights.kernel.shape[0], weights.recurrent.shape[0])
    kernel, recurrent, bias = (torch.tensor(weights.ordered("ifco", part)) for part in ("kernel", "recurrent", "bias"))
    with torch.no_grad():
        memory.weight_ih_l0.copy_(kernel.T)
        memory.weight_hh_l0.copy_(recurrent.T)
        memory.bias_ih_l0.copy_(bias)
        memory.bias_hh_l0.zero_()
    return memory
