"""The looped step: the numbers of Keras's own loop, for every model; and sizes that keep every bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lstm_core.packing.packer import busy_first
from lstm_core.step.rebatch import StepModel, build_step_model
from lstm_core.step.same_bits import has_same_bits
from lstm_core.step.stateful_replica import StatefulReplica, StepShape, make_step
from lstm_core.step.timestep_loop import can_loop, make_loop
from tests.harness.stepping import score_packed
from tests.harness.truth import LENGTHS, arrays_of, assert_same_scores, expected, table_for
from tests.models.keras_models import FIT, contract_of, recurrent_model, save

WIDTH, STEPS = 5, 4
WHOLE = {"static_numbers_and_codes_repeated"}  # RepeatVector names the length of the chunk


def _drawn(step_model: StepModel) -> tuple[Any, ...]:
    """Rows, resets, lengths (an idle slot among them) and states of one step."""
    generator = np.random.default_rng(1)
    shapes = [((WIDTH, STEPS, *shape), tf.as_dtype(dtype)) for shape, dtype in step_model.row_shapes()]
    rows: list[Any] = []
    for shape, dtype in shapes:
        drawn = generator.normal(size=shape) if dtype.is_floating else generator.integers(0, 5, shape)
        rows.append(tf.constant(drawn, dtype))
    rows = [tf.repeat(row[:, :1], STEPS, axis=1) if f else row for row, f in zip(rows, step_model.static, strict=True)]
    states = [tf.constant(generator.normal(size=(WIDTH, *s.shape)), tf.float32) for s in step_model.states]
    return rows, tf.constant([True, False, False, True, False]), tf.constant([STEPS, 0, 2, 1, 3]), states


@pytest.mark.parametrize("name", sorted(FIT))
def test_a_loop_gives_what_the_layers_give_on_the_whole_chunk(name: str) -> None:
    step_model = build_step_model(FIT[name]())
    assert can_loop(step_model) == (name not in WHOLE and not name.startswith("custom_"))
    if not can_loop(step_model):
        return
    rows, reset, lengths, states = _drawn(step_model)
    truth, after_truth = make_step(step_model, STEPS)(rows, reset, lengths, states)
    found, after = make_loop(step_model, width=WIDTH, steps=STEPS)(rows, reset, lengths, states)
    valid = np.arange(STEPS) < lengths.numpy()[:, None]
    for one, other in zip(found, truth, strict=True):
        assert_same_scores(one.numpy()[valid], other.numpy()[valid], 2e-6)
    for one, other in zip(after, after_truth, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-6, rtol=0)


def test_compiled_packed_scores_are_those_of_each_entity_alone() -> None:
    blob = save(FIT["stacked"]())
    contract = contract_of(blob, "stacked")
    table = table_for(contract)
    replica = StatefulReplica(blob, StepShape(slots=16, chunk=8))
    assert replica.loops
    assert replica.kernel.startswith("loop, XLA")
    found = score_packed(replica, arrays_of(table, contract), LENGTHS)
    assert_same_scores(found, expected(blob, table, contract), contract.tolerance)


@pytest.fixture(scope="module")
def replica() -> StatefulReplica:
    """A replica whose sizes pass: of 64 units, as in the benchmark."""
    made = StatefulReplica(recurrent_model(layers.LSTM(64, return_sequences=True)), StepShape(slots=64, chunk=32))
    for width, steps in ((8, 32), (9, 3), (8, 1000)):
        made.prepare(width, steps)
    made.sizes.prepare((64, 8))
    return made


def test_sizes_are_taken_that_keep_the_bits(replica: StatefulReplica) -> None:
    assert replica.sizes.compiled == [(8, 32), (8, 128), (16, 8), (64, 8)]


@pytest.mark.parametrize("size", [(8, 32), (16, 8), (64, 8)])
def test_a_smaller_step_has_the_bits_of_the_full_one(replica: StatefulReplica, size: tuple[int, int]) -> None:
    width, steps = size
    generator = np.random.default_rng(2)
    lengths = np.where(generator.permutation(64) < width, generator.integers(0, steps + 1, 64), 0).astype(np.int32)
    lengths[np.flatnonzero(lengths)[-1]] = steps
    outcomes = []
    for rows_width, rows_steps in (replica.sizes.whole, replica.fit(lengths)):
        replica.reset_all()
        series, scores = np.random.default_rng(3), []
        for _ in range(3):  # what stands in a slot after a step goes into the next one
            rows = series.standard_normal((64, 32, 3), np.float32)
            slots = busy_first(lengths, rows_width)
            found = replica.step([rows[slots, :rows_steps]], np.zeros(64, np.bool_), lengths)[0].numpy()
            scores.append(by_slot(found, slots)[:, :steps][np.arange(steps) < lengths[:, None]])
        outcomes.append([*scores, *(state.numpy() for state in replica.states)])
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(one, other)


def by_slot(scores: Any, slots: Any) -> Any:
    """Scores of some slots (slot, step, value) among those of all 64."""
    whole = np.zeros((64, *scores.shape[1:]), scores.dtype)
    whole[slots] = scores
    return whole


@pytest.mark.parametrize("busy", [8, 20])  # one call of the size, and three, a block of slots each
@pytest.mark.parametrize("chunks", [2, 4])
def test_a_step_of_several_chunks_has_the_bits_of_one_after_the_other(
    replica: StatefulReplica, busy: int, chunks: int
) -> None:
    generator = np.random.default_rng(6)
    rows = generator.standard_normal((64, 128, 3), np.float32)
    lengths = np.where(generator.permutation(64) < busy, generator.integers(1, chunks * 32 + 1, 64), 0)
    lengths = lengths.astype(np.int32)
    lengths[np.flatnonzero(lengths)[0]] = chunks * 32
    reset = (generator.random(64) < 0.5) & (lengths > 0)
    before = [generator.standard_normal((64, 64), np.float32) for _ in range(2)]
    outcomes = []
    for width, length in (replica.sizes.whole, (-(-busy // 8) * 8, 128)):
        replica.set_slot_state(np.arange(64), before)
        found = []
        for begin in range(0, 128, length):
            left = np.clip(lengths - begin, 0, length).astype(np.int32)
            slots = busy_first(left, width)
            scores = replica.step([rows[slots, begin : begin + length]], reset & (begin == 0), left)[0].numpy()
            found.append(by_slot(scores, slots))
        valid = np.arange(128) < lengths[:, None]
        outcomes.append([np.concatenate(found, axis=1)[valid], *(state.numpy() for state in replica.states)])
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_replica_takes_as_many_chunks_in_a_call_as_cost_less(replica: StatefulReplica) -> None:
    assert [replica.reach(np.full(8, 100), chunks) for chunks in (1, 3, 100)] == [1, 3, 4]
    assert replica.reach(np.full(64, 100), 100) == 1


def test_what_lies_outside_a_smaller_step_keeps_its_state(replica: StatefulReplica) -> None:
    states = [np.random.default_rng(4).standard_normal((64, 64), np.float32) for _ in range(2)]
    replica.set_slot_state(np.arange(64), states)
    lengths = np.where(np.arange(64) < 3, 5, 0).astype(np.int32)
    replica.step([np.ones((8, 32, 3), np.float32)], np.ones(64, np.bool_), lengths)
    for before, after in zip(states, replica.states, strict=True):
        np.testing.assert_array_equal(after.numpy()[3:], np.where(np.arange(64) < 8, 0, 1)[3:, None] * before[3:])


def test_a_size_with_other_bits_is_noticed(replica: StatefulReplica) -> None:
    specs = replica.signature((8, 32))
    step = replica.sizes.get((8, 32))

    def spoilt(*arguments: Any) -> Any:
        scores, states = step(*arguments)
        return [tf.math.nextafter(scores[0], np.float32(9))], states

    assert has_same_bits(step, replica.full_step, specs, replica.signature())
    assert not has_same_bits(spoilt, replica.full_step, specs, replica.signature())


def test_a_size_is_noticed_of_which_few_numbers_have_other_bits() -> None:
    small = StatefulReplica(FIT["lstm"](), StepShape(slots=16, chunk=1))
    small.prepare(8, 1)
    step, specs = small.sizes.get((8, 1)), small.signature((8, 1))

    def spoilt(*arguments: Any) -> Any:
        scores, states = step(*arguments)
        chosen = tf.bitcast(scores[0], tf.int32) % 100 == 0
        return [tf.where(chosen, tf.math.nextafter(scores[0], np.float32(9)), scores[0])], states

    assert has_same_bits(step, small.full_step, specs, small.signature())
    assert not has_same_bits(spoilt, small.full_step, specs, small.signature())


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("name", ["simple_rnn", "gru", "lstm"])
def test_sizes_that_pass_keep_the_bits_of_rows_on_which_they_were_not_compared(name: str, chunk: int) -> None:
    made = StatefulReplica(FIT[name](), StepShape(slots=64, chunk=chunk))
    for width in (8, 16, 32):
        made.prepare(width, chunk)
    generator = np.random.default_rng(5)
    for width, _ in made.sizes.compiled:
        lengths = np.where(np.arange(64) < width, chunk, 0).astype(np.int32)
        series = generator.standard_normal((200, 64, chunk, 3), np.float32)
        outcomes = []
        for rows_width in (64, width):
            made.reset_all()
            steps = [made.step([rows[:rows_width]], np.zeros(64, np.bool_), lengths)[0] for rows in series]
            outcomes.append([scores.numpy()[:width] for scores in steps])
        np.testing.assert_array_equal(outcomes[0], outcomes[1])


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    """Custom code."""

    def call(self, rows: Any) -> Any:
        return 2 * rows


def test_custom_code_is_not_looped() -> None:
    rows = keras.Input((None, 3))
    hidden = layers.LSTM(4, return_sequences=True)(Twice()(rows))
    assert not can_loop(build_step_model(keras.Model(rows, layers.Dense(1)(hidden))))


def test_without_xla_every_step_is_whole() -> None:
    replica = StatefulReplica(FIT["lstm"](), StepShape(slots=16, chunk=8, jit=False))
    replica.prepare(8, 8)
    assert not replica.loops
    assert replica.kernel.startswith("layers, plain")
    assert replica.fit(np.ones(16, np.int32)) == (16, 8)
