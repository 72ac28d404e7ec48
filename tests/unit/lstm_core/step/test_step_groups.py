"""A group of steps in one call: the bits of its steps one by one, and nothing of it where they are others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from keras import layers

import lstm_core.step.stateful_replica as replicas
from cluster.core.settings import StepSettings
from lstm_core.step.same_bits import group_has_same_bits
from lstm_core.step.stateful_replica import StatefulReplica, StepShape
from lstm_core.step.step_groups import COUNT_MAX, GROUP_CHUNKS, group_count
from tests.harness import inprocess
from tests.harness.inprocess import Job, run, scores
from tests.harness.truth import columns_for
from tests.inputs.series import make_series
from tests.models.keras_models import FIT, contract_of, recurrent_model, save

SLOTS, CHUNK, STEPS = 16, 32, 8


def test_a_group_fills_some_chunks() -> None:
    asked = (100, 64, 48, 40, 8)
    assert [group_count(64, steps) for steps in asked] == [GROUP_CHUNKS, GROUP_CHUNKS, 10, 12, COUNT_MAX]


@pytest.mark.parametrize(("units", "count"), [(8, GROUP_CHUNKS), (64, GROUP_CHUNKS), (128, 3), (512, 1)])
def test_calls_have_as_many_steps_as_make_up_for_them(units: int, count: int) -> None:
    made = StatefulReplica(recurrent_model(layers.LSTM(units, return_sequences=True)), StepShape(256, 64))
    assert made.group == (count, 64)


@pytest.fixture(scope="module", params=[STEPS, CHUNK])
def replica(request: pytest.FixtureRequest) -> StatefulReplica:
    made = StatefulReplica(recurrent_model(layers.LSTM(64, return_sequences=True)), StepShape(SLOTS, CHUNK))
    made.prepare(SLOTS, request.param)
    return made


def _drawn(generator: np.random.Generator, places: int, steps: int) -> tuple[Any, Any, Any, Any]:
    """Rows, resets, lengths and what is put in, of a group; some series go on in the next step."""
    lengths = generator.integers(0, steps + 1, places, np.int32)
    begins = generator.random(len(lengths)) < 0.5
    begun = np.flatnonzero(begins & (lengths > 0))[::2]
    put_in = [generator.standard_normal((len(begun), 64), np.float32) for _ in range(2)]
    reset = begins & (lengths > 0)
    reset[begun] = False
    return generator.standard_normal((len(lengths), steps, 3), np.float32), reset, lengths, [(begun, put_in)]


@pytest.mark.parametrize("puts_in", [True, False])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_group_gives_the_bits_of_its_steps(replica: StatefulReplica, puts_in: bool, missing: int) -> None:
    most, steps = replica.group
    assert most == group_count(CHUNK, steps)
    count = most - missing
    rows, reset, lengths, restores = _drawn(np.random.default_rng(1), count * SLOTS, steps)
    replica.reset_all()
    (found,), kept = replica.step_group([rows], reset, lengths, restores if puts_in else [])
    assert found.shape == (count * SLOTS, steps, 1)
    after = replica.states
    replica.reset_all()
    for number in range(count):
        own = slice(number * SLOTS, (number + 1) * SLOTS)
        if puts_in:
            ((places, states),) = restores
            here = (places >= own.start) & (places < own.stop)
            replica.set_slot_state(places[here] - own.start, [values[here] for values in states])
        whole = np.zeros((SLOTS, CHUNK, 3), np.float32)
        whole[:, :steps] = rows[own]
        (truth,) = replica.step([whole], reset[own], lengths[own])
        valid = np.arange(steps) < lengths[own, None]
        np.testing.assert_array_equal(found[own][valid], truth.numpy()[:, :steps][valid])
        for one, other in zip(kept, replica.states, strict=True):
            np.testing.assert_array_equal(one[own], other.numpy())
    for one, other in zip(after, replica.states, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_reset_of_an_idle_slot_is_done_behind_the_last_row(replica: StatefulReplica) -> None:
    count, steps = replica.group
    replica.set_slot_state(np.arange(SLOTS), [np.ones((SLOTS, 64), np.float32)] * 2)
    lengths, reset = np.zeros(count * SLOTS, np.int32), np.zeros(count * SLOTS, np.bool_)
    reset[-1] = True
    replica.step_group([np.zeros((count * SLOTS, steps, 3), np.float32)], reset, lengths, [])
    for tensor in replica.states:
        assert tensor.numpy()[:, 0].tolist() == [1.0] * (SLOTS - 1) + [0.0]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_group_with_other_bits_is_noticed(replica: StatefulReplica, part: int) -> None:
    group, specs = replica._group, replica.signature((SLOTS, replica.group[1]))
    assert group is not None

    class Spoilt:
        size = group.size

        def __call__(self, *arguments: Any) -> Any:
            outcome = list(group(*arguments))
            number = outcome[part][0].numpy().copy()
            number[number > 0] = np.nextafter(number[number > 0], np.float32(9))
            outcome[part] = [tf.constant(number), *outcome[part][1:]]
            return outcome

    assert group_has_same_bits(group, replica.full_step, specs, replica.signature())
    assert not group_has_same_bits(Spoilt(), replica.full_step, specs, replica.signature())


def test_longer_rows_are_not_stepped_in_groups_that_shorter_ones_had() -> None:
    made = StatefulReplica(FIT["lstm"](), StepShape(SLOTS, CHUNK))
    made.prepare(SLOTS, STEPS)
    made.prepare(SLOTS, CHUNK)
    assert made.group == (GROUP_CHUNKS, CHUNK)


@pytest.mark.parametrize("longest", [STEPS, 3 * CHUNK + 5])
def test_nights_in_groups_have_the_bits_of_single_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    blob = save(FIT["lstm"]())
    generator = np.random.default_rng(3)
    for night in range(2):
        table = make_series(generator.integers(1, longest + 1, 150).tolist(), seed=night)
        moments = pc.add(table.column("time"), pa.scalar(timedelta(days=night)))
        table = table.set_column(1, "time", moments)
        (tmp_path / f"in{night}").mkdir()
        pq.write_table(table, tmp_path / f"in{night}" / "rows.parquet", row_group_size=100)
    outcomes = []
    for way in ("groups", "single"):
        monkeypatch.setattr(inprocess, "_IDLE", {})
        if way == "single":
            monkeypatch.setattr(replicas, "group_count", lambda chunk, steps: 1)
        outcomes.append(_two_nights(tmp_path, way, blob))
    assert outcomes[0] == outcomes[1]


def _two_nights(folder: Path, way: str, blob: bytes) -> list[Any]:
    features = columns_for(contract_of(blob, "lstm"))
    base = Job(blob, folder / "in0", folder / way / "0", features, step=StepSettings(SLOTS, CHUNK))
    first = replace(base, state={"write": folder / way / "s0"})
    state = {"read": folder / way / "s0", "write": folder / way / "s1"}
    second = replace(base, path=folder / "in1", output=folder / way / "1", state=state, run_id="second")
    found: list[Any] = [run(job)["steps"] for job in (first, second)]
    for output in (first.output, second.output):
        found.append(scores(output))
    for name in ("s0", "s1"):
        files = sorted((folder / way / name).glob("*.parquet"))
        found.append(pa.concat_tables([pq.read_table(file) for file in files]))
    return found
