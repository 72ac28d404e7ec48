"""What the scores must be: each entity alone, unchunked, from zero state.

Two outside truths. `expected` asks Keras, stateless, one entity at a time. `by_hand` is an independent NumPy model of
one recurrent layer with a Dense head, written from the published equations and sharing no code with Keras or with us.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lstm_core.contract.model_contract import ModelContract
from lstm_core.proof.reference import Reference
from lstm_core.score_gaps import score_gaps
from tests.inputs.series import make_series, replace
from tests.models.keras_models import VOCABULARY

Array = NDArray[Any]
TOLERANCE = 1e-5

# One row, exactly one chunk of each tested length, a chunk and a row, and more of both.
LENGTHS = (1, 7, 8, 64, 65, 2, 130, 6, 1, 29)


def columns_for(contract: ModelContract) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Feature columns for each input of a model: f.. for numbers, c.. for codes."""
    bound, numbers, codes = [], 0, 0
    for spec in contract.inputs:
        if spec.kind == "numeric":
            bound.append((spec.name, tuple(f"f{numbers + i}" for i in range(spec.columns))))
            numbers += spec.columns
        else:
            bound.append((spec.name, tuple(f"c{codes + i}" for i in range(spec.columns))))
            codes += spec.columns
    return tuple(bound)


def table_for(contract: ModelContract, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> Any:
    """Series with every column that a model wants."""
    numbers = sum(spec.columns for spec in contract.inputs if spec.kind == "numeric")
    codes = sum(spec.columns for spec in contract.inputs if spec.kind == "categorical")
    table = make_series(lengths, features=numbers, seed=seed)
    begin = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    generator = np.random.default_rng(seed + 1)
    for index in range(codes):
        values = generator.integers(0, VOCABULARY, table.num_rows)
        table = table.append_column(f"c{index}", pa.array(values))
    for spec, (_, columns) in zip(contract.inputs, columns_for(contract), strict=True):
        for name in columns if spec.static else ():
            table = replace(table, name, table.column(name).take(pa.array(begin)))
    return table


def arrays_of(table: Any, contract: ModelContract) -> list[Array]:
    """The model's inputs for all rows of a table, one array (row, ...) per input."""
    arrays = []
    for spec, (_, columns) in zip(contract.inputs, columns_for(contract), strict=True):
        stacked = np.stack([table.column(name).to_numpy() for name in columns], axis=1).astype(spec.dtype)
        arrays.append(stacked if spec.rank == 3 else stacked[:, 0])
    return arrays


def expected(model: Any, table: Any, contract: ModelContract) -> Array:
    """Scores (row, score value) of a tidy table, by Keras, one entity at a time."""
    reference, arrays, parts = Reference(model), arrays_of(table, contract), []
    entity = table.column("entity").to_numpy(zero_copy_only=False)
    borders = [0, *(np.flatnonzero(entity[1:] != entity[:-1]) + 1), len(entity)]
    for start, stop in pairwise(borders):
        parts.append(np.concatenate(reference.score([array[start:stop] for array in arrays]), axis=-1))
    return np.concatenate(parts)


def by_hand(kind: str, weights: Sequence[Array], rows: Array) -> Array:
    """Scores (step, score) of one series (step, feature) under [layer weights..., Dense kernel, Dense bias]."""
    *layer, kernel, bias = [np.asarray(weight, np.float64) for weight in weights]
    hidden = {"lstm": _lstm, "gru": _gru, "gru_reset_before": _gru_reset_before, "simple_rnn": _simple}[kind](
        layer, rows
    )
    return hidden @ kernel + bias


def assert_same_scores(found: Array, truth: Array, tolerance: float = TOLERANCE) -> None:
    """Scores (row, score) within the tolerance of the truth, measured as an audit does."""
    assert found.shape == truth.shape
    gaps = score_gaps(found, truth)
    worst = np.unravel_index(int(np.argmax(gaps)), gaps.shape) if gaps.size else ()
    assert gaps.max(initial=0.0) <= tolerance, (
        f"at {worst}: {found[worst]} for {truth[worst]}, off by {gaps[worst]:.3g}"
    )


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _lstm(weights: Sequence[Array], rows: Array) -> Array:
    # Hochreiter and Schmidhuber (1997) with a forget gate; Keras's gate order is input, forget, cell, output.
    kernel, recurrent, bias = weights
    units = recurrent.shape[0]
    h = c = np.zeros(units)
    out = []
    for x in rows:
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out).reshape(-1, units)


def _gru(weights: Sequence[Array], rows: Array) -> Array:
    # Cho et al. (2014), with the reset gate after the product, as cuDNN has it; gate order update, reset, candidate.
    kernel, recurrent, (bias, recurrent_bias) = weights
    h, out = np.zeros(recurrent.shape[0]), []
    for x in rows:
        xz, xr, xh = np.split(x @ kernel + bias, 3)
        hz, hr, hh = np.split(h @ recurrent + recurrent_bias, 3)
        z, r = _sigmoid(xz + hz), _sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
        out.append(h)
    return np.array(out)


def _gru_reset_before(weights: Sequence[Array], rows: Array) -> Array:
    kernel, recurrent, bias = weights
    units = recurrent.shape[0]
    h, out = np.zeros(units), []
    for x in rows:
        xz, xr, xh = np.split(x @ kernel + bias, 3)
        z = _sigmoid(xz + h @ recurrent[:, :units])
        r = _sigmoid(xr + h @ recurrent[:, units : 2 * units])
        h = z * h + (1 - z) * np.tanh(xh + (r * h) @ recurrent[:, 2 * units :])
        out.append(h)
    return np.array(out)


def _simple(weights: Sequence[Array], rows: Array) -> Array:
    kernel, recurrent, bias = weights
    h, out = np.zeros(recurrent.shape[0]), []
    for x in rows:
        h = np.tanh(x @ kernel + h @ recurrent + bias)
        out.append(h)
    return np.array(out)
