"""`slotcar plan`: what it predicts for replicas, and what it says of those that nobody has given."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import RenderableType

from cluster.core.plan.shard_plan import Plan, make_plan
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.core.simulate.run_simulation import SimulatedFaults, simulate_run
from cluster.core.simulate.simulated_replica import ReplicaPace
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.watch.data_console import DataConsole
from jobs import plan_simulation
from jobs.commands.plan import PlanReport, _assumption, report
from tests.inputs.series import make_series, settings_for, write_cut

STEP = StepSettings(slots=4, chunk=5)


@pytest.fixture
def one_shard(tmp_path: Path) -> Plan:
    """Eight entities of 20 rows, all in one shard."""
    table = make_series([20] * 8)
    write_cut(tmp_path / "in", table, [table.num_rows], [100])
    return make_plan(make_inventory(settings_for(tmp_path / "in"), map), shard_rows=1_000)


def shown(what: RenderableType) -> str:
    page = DataConsole(width=200)
    with page.capture() as text:
        page.print(what)
    return text.get()


def planned(plan: Plan, replicas: int) -> PlanReport:
    return report(plan, STEP, replicas, shuffle=False)


def test_a_replica_without_a_shard_makes_no_slot_empty_and_no_step_shorter(one_shard: Plan) -> None:
    alone, four = planned(one_shard, 1), planned(one_shard, 4)
    assert (alone.steps, alone.slot_occupancy) == (8, 1.0)
    assert (four.steps, four.slot_occupancy, four.steps_lower_bound) == (8, 1.0, 8)
    assert "3 of them have nothing to do: there are too few shards" in shown(four.render())
    assert "nothing to do" not in shown(alone.render())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ClusterSettings(replicas=3, address="auto"), ""),
        (ClusterSettings(), "one per CPU of this machine, as cluster.replicas is not given"),
        (ClusterSettings(address="head:6379"), "the cluster at head:6379 was not asked; give cluster.replicas"),
    ],
)
def test_replicas_that_nobody_has_given_are_said_to_be_a_guess(settings: ClusterSettings, said: str) -> None:
    assert _assumption(settings).endswith(said)
    assert bool(_assumption(settings)) == bool(said)


def test_a_forecast_of_nothing_but_start_up_says_so_and_explains_every_column(one_shard: Plan) -> None:
    pace = ReplicaPace(rows_per_s=1e9, slots=4, startup_s=15.0, checkpoint_s=60.0)
    found = simulate_run(one_shard.head.shards, 1, pace, SimulatedFaults())
    text = shown(plan_simulation.render([found]))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "15 s" in line]
    assert len(lines) == 1
    row = dict(zip(plan_simulation.COLUMNS, lines[0], strict=True))
    assert (row["start-up"], row["stepping"], row["wall"]) == ("100.0%", "0.0%", "15 s")
    for name, meaning in plan_simulation.COLUMNS.items():
        assert f" {name} {meaning} " in " ".join([*text.split(), ""])
