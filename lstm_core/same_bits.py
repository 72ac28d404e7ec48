"""Whether two compiled steps give the same bits, by trying: the condition for using anything but the full step.

Where an engine computes in another order at another size, few of the numbers may show it (7 % were seen), so steps of
few numbers are drawn over and over, with rows and states of several magnitudes. It decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MAGNITUDES = (1.0, 0.1, 3.0)  # of the rows and states that are compared
_COMPARED_MIN = 20_000  # numbers that have to be the same


def has_same_bits(smaller: Any, full: Any, specs: list[Any], full_specs: list[Any]) -> bool:
    """Whether a smaller step gives the bits of the full one, on random rows in the slots and timesteps that it has."""
    width, steps = specs[0][0].shape[:2]
    generator = np.random.default_rng(0)
    compared = draws = 0
    while draws < len(_MAGNITUDES) or compared < _COMPARED_MIN:
        drawn, states = _drawn(generator, full_specs, _MAGNITUDES[draws % len(_MAGNITUDES)])
        reset, lengths = _turns(generator, full_specs[2].shape, steps)
        reset[width:], lengths[width:] = False, 0
        found, after = smaller([array[:width, :steps] for array in drawn], reset[:width], lengths[:width], states)
        truth, after_full = full(drawn, reset, lengths, states)
        pairs = list(_valid_pairs((found, truth), lengths[:width], steps))
        pairs += [(a.numpy()[:width], b.numpy()[:width]) for a, b in zip(after, after_full, strict=True)]
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            return False
        busy = lengths[:width] > 0
        compared += sum(a.size for a, _ in pairs[: len(found)]) + sum(a[busy].size for a, _ in pairs[len(found) :])
        draws += 1
    return True


def group_has_same_bits(group: Any, full: Any, specs: list[Any], full_specs: list[Any]) -> bool:
    """Whether a group gives the bits of its steps, each taken by the full step, states that are put in included."""
    slots, steps = full_specs[2].shape[0], specs[0][0].shape[1]
    count = specs[1].shape[0] // slots
    generator = np.random.default_rng(0)
    compared = draws = 0
    while draws < len(_MAGNITUDES) or compared < _COMPARED_MIN:
        magnitude = _MAGNITUDES[draws % len(_MAGNITUDES)]
        drawn = [_drawn(generator, full_specs, magnitude) for _ in range(count)]
        reset, lengths = _turns(generator, specs[1].shape, steps)
        restored = (generator.random(lengths.shape) < 0.25) & (lengths > 0)
        reset &= ~restored
        rows = [np.concatenate(arrays)[:, :steps] for arrays in zip(*(rows for rows, _ in drawn), strict=True)]
        initial = [np.concatenate(arrays) for arrays in zip(*(states for _, states in drawn), strict=True)]
        states = drawn[0][1]
        found, kept, last = group(rows, reset, lengths, states, [restored, *initial])
        for number, (full_rows, put_in) in enumerate(drawn):
            own = slice(number * slots, (number + 1) * slots)
            begins = restored[own]
            before = [_where(begins, new, np.asarray(old)) for new, old in zip(put_in, states, strict=True)]
            truth, states = full(full_rows, reset[own], lengths[own], before)
            pairs = list(_valid_pairs(([array[own] for array in found], truth), lengths[own], steps))
            pairs += [(a.numpy()[own], b.numpy()) for a, b in zip(kept, states, strict=True)]
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
                return False
            compared += sum(a.size for a, _ in pairs)
        if not all(np.array_equal(a.numpy(), np.asarray(b), equal_nan=True) for a, b in zip(last, states, strict=True)):
            return False
        draws += 1
    return True


def _valid_pairs(scores: tuple[Any, Any], lengths: Array, steps: int) -> Iterator[tuple[Array, Array]]:
    valid = np.arange(steps) < lengths[:, None]
    for one, other in zip(*scores, strict=True):
        yield np.asarray(one)[valid], np.asarray(other)[: len(lengths), :steps][valid]


def _drawn(generator: np.random.Generator, specs: list[Any], magnitude: float) -> tuple[list[Array], list[Array]]:
    """Rows and states of one step."""
    rows = [_random(generator, spec, magnitude) for spec in specs[0]]
    return rows, [_random(generator, spec, magnitude) for spec in specs[3]]


def _turns(generator: np.random.Generator, shape: Any, steps: int) -> tuple[Array, Array]:
    """Resets and lengths, of which one is whole."""
    lengths = generator.integers(0, steps + 1, shape, np.int32)
    lengths[0] = steps
    return (generator.random(lengths.shape) < 0.25) & (lengths > 0), lengths


def _where(flags: Array, new: Array, old: Array) -> Array:
    return np.where(flags.reshape(-1, *([1] * (new.ndim - 1))), new, old)


def _random(generator: np.random.Generator, spec: Any, magnitude: float) -> Array:
    dtype = spec.dtype.as_numpy_dtype
    if spec.dtype.is_floating:
        return np.asarray(generator.standard_normal(spec.shape, np.float32) * np.float32(magnitude), dtype)
    return np.zeros(spec.shape, dtype)  # a code that every model knows
