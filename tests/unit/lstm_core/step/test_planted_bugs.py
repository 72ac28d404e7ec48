"""Each bug that stateful scoring dies of silently, planted on purpose: the truth test must see every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lstm_core.contract.model_contract import read_contract
from lstm_core.packing.packer import Step
from lstm_core.score_gaps import score_gaps
from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from tests.harness.stepping import changed, score_packed
from tests.harness.truth import LENGTHS, TOLERANCE, arrays_of, expected, table_for
from tests.models.keras_models import FIT, save

SLOTS, CHUNK = 3, 7

Bug = Callable[[Step], Step]


@dataclass
class Bench:
    """A replica with the truth for its series."""

    replica: StatefulReplica
    rows: list[Any]
    truth: Any
    bugs_met: list[str] = field(default_factory=list)

    def agrees(self, bug: Bug) -> bool:
        """True when scores with the bug pass the truth test; a row that was never scored does not."""
        self.replica.reset_all()
        found = score_packed(self.replica, self.rows, LENGTHS, bug)
        return bool(score_gaps(found, self.truth).max() <= TOLERANCE)


@pytest.fixture(scope="module")
def bench() -> Bench:
    blob = save(FIT["lstm"]())
    contract = read_contract(blob, name="lstm")
    table = table_for(contract)
    replica = StatefulReplica(blob, StepShape(SLOTS, CHUNK))
    return Bench(replica, arrays_of(table, contract), expected(blob, table, contract))


def test_without_a_bug_the_truth_test_passes(bench: Bench) -> None:
    assert bench.agrees(lambda step: step)


def test_a_missed_reset_is_caught(bench: Bench) -> None:
    assert not bench.agrees(lambda step: changed(step, reset=np.zeros(SLOTS, np.bool_)))


def test_a_reset_of_the_wrong_slot_is_caught(bench: Bench) -> None:
    assert not bench.agrees(lambda step: changed(step, reset=np.roll(step.reset, 1)))


def test_a_reset_of_all_slots_at_once_is_caught(bench: Bench) -> None:
    assert not bench.agrees(lambda step: changed(step, reset=np.full(SLOTS, step.reset.any())))


def test_a_chunk_out_of_order_is_caught(bench: Bench) -> None:
    longest = int(np.argmax(LENGTHS))
    first = int(sum(LENGTHS[:longest]))

    def swap(step: Step) -> Step:
        # The longest series' second and third chunk change places.
        second, third = step.start == first + CHUNK, step.start == first + 2 * CHUNK
        return changed(step, start=step.start + CHUNK * second - CHUNK * third)

    assert not bench.agrees(swap)


def test_a_lost_last_partial_chunk_is_caught(bench: Bench) -> None:
    assert not bench.agrees(lambda step: changed(step, lengths=np.where(step.lengths < CHUNK, 0, step.lengths)))


def test_a_last_row_that_is_cut_off_is_caught(bench: Bench) -> None:
    assert not bench.agrees(lambda step: changed(step, lengths=np.where(step.ends, step.lengths - 1, step.lengths)))


def test_an_entity_in_two_slots_is_caught(bench: Bench) -> None:
    longest = int(np.argmax(LENGTHS))
    first, rows = int(sum(LENGTHS[:longest])), LENGTHS[longest]

    def second_half_elsewhere(step: Step) -> Step:
        # The series' later chunks are stepped in the next slot, whose state is another entity's.
        later = (step.start >= first + CHUNK) & (step.start < first + rows)
        if not later.any() or later[-1]:
            return step
        slot = int(np.flatnonzero(later)[0])
        order = np.arange(SLOTS)
        order[[slot, slot + 1]] = order[[slot + 1, slot]]
        return changed(step, start=step.start[order], lengths=step.lengths[order], reset=step.reset[order])

    assert not bench.agrees(second_half_elsewhere)


def test_a_padded_row_that_is_written_is_caught(bench: Bench) -> None:
    # Padding counts as valid: its score lands on the first rows of the next series, or again on the last row.
    def padding_is_valid(step: Step) -> Step:
        return changed(step, lengths=np.where(step.lengths > 0, CHUNK, 0).astype(np.int32))

    total = sum(LENGTHS)
    with pytest.raises(IndexError, match=str(total)):
        bench.agrees(padding_is_valid)
