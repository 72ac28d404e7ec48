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

import lstm_core.replica as replicas
from cluster.core.settings import StepSettings
from lstm_core.replica import StatefulReplica, StepShape
from lstm_core.same_bits import group_has_same_bits
from lstm_core.step_group import COUNT_MAX, group_count
from tests import inprocess
from tests.inprocess import Job, run, scores
from tests.models import FIT, contract_of, recurrent_model, save
from tests.series import make_series
from tests.truth import columns_for

SLOTS, CHUNK, STEPS = 16, 32, 8
COUNT = group_count(CHUNK, STEPS)


def test_a_group_fills_some_chunks() -> None:
    assert [group_count(64, steps) for steps in (64, 32, 24, 8)] == [1, 8, 10, COUNT_MAX]


@pytest.fixture(scope="module")
def replica() -> StatefulReplica:
    made = StatefulReplica(recurrent_model(layers.LSTM(64, return_sequences=True)), StepShape(SLOTS, CHUNK))
    made.prepare(SLOTS, STEPS)
    return made


def _drawn(generator: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Rows, resets, lengths and what is put in, of a group."""
    lengths = generator.integers(0, STEPS + 1, COUNT * SLOTS, np.int32)
    begins = generator.random(len(lengths)) < 0.5
    places = np.flatnonzero(begins & (lengths > 0))[::2]
    put_in = [generator.standard_normal((len(places), 64), np.float32) for _ in range(2)]
    reset = begins & (lengths > 0)
    reset[places] = False
    return generator.standard_normal((len(lengths), STEPS, 3), np.float32), reset, lengths, [(places, put_in)]


@pytest.mark.parametrize("puts_in", [True, False])
def test_a_group_gives_the_bits_of_its_steps(replica: StatefulReplica, puts_in: bool) -> None:
    assert replica.group == (COUNT, STEPS)
    rows, reset, lengths, restores = _drawn(np.random.default_rng(1))
    replica.reset_all()
    (found,), kept = replica.step_group([rows], reset, lengths, restores if puts_in else [])
    after = replica.states
    replica.reset_all()
    for number in range(COUNT):
        own = slice(number * SLOTS, (number + 1) * SLOTS)
        if puts_in:
            ((places, states),) = restores
            here = (places >= own.start) & (places < own.stop)
            replica.set_slot_state(places[here] - own.start, [values[here] for values in states])
        whole = np.zeros((SLOTS, CHUNK, 3), np.float32)
        whole[:, :STEPS] = rows[own]
        (truth,) = replica.step([whole], reset[own], lengths[own])
        valid = np.arange(STEPS) < lengths[own, None]
        np.testing.assert_array_equal(found.numpy()[own][valid], truth.numpy()[:, :STEPS][valid])
        for one, other in zip(kept, replica.states, strict=True):
            np.testing.assert_array_equal(one.numpy()[own], other.numpy())
    for one, other in zip(after, replica.states, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_group_with_other_bits_is_noticed(replica: StatefulReplica, part: int) -> None:
    group = replica._groups[STEPS]
    assert group is not None
    specs = [[tf.TensorSpec((COUNT * SLOTS, STEPS, 3))], tf.TensorSpec((COUNT * SLOTS,), tf.bool)]

    def spoilt(*arguments: Any) -> Any:
        outcome = list(group.function(*arguments))
        number = outcome[part][0].numpy().copy()
        number[number > 0] = np.nextafter(number[number > 0], np.float32(9))
        outcome[part] = [tf.constant(number), *outcome[part][1:]]
        return outcome

    assert group_has_same_bits(group.function, replica._function, specs, replica.signature())
    assert not group_has_same_bits(spoilt, replica._function, specs, replica.signature())


def test_longer_rows_are_not_stepped_in_groups_that_shorter_ones_had() -> None:
    made = StatefulReplica(FIT["lstm"](), StepShape(SLOTS, CHUNK))
    made.prepare(SLOTS, STEPS)
    made.prepare(SLOTS, CHUNK)
    assert made.group == (1, CHUNK)


def test_nights_of_short_series_have_the_bits_of_single_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = save(FIT["lstm"]())
    generator = np.random.default_rng(3)
    for night in range(2):
        table = make_series(generator.integers(1, STEPS + 1, 150).tolist(), seed=night)
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
