"""Forecasts: figures that follow from arithmetic, and a large cluster that stays busy in bad weather."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Group

from cluster.core.plan.shard_plan import Shard, shard_groups, shards_of
from cluster.core.schedule.remaining_rows import RemainingRows
from cluster.core.simulate.run_simulation import SimulatedFaults, SimulatedRun, simulate_run
from cluster.core.simulate.simulated_replica import STEP_COST_MIN, ReplicaPace
from jobs.plan_simulation import Simulation, render, rows
from lstm_core.errors import UsageError

PACE = ReplicaPace(rows_per_s=1_000.0, slots=10, startup_s=5.0, room_rows=100_000, checkpoint_s=3.0)
CALM = SimulatedFaults()


def _shards(count: int, *, entities: int = 10, entity_rows: int = 100) -> list[Shard]:
    return [Shard(index, entities, entities * entity_rows, entity_rows, streamed=False) for index in range(count)]


def _play(shards: list[Shard], replicas: int, weather: SimulatedFaults = CALM) -> SimulatedRun:
    return simulate_run(shards, replicas, PACE, weather)


def test_one_replica_takes_the_rows_over_its_pace() -> None:
    found = _play(_shards(12), 1)
    assert found.wall_s == pytest.approx(5 + 12.0, abs=0.01)
    assert (found.busy, found.deaths) == (pytest.approx(1, abs=1e-3), 0)


def test_more_replicas_share_the_rows() -> None:
    assert 5 + 3.0 <= _play(_shards(12), 4).wall_s < 5 + 4.1  # at the end one may hold a shard more than another


def test_a_lone_entity_is_as_fast_as_a_step_on_few_slots() -> None:
    [alone] = _shards(1, entities=1, entity_rows=1_000)
    cost = max(1 / PACE.slots, STEP_COST_MIN)
    assert _play([alone], 3).wall_s == pytest.approx(5 + 1_000 * cost * PACE.slots / PACE.rows_per_s, abs=0.01)


def test_slow_replicas_take_longer_and_others_help() -> None:
    slow = _play(_shards(40), 4, SimulatedFaults(stragglers=1.0, straggler_pace=0.5))
    assert slow.wall_s == pytest.approx(5 + 20.0, abs=0.1)
    some = _play(_shards(40), 4, SimulatedFaults(stragglers=0.5, straggler_pace=0.5, seed=1))
    assert 15.0 < some.wall_s < slow.wall_s


def test_work_after_the_last_checkpoint_is_done_again() -> None:
    found = _play(_shards(60), 2, SimulatedFaults(deaths_per_hour=600.0))
    assert found.deaths > 2
    assert 0 < found.again_s < found.deaths * 3 * PACE.checkpoint_s
    assert found.wall_s > 5 + 30.0
    assert found.startup_s == pytest.approx(5.0 * (2 + found.deaths))


def test_the_same_seed_gives_the_same_forecast() -> None:
    weather = SimulatedFaults(deaths_per_hour=300.0, stragglers=0.3)
    assert _play(_shards(40), 3, weather) == _play(_shards(40), 3, weather)


def test_a_thousand_replicas_with_deaths_and_stragglers_stay_busy() -> None:
    shards = _plan_of(2_500_000, shard_rows=262_144)  # as many in a replica as ten million entities would have
    pace = ReplicaPace(rows_per_s=20_000.0)
    found = simulate_run(shards, 1_000, pace, SimulatedFaults(deaths_per_hour=1.0, stragglers=0.05))
    assert found.deaths > 0
    assert found.busy_until_longest > 0.95


def _plan_of(entities: int, *, shard_rows: int) -> list[Shard]:
    """The shards of a large input with lengths all over the place."""
    drawn = np.random.default_rng(0).lognormal(6.4, 1.0, entities).astype(np.int64) + 1
    return list(shards_of(shard_groups(drawn, shard_rows), drawn, shard_rows))


def test_loads_know_the_least_whatever_changes() -> None:
    loads, rows_of, dice = RemainingRows(), dict[int, int](), np.random.default_rng(0)
    for _ in range(3_000):
        replica, held = int(dice.integers(20)), int(dice.integers(100))
        if dice.random() < 0.1:
            loads.remove(replica)
            rows_of.pop(replica, None)
        else:
            loads.put(replica, held)
            rows_of[replica] = held
        loads.check(rows_of)
    assert len(loads._heap) < 200


def test_what_is_simulated_is_read_from_words() -> None:
    asked = Simulation.parse(["replicas=1,10 rows_per_s=5e5", "deaths=0.5", "stragglers=0.1"])
    assert (asked.replicas, asked.rows_per_s) == ((1, 10), 5e5)
    assert asked.weather == SimulatedFaults(deaths_per_hour=0.5, stragglers=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("replica=1", "one of the keys replicas"),
        ("replicas", "KEY=VALUE"),
        ("replicas=many", "takes numbers"),
        ("replicas=0", "at least 1"),
        ("rows_per_s=0", "rows_per_s"),
        ("stragglers=2", "from 0 to 1"),
        ("straggler_pace=0", "above 0"),
        ("deaths=-1", "deaths"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Simulation.parse([words])


def test_forecasts_are_shown_and_told() -> None:
    found = [_play(_shards(12), count) for count in (1, 4)]
    assert isinstance(render(found), Group)
    assert [row["replicas"] for row in rows(found)] == [1, 4]
