"""Packing, by example."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_core.array_types import Ints
from lstm_core.packing.packer import IDLE, Packer, Step, predict


def steps_of(lengths: list[int], *, slots: int, chunk: int) -> list[Step]:
    packer = Packer(slots=slots, chunk=chunk)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    packer.admit(starts, np.array(lengths, np.int64))
    steps = []
    while (step := packer.next_step()) is not None:
        steps.append(step)
    return steps


def test_the_longest_series_takes_the_lowest_slot_first() -> None:
    [first, *_] = steps_of([2, 9, 5], slots=3, chunk=4)
    assert first.start.tolist() == [2, 11, 0]


def test_a_slot_that_ends_takes_the_next_series_at_the_next_step() -> None:
    steps = steps_of([8, 4, 4, 4], slots=2, chunk=4)
    assert [step.start.tolist() for step in steps] == [[0, 8], [4, 12], [16, IDLE]]
    assert [step.reset.tolist() for step in steps] == [[True, True], [False, True], [True, False]]
    assert [step.ends.tolist() for step in steps] == [[False, True], [True, True], [True, False]]


def test_a_series_of_one_chunk_and_a_row_takes_two_steps_and_one_reset() -> None:
    steps = steps_of([5], slots=1, chunk=4)
    assert [(step.lengths.tolist(), step.reset.tolist()) for step in steps] == [([4], [True]), ([1], [False])]


def test_a_series_of_exactly_one_chunk_takes_one_step() -> None:
    [step] = steps_of([4], slots=1, chunk=4)
    assert step.ends.tolist() == [True]


def test_padding_points_at_a_row_that_exists() -> None:
    [step] = steps_of([3], slots=2, chunk=5)
    assert step.gather(5).tolist() == [[0, 1, 2, 2, 2], [0, 0, 0, 0, 0]]
    assert step.valid(5).tolist() == [[True] * 3 + [False] * 2, [False] * 5]


def test_nothing_to_score_is_no_step() -> None:
    assert Packer(slots=2, chunk=4).next_step() is None


def test_a_series_without_rows_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Packer(slots=2, chunk=4).admit(np.array([0]), np.array([0]))


def test_earlier_admissions_go_first() -> None:
    packer = Packer(slots=1, chunk=4)
    packer.admit(np.array([0]), np.array([1]))
    packer.admit(np.array([1]), np.array([100]))
    first = packer.next_step()
    assert first is not None
    assert (first.start.tolist(), first.admission.tolist()) == ([0], [0])


def test_an_admission_waits_until_the_last_of_its_series_has_a_slot() -> None:
    packer = Packer(slots=2, chunk=4)
    for first, count in ((0, 3), (30, 1), (40, 1)):
        packer.admit(np.arange(first, first + 10 * count, 10), np.full(count, 4))
    waiting = [(packer.waiting_admissions, packer.waiting_count)]
    while packer.next_step() is not None:
        waiting.append((packer.waiting_admissions, packer.waiting_count))
    assert waiting == [(3, 5), (3, 3), (1, 1), (0, 0)]


def test_a_series_in_pieces_keeps_its_slot_and_is_reset_once() -> None:
    packer = Packer(slots=2, chunk=4)
    packer.admit_part(7, 0, 8, final=False)
    packer.admit_part(7, 100, 4, final=False)
    packer.admit_part(7, 200, 3, final=True)
    packer.admit(np.array([50]), np.array([30]))
    slots, resets = [], 0
    for _ in range(4):
        step = packer.next_step()
        assert step is not None
        slots.append(int(step.start[0]))
        resets += int(step.reset[0])
    assert slots == [0, 4, 100, 200]
    assert resets == 1


def test_a_slot_held_by_an_unfinished_series_is_given_to_no_other() -> None:
    packer = Packer(slots=1, chunk=4)
    packer.admit_part(7, 0, 4, final=False)
    packer.admit(np.array([50]), np.array([4]))
    assert packer.next_step() is not None
    assert packer.next_step() is None
    assert packer.starving.tolist() == [7]
    packer.admit_part(7, 10, 1, final=True)
    order = [packer.next_step(), packer.next_step()]
    assert [step.start.tolist() for step in order if step is not None] == [[10], [50]]


def test_a_final_piece_without_rows_frees_the_slot() -> None:
    packer = Packer(slots=1, chunk=4)
    packer.admit_part(7, 0, 4, final=False)
    packer.admit(np.array([50]), np.array([4]))
    packer.next_step()
    packer.admit_part(7, 10, 0, final=True)
    step = packer.next_step()
    assert step is not None
    assert (step.start.tolist(), step.reset.tolist()) == ([50], [True])


def test_a_piece_that_does_not_fill_whole_chunks_is_a_bug_unless_final() -> None:
    with pytest.raises(AssertionError):
        Packer(slots=1, chunk=4).admit_part(7, 0, 5, final=False)


def lognormal_lengths() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    generator = np.random.default_rng(0)
    drawn = generator.lognormal(np.log(1000) - 0.5, 1.0, 4000)
    return np.maximum(1, drawn).astype(np.int64)


def test_lognormal_lengths_leave_at_most_three_percent_of_the_slots_empty() -> None:
    steps = steps_of(lognormal_lengths().tolist(), slots=256, chunk=64)
    busy = np.array([step.busy_count for step in steps])
    last_full = int(np.flatnonzero(busy == 256)[-1])
    assert busy[: last_full + 1].mean() / 256 >= 0.97


def test_the_prediction_is_the_number_of_steps_that_packing_takes() -> None:
    lengths = lognormal_lengths()
    prediction = predict(lengths, slots=256, chunk=64)
    steps = steps_of(lengths.tolist(), slots=256, chunk=64)
    assert prediction.steps == len(steps)
    assert prediction.lower_bound_steps <= prediction.steps
    assert prediction.occupancy == pytest.approx(np.mean([step.busy_count for step in steps]) / 256)


def test_a_prediction_of_nothing_is_nothing() -> None:
    assert predict(np.array([], np.int64), slots=4, chunk=4).steps == 0


def test_twice_the_replicas_are_one_pool_of_twice_the_slots() -> None:
    lengths = lognormal_lengths()
    assert predict(lengths, slots=32, chunk=64, replicas=2) == predict(lengths, slots=64, chunk=64)


def _whole_reach(left: Ints, chunks: int) -> int:
    return chunks


def test_a_step_takes_the_chunks_that_nearly_all_series_still_have() -> None:
    packer = Packer(slots=32, chunk=4)
    packer.admit(np.arange(32) * 100, np.array([4, 8, 8, *[20] * 29]))
    packer.admit(np.array([5_000]), np.array([4]))  # waits for a slot
    step = packer.next_step(_whole_reach)
    assert step is not None
    # Two of 32 slots may wait for the others: longest first, so those of one and of two chunks come last.
    assert step.lengths.tolist() == [*[8] * 31, 4]
    assert step.ends.tolist() == [*[False] * 29, True, True, True]


def test_where_nobody_waits_for_a_slot_a_step_takes_all_that_its_reach_allows() -> None:
    packer, asked = Packer(slots=8, chunk=4), []

    def reach(left: Ints, chunks: int) -> int:
        asked.append((left.tolist(), chunks))
        return 3

    packer.admit(np.array([0, 100]), np.array([18, 2]))
    steps = [packer.next_step(reach, more=False), packer.next_step(reach, more=False)]
    assert [step.lengths[:2].tolist() for step in steps if step] == [[12, 2], [6, 0]]
    assert asked == [([5, 1], 5), ([2], 2)]


def test_a_step_has_one_chunk_where_a_series_that_waits_could_take_a_slot() -> None:
    packer = Packer(slots=2, chunk=4)
    packer.admit(np.array([0, 100, 200]), np.array([40, 3, 3]))
    step = packer.next_step(_whole_reach)
    assert step is not None
    assert step.lengths.tolist() == [4, 3]
