"""Packing, for any series: every row once, in order, in one slot, reset once; no slot empty while a series waits."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from lstm_core.packing.packer import Packer, Step, predict

CHUNKS = st.sampled_from([1, 2, 7, 64])
SLOTS = st.sampled_from([1, 2, 3, 64])
MOST = st.sampled_from([1, 2, 4])  # chunks of a step


@st.composite
def series_lengths(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """A chunk, and admissions of series lengths around its multiples."""
    chunk = draw(CHUNKS)
    near = st.sampled_from([1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 1])
    length = st.one_of(near, st.integers(1, 5 * chunk))
    return chunk, draw(st.lists(st.lists(length, max_size=12), min_size=1, max_size=4))


def packed(chunk: int, admissions: list[list[int]], slots: int, most: int = 1) -> list[Step]:
    """Steps when one admission comes after each step, as shards do; with `most` several chunks may be in one."""
    packer, steps, row = Packer(slots=slots, chunk=chunk), [], 0
    reach = None if most == 1 else lambda _, chunks: min(chunks, most)
    for lengths in admissions:
        starts = row + np.concatenate([[0], np.cumsum(lengths)])
        packer.admit(starts[:-1].astype(np.int64), np.array(lengths, np.int64))
        row = int(starts[-1])
        if (step := packer.next_step(reach)) is not None:
            steps.append(step)
    while (step := packer.next_step(reach, more=False)) is not None:
        steps.append(step)
    return steps


@given(series_lengths(), SLOTS, MOST)
@example((7, [[1, 7, 8]]), 1, 1)
def test_every_row_is_stepped_exactly_once(case: tuple[int, list[list[int]]], slots: int, most: int) -> None:
    chunk, admissions = case
    steps, length = packed(chunk, admissions, slots, most), most * chunk
    rows = [step.gather(length)[step.valid(length)] for step in steps]
    total = sum(map(sum, admissions))
    found = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    np.testing.assert_array_equal(np.sort(found), np.arange(total))


@given(series_lengths(), SLOTS, MOST)
def test_a_series_stays_in_its_slot_in_order_and_is_reset_at_its_first_row_only(
    case: tuple[int, list[list[int]]], slots: int, most: int
) -> None:
    chunk, admissions = case
    flat = [length for lengths in admissions for length in lengths]
    starts = np.concatenate([[0], np.cumsum(flat)]).astype(int)
    owner = np.repeat(np.arange(len(flat)), flat)
    slot_of: dict[int, int] = {}
    next_row = dict(enumerate(starts[:-1].tolist()))
    for step in packed(chunk, admissions, slots, most):
        for slot in np.flatnonzero(step.lengths):
            series = int(owner[step.start[slot]])
            assert slot_of.setdefault(series, int(slot)) == slot
            assert step.start[slot] == next_row[series]
            assert bool(step.reset[slot]) == (step.start[slot] == starts[series])
            next_row[series] += int(step.lengths[slot])
            assert bool(step.ends[slot]) == (next_row[series] == starts[series + 1])


@given(series_lengths(), SLOTS)
def test_a_chunk_is_cut_only_at_the_end_of_its_series(case: tuple[int, list[list[int]]], slots: int) -> None:
    chunk, admissions = case
    for step in packed(chunk, admissions, slots):
        short = (step.lengths > 0) & (step.lengths < chunk)
        assert (step.ends | ~short).all()


@given(series_lengths(), SLOTS)
def test_no_slot_is_empty_while_a_series_waits(case: tuple[int, list[list[int]]], slots: int) -> None:
    chunk, admissions = case
    flat = [length for lengths in admissions for length in lengths]
    unstarted = len(flat)
    steps = packed(chunk, [flat], slots)
    for step in steps:
        unstarted -= int(step.reset.sum())
        assert step.busy_count == slots or unstarted == 0
    assert len(steps) == predict(np.array(flat, np.int64), slots=slots, chunk=chunk).steps


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), CHUNKS, SLOTS, st.integers(1, 3))
def test_a_series_in_pieces_is_packed_as_if_whole(
    lengths: list[int], chunk: int, slots: int, whole_chunks: int
) -> None:
    """Parts lie where they would in one range, so the steps must touch the same rows in the same order."""
    piece = whole_chunks * chunk
    packer = Packer(slots=slots, chunk=chunk)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    cut = {
        series: [(at, min(at + piece, stop)) for at in range(start, stop, piece)]
        for series, (start, stop) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    }
    for series, pieces in cut.items():
        for at, stop in pieces:
            packer.admit_part(series, at, stop - at, final=stop == starts[series + 1])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    rows: dict[int, list[int]] = {series: [] for series in cut}
    resets = 0
    while (step := packer.next_step()) is not None:
        resets += int(step.reset.sum())
        for row in step.gather(chunk)[step.valid(chunk)].tolist():
            rows[int(owner[row])].append(row)
    assert resets == len(lengths)
    for series, found in rows.items():
        assert found == list(range(starts[series], starts[series + 1]))
