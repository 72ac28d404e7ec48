"""Whether two compiled steps give the same bits, by trying: the condition for using anything but the full step.

Where an engine computes in another order at another size, few of the numbers may show it (7 % were seen), so steps of
few numbers are drawn over and over, with rows and states of several magnitudes. It decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lstm_core.array_types import Array, Bools, Int32s
from lstm_core.packing.packer import busy_first, seating
from lstm_core.step.known_shapes import known_shape

if TYPE_CHECKING:
    from lstm_core.step.compiled_function import ArrayOrTensor, CompiledFunction, Spec
    from lstm_core.step.step_groups import Group
    from lstm_core.step.timestep_loop import StepOutput, StepSpecs

# Of rows, reset, lengths, states.
FullStep: TypeAlias = "Callable[[Sequence[Array], Bools, Int32s, Sequence[ArrayOrTensor]], StepOutput]"
ScorePair: TypeAlias = "tuple[Sequence[ArrayOrTensor], Sequence[ArrayOrTensor]]"  # the scores of two steps

_MAGNITUDES = (1.0, 0.1, 3.0)  # of the rows and states that are compared
_COMPARED_MIN = 20_000  # numbers that have to be the same
_BLOCKS = 4  # of a smaller size that are compared with one full step, which costs more than they


def has_same_bits(
    smaller: CompiledFunction[StepOutput],
    full: FullStep,
    specs: StepSpecs,
    full_specs: StepSpecs,
    static: Sequence[bool] = (),
) -> bool:
    """Whether another size of a step gives the bits of the full one, on random rows in its slots and timesteps.

    One of several chunks is compared with as many full steps, one after the other; what an input that is `static` has
    is then the same in all of them, as it is of an entity. Once it goes to its end, later only beyond its first chunk.
    """
    width, steps = known_shape(specs[0][0])[:2]
    slots, chunk = known_shape(full_specs[2])[0], known_shape(full_specs[0][0])[1]

    def compare(generator: np.random.Generator, draw: int) -> int | None:
        longest = steps if draw == 0 else min(steps, chunk + -(-chunk // 4))
        chunks, states = _chunks(generator, draw, full_specs, -(-steps // chunk), static)
        rows = [np.concatenate(arrays, axis=1) for arrays in zip(*chunks, strict=True)]
        reset, lengths = _turns(generator, (slots,), longest)
        order = generator.permutation(slots)
        blocks = order[: min(_BLOCKS, slots // width) * width].reshape(-1, width)
        idle = np.setdiff1d(order, blocks)
        reset[idle], lengths[idle] = False, 0
        truth, after_full = _by_chunk(full, chunks, reset, lengths, states)
        compared = 0
        for block in blocks:
            inside = np.isin(np.arange(slots), block)
            here = np.where(inside, lengths, 0).astype(np.int32)
            own = busy_first(here, width)
            seats = [seating(own, slots)] if width < slots else []
            given = [array[own, :steps] for array in rows]
            found, after = smaller(given, (reset & inside)[own], here[own], states, *seats)
            kept = [_where(inside, new, old) for new, old in zip(after_full, states, strict=True)]
            pairs = [tensor.numpy() for tensor in after], kept
            same = _same((found, [array[own] for array in truth]), pairs, here[own], int(lengths.max()))
            if same is None:
                return None
            compared += same
        return compared

    return _always(compare)


def _chunks(
    generator: np.random.Generator, draw: int, specs: StepSpecs, count: int, static: Sequence[bool]
) -> tuple[list[list[Array]], list[Array]]:
    """The rows of so many chunks that follow each other, and the states before the first."""
    rows, states = _drawn(generator, specs, draw)
    chunks, fixed = [rows], static or [False] * len(rows)
    for _ in range(count - 1):
        others = _drawn(generator, specs, draw)[0]
        chunks.append([one if kept else new for one, new, kept in zip(rows, others, fixed, strict=True)])
    return chunks, states


def _by_chunk(
    full: FullStep, chunks: list[list[Array]], reset: Bools, lengths: Int32s, states: Sequence[ArrayOrTensor]
) -> tuple[list[Array], list[Array]]:
    """Chunks that follow each other, each taken by the full step: scores (slot, step, value), and the states.

    It goes as far as there are rows.
    """
    scores = []
    for number, rows in enumerate(chunks):
        chunk = rows[0].shape[1]
        left = np.clip(lengths - number * chunk, 0, chunk).astype(np.int32)
        if number and not left.any():
            break
        found, states = full(rows, reset if number == 0 else np.zeros_like(reset), left, states)
        scores.append([tensor.numpy() for tensor in found])
    return [np.concatenate(arrays, axis=1) for arrays in zip(*scores, strict=True)], [np.asarray(s) for s in states]


def group_has_same_bits(group: Group, full: FullStep, specs: StepSpecs, full_specs: StepSpecs) -> bool:
    """Whether a group gives the bits of its steps, each taken by the full step, states that are put in included.

    Once it has all its steps, later two: more of them are the same code again.
    """
    slots, steps = known_shape(full_specs[2])[0], known_shape(specs[0][0])[1]

    def compare(generator: np.random.Generator, draw: int) -> int | None:
        count = group.size[0] if draw == 0 else min(2, group.size[0])
        drawn = [_drawn(generator, full_specs, draw) for _ in range(count)]
        reset, lengths = _turns(generator, (count * slots,), steps)
        restored = (generator.random(lengths.shape) < 0.25) & (lengths > 0)
        reset &= ~restored
        rows = [np.concatenate(arrays)[:, :steps] for arrays in zip(*(rows for rows, _ in drawn), strict=True)]
        initial = [np.concatenate(arrays)[restored] for arrays in zip(*(states for _, states in drawn), strict=True)]
        before: Sequence[ArrayOrTensor] = list(drawn[0][1])
        found, kept, last = group(rows, reset, lengths, before, [(np.flatnonzero(restored), initial)])
        compared = 0
        for number, (full_rows, put_in) in enumerate(drawn):
            own = slice(number * slots, (number + 1) * slots)
            begun = [_where(restored[own], new, np.asarray(old)) for new, old in zip(put_in, before, strict=True)]
            truth, before = full(full_rows, reset[own], lengths[own], begun)
            states = [tensor.numpy()[own] for tensor in kept], [np.asarray(tensor) for tensor in before]
            same = _same(([array[own] for array in found], truth), states, lengths[own], steps)
            if same is None:
                return None
            compared += same
        ends = zip(last, before, strict=True)
        return compared if all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in ends) else None

    return _always(compare)


def _always(compare: Callable[[np.random.Generator, int], int | None]) -> bool:
    """Whether draws with enough numbers are all the same; `compare` counts those of one, None where some differ."""
    generator = np.random.default_rng(0)
    compared = draw = 0
    while draw < len(_MAGNITUDES) or compared < _COMPARED_MIN:
        same = compare(generator, draw)
        if same is None:
            return False
        compared += same
        draw += 1
    return True


def _same(scores: ScorePair, states: tuple[list[Array], list[Array]], lengths: Int32s, steps: int) -> int | None:
    """How many numbers of two outcomes of a step are the same, all of them, idle slots left out; None where not all."""
    found = list(_valid_pairs(scores, lengths, steps))
    after = list(zip(*states, strict=True))  # of all slots, those that had no row too
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in [*found, *after]):
        return None
    busy = int(np.count_nonzero(lengths))
    return sum(int(a.size) for a, _ in found) + sum(busy * int(a[0].size) for a, _ in after)


def _valid_pairs(scores: ScorePair, lengths: Int32s, steps: int) -> Iterator[tuple[Array, Array]]:
    valid = np.arange(steps) < lengths[:, None]
    for one, other in zip(*scores, strict=True):
        yield np.asarray(one)[:, :steps][valid], np.asarray(other)[: len(lengths), :steps][valid]


def _drawn(generator: np.random.Generator, specs: StepSpecs, draw: int) -> tuple[list[Array], list[Array]]:
    """Rows and states of one step."""
    magnitude = _MAGNITUDES[draw % len(_MAGNITUDES)]
    rows = [_random(generator, spec, magnitude) for spec in specs[0]]
    return rows, [_random(generator, spec, magnitude) for spec in specs[3]]


def _turns(generator: np.random.Generator, shape: tuple[int, ...], steps: int) -> tuple[Bools, Int32s]:
    """Resets and lengths, of which some are whole."""
    lengths = generator.integers(0, steps + 1, shape, np.int32)
    lengths[generator.random(lengths.shape) < 0.25] = steps
    return (generator.random(lengths.shape) < 0.25) & (lengths > 0), lengths


def _where(flags: Bools, new: Array, old: Array) -> Array:
    return np.where(flags.reshape(-1, *([1] * (new.ndim - 1))), new, old)


def _random(generator: np.random.Generator, spec: Spec, magnitude: float) -> Array:
    shape, dtype = known_shape(spec), spec.dtype.as_numpy_dtype
    if spec.dtype.is_floating:
        return np.asarray(generator.standard_normal(shape, np.float32) * np.float32(magnitude), dtype)
    return np.zeros(shape, dtype)  # a code that every model knows
