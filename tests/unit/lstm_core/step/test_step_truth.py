"""Every accepted model, packed and stepped on few slots, against each entity alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from tests.harness.stepping import score_packed
from tests.harness.truth import LENGTHS, arrays_of, assert_same_scores, by_hand, expected, table_for
from tests.models.keras_models import FIT, contract_of, save


@pytest.mark.parametrize("name", sorted(FIT))
def test_packed_scores_are_those_of_each_entity_alone(name: str) -> None:
    blob = save(FIT[name]())
    contract = contract_of(blob, name)
    table = table_for(contract)
    shape = StepShape(slots=3, chunk=contract.chunk or 7, jit=False)
    found = score_packed(StatefulReplica(blob, shape), arrays_of(table, contract), LENGTHS)
    assert_same_scores(found, expected(blob, table, contract), contract.tolerance)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_before", "simple_rnn"])
def test_packed_scores_are_those_of_the_published_equations(name: str) -> None:
    model = FIT[name]()
    contract = contract_of(save(model), name)
    [rows] = arrays_of(table_for(contract), contract)
    found = score_packed(StatefulReplica(model, StepShape(slots=3, chunk=7)), [rows], LENGTHS)
    borders = np.cumsum(LENGTHS)[:-1]
    alone = [by_hand(name, model.get_weights(), series) for series in np.split(rows, borders)]
    assert_same_scores(found, np.concatenate(alone))


@pytest.mark.parametrize("name", sorted(FIT))
def test_the_state_tensors_are_those_that_the_contract_names(name: str) -> None:
    blob = save(FIT[name]())
    contract = contract_of(blob, name)
    replica = StatefulReplica(blob, StepShape(slots=2, chunk=contract.chunk or 4, jit=False))
    found: dict[str, list[tuple[int, ...]]] = {}
    for state in replica.step_model.states:
        found.setdefault(state.layer, []).append(state.shape)
    assert found == {layer.name: list(layer.state_shapes) for layer in contract.recurrent}


def _lstm_replica(slots: int = 4, chunk: int = 5) -> tuple[StatefulReplica, Any]:
    replica = StatefulReplica(FIT["lstm"](), StepShape(slots, chunk))
    rows = np.random.default_rng(0).normal(size=(slots, chunk, 3)).astype(np.float32)
    return replica, rows


def test_a_reset_zeroes_its_slot_and_no_other() -> None:
    replica, rows = _lstm_replica()
    full, none = np.full(4, 5, np.int32), np.zeros(4, np.bool_)
    first = replica.step([rows], none, full)[0].numpy()
    going_on = replica.step([rows], np.array([False, True, False, False]), full)[0].numpy()
    np.testing.assert_array_equal(going_on[1], first[1])
    for slot in (0, 2, 3):
        assert not np.array_equal(going_on[slot], first[slot])


def test_a_reset_drops_a_nan_that_was_left_in_the_slot() -> None:
    replica, rows = _lstm_replica()
    full = np.full(4, 5, np.int32)
    poisoned = rows.copy()
    poisoned[2] = np.nan
    replica.step([poisoned], np.zeros(4, np.bool_), full)
    clean = replica.step([rows], np.ones(4, np.bool_), full)[0].numpy()
    assert np.isfinite(clean).all()


def test_an_idle_slot_keeps_its_state_and_harms_nobody() -> None:
    replica, rows = _lstm_replica()
    none = np.zeros(4, np.bool_)
    replica.step([rows], none, np.full(4, 5, np.int32))
    before = replica.slot_state(np.arange(4))
    garbage = rows.copy()
    garbage[3] = np.inf
    scores = replica.step([garbage], none, np.array([5, 5, 5, 0], np.int32))[0].numpy()
    after = replica.slot_state(np.arange(4))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[3], new[3])
        assert not np.array_equal(old[0], new[0])
    assert np.isfinite(scores[:3]).all()


def test_the_state_after_a_short_chunk_is_that_after_its_last_valid_row() -> None:
    replica, rows = _lstm_replica()
    none = np.zeros(4, np.bool_)
    replica.step([rows], none, np.array([5, 2, 1, 3], np.int32))
    found = replica.slot_state(np.arange(4))
    for slot, length in enumerate((5, 2, 1, 3)):
        one = StatefulReplica(FIT["lstm"](), StepShape(4, length))
        one.step([rows[:, :length]], none, np.full(4, length, np.int32))
        for kept, alone in zip(found, one.slot_state(np.arange(4)), strict=True):
            np.testing.assert_allclose(kept[slot], alone[slot], atol=1e-6)


def test_a_state_that_is_read_and_set_again_goes_on_to_the_bit() -> None:
    replica, rows = _lstm_replica()
    none, full = np.zeros(4, np.bool_), np.full(4, 5, np.int32)
    replica.step([rows], none, full)
    kept = replica.slot_state(np.array([1, 3]))
    expected_next = replica.step([rows], none, full)[0].numpy()
    other, _ = _lstm_replica()
    other.set_slot_state(np.array([0, 2]), kept)
    moved = rows[[1, 0, 3, 0]]
    found = other.step([moved], none, full)[0].numpy()
    np.testing.assert_array_equal(found[0], expected_next[1])
    np.testing.assert_array_equal(found[2], expected_next[3])


def test_a_reference_to_the_states_is_a_snapshot() -> None:
    replica, rows = _lstm_replica()
    none, full = np.zeros(4, np.bool_), np.full(4, 5, np.int32)
    replica.step([rows], none, full)
    snapshot = [tensor.numpy().copy() for tensor in replica.states]
    held = replica.states
    replica.step([rows], none, full)
    for before, reference in zip(snapshot, held, strict=True):
        np.testing.assert_array_equal(before, reference.numpy())


@pytest.mark.parametrize("slot", [0, 3, 7])
def test_not_a_bit_of_a_row_depends_on_its_slot_or_its_neighbours(slot: int) -> None:
    generator = np.random.default_rng(1)
    replica = StatefulReplica(FIT["lstm"](), StepShape(8, 5))
    none, full = np.zeros(8, np.bool_), np.full(8, 5, np.int32)
    series = generator.normal(size=(5, 3)).astype(np.float32)

    def scored(at: int, seed: int) -> Any:
        replica.reset_all()
        rows = np.random.default_rng(seed).normal(size=(8, 5, 3)).astype(np.float32)
        rows[at] = series
        return replica.step([rows], none, full)[0].numpy()[at]

    np.testing.assert_array_equal(scored(slot, 2), scored(5, 3))


def test_rows_of_another_batch_size_are_refused_by_the_step() -> None:
    replica, rows = _lstm_replica()
    with pytest.raises((TypeError, ValueError)):
        replica.step([rows[:3]], np.zeros(3, np.bool_), np.full(3, 5, np.int32))
