"""Who sits in which slot, and what a snapshot takes from there."""

from __future__ import annotations

import numpy as np

from cluster.runtime.rows.placed_blocks import Seats
from lstm_core.packing.packer import Packer

STATES = [np.zeros((2, 1), np.float32)]


def test_a_busy_slot_stands_behind_its_last_row_and_one_that_ended_is_empty() -> None:
    packer, seats = Packer(slots=2, chunk=4), Seats(2)
    packer.admit(np.array([10, 30]), np.array([6, 3]))
    step = packer.next_step()
    assert step is not None
    seats.move(step, STATES)
    assert seats.next_row.tolist() == [14, -1]


def test_a_slot_that_waits_for_the_next_piece_keeps_its_seat() -> None:
    packer, seats = Packer(slots=2, chunk=4), Seats(2)
    packer.admit_part(7, 0, 4, final=False)
    packer.admit(np.array([10]), np.array([8]))
    for _ in range(2):
        step = packer.next_step()
        assert step is not None
        seats.move(step, STATES)
    assert step.held.tolist() == [True, False]
    assert seats.next_row.tolist() == [4, -1]


def test_a_slot_whose_entity_ended_without_a_step_is_empty() -> None:
    packer, seats = Packer(slots=2, chunk=4), Seats(2)
    packer.admit_part(7, 0, 4, final=False)
    packer.admit(np.array([10]), np.array([8]))
    first = packer.next_step()
    assert first is not None
    seats.move(first, STATES)
    packer.admit_part(7, 4, 0, final=True)
    second = packer.next_step()
    assert second is not None
    seats.move(second, STATES)
    assert second.held.tolist() == [False, False]
    assert seats.next_row.tolist() == [-1, -1]
