"""`slotcar plan CONFIG --simulate replicas=1,10,100`: how long the planned run would take on so many replicas.

Decides what a user may say of the replicas and of the weather, and what is taken where nothing is said. The plan is the
real one, and so is the scheduler; see `cluster.core.simulate.run_simulation`. Nothing is started: so a cluster is sized
before it is rented.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table

from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings, StepSettings
from cluster.core.simulate.run_simulation import SimulatedFaults, SimulatedRun, simulate_run
from cluster.core.simulate.simulated_replica import ReplicaPace
from lstm_core.errors import UsageError

FLOP_PER_S = 40e9  # that one core reached in the step of the benchmark's model; for a better figure give rows_per_s
ROWS_PER_S_MAX = 4e6  # however small the model: reading and writing take the rest
COLUMNS = {  # of the table -> what each one says
    "replicas": "how many there are",
    "wall": "how long the run takes, start-up included",
    "stepping": "share of all replicas' time that goes into steps",
    "idle": "share in which a replica has nothing to do",
    "start-up": "share in which replicas load the model, also those that follow on a death",
    "again": "share that goes into rows which a death has cost",
    "not idle": "share of the time since the first replica was ready in which replicas are not idle",
    "until the longest": "the same, until only the shard with the longest entity is left",
    "deaths": "of replicas",
}
KEYS = ("replicas", "rows_per_s", "startup_s", "deaths", "stragglers", "straggler_pace", "seed")


@dataclass(frozen=True)
class Simulation:
    """What is to be simulated."""

    replicas: tuple[int, ...]
    rows_per_s: float | None = None  # of one replica with all slots busy; None: estimated from the model
    startup_s: float = 15.0
    weather: SimulatedFaults = field(default_factory=SimulatedFaults)

    @staticmethod
    def parse(words: Sequence[str]) -> Simulation:
        """From KEY=VALUE words, several in one or each by itself. Raises `UsageError`."""
        values = dict(_pair(word) for text in words for word in text.split())
        try:
            numbers = {key: float(value) for key, value in values.items() if key != "replicas"}
            replicas = tuple(int(count) for count in values.get("replicas", "1").split(","))
        except ValueError as fault:
            raise UsageError(f"--simulate takes numbers: {fault}; say --simulate replicas=1,10,100.") from None
        made = Simulation(replicas, numbers.get("rows_per_s"), numbers.get("startup_s", 15.0), _weather(numbers))
        _check(made)
        return made


def _pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or key not in KEYS:
        raise UsageError(f"--simulate {word}: expected KEY=VALUE with one of the keys {', '.join(KEYS)}.")
    return key, value


def _weather(numbers: dict[str, float]) -> SimulatedFaults:
    return SimulatedFaults(
        deaths_per_hour=numbers.get("deaths", 0.0),
        stragglers=numbers.get("stragglers", 0.0),
        straggler_pace=numbers.get("straggler_pace", 0.5),
        seed=int(numbers.get("seed", 0)),
    )


def _check(asked: Simulation) -> None:
    weather = asked.weather
    rules = (
        (min(asked.replicas) >= 1, "replicas must be whole numbers of at least 1, with commas between"),
        (asked.rows_per_s is None or asked.rows_per_s > 0, "rows_per_s must be above 0"),
        (asked.startup_s >= 0, "startup_s must not be below 0"),
        (weather.deaths_per_hour >= 0, "deaths, of a replica and hour, must not be below 0"),
        (0 <= weather.stragglers <= 1, "stragglers is a share: from 0 to 1"),
        (0 < weather.straggler_pace <= 1, "straggler_pace is a share: above 0, at most 1"),
        (weather.seed >= 0, "seed must not be below 0"),
    )
    for holds, what in rules:
        if not holds:
            raise UsageError(f"--simulate: {what}.")


def simulate(
    asked: Simulation, shards: Sequence[Shard], step: StepSettings, cluster: ClusterSettings, flop_per_row: int
) -> list[SimulatedRun]:
    """One forecast per number of replicas."""
    estimated = min(FLOP_PER_S * max(1, int(cluster.cpus_per_replica)) / max(flop_per_row, 1), ROWS_PER_S_MAX)
    pace = ReplicaPace(
        rows_per_s=asked.rows_per_s or estimated,
        slots=step.slots,
        startup_s=asked.startup_s,
        checkpoint_s=cluster.checkpoint_s,
    )
    return [simulate_run(shards, count, pace, asked.weather, time.perf_counter) for count in asked.replicas]


def rows(forecasts: Sequence[SimulatedRun]) -> list[dict[str, float]]:
    """As plain values, for JSON."""
    return [{name: _rounded(value) for name, value in asdict(found).items()} for found in forecasts]


def _rounded(value: float) -> float:
    return round(value, 4) if isinstance(value, float) else value


def render(forecasts: Sequence[SimulatedRun]) -> RenderableType:
    """One line per number of replicas, how long and where their time goes, and what each column says."""
    made = Table(title="simulated", title_justify="left")
    for head in COLUMNS:
        made.add_column(head, justify="right")
    for found in forecasts:
        spent = (found.stepping_s - found.again_s, found.idle_s, found.startup_s, found.again_s)
        whole_s = max(found.stepping_s + found.idle_s + found.startup_s, 1e-9)
        shares = [f"{part_s / whole_s:.1%}" for part_s in spent]
        busy = (f"{found.busy:.1%}", f"{found.busy_until_longest:.1%}")
        made.add_row(f"{found.replicas:,}", f"{found.wall_s:,.0f} s", *shares, *busy, f"{found.deaths:,}")
    meanings = Table(show_header=False, box=None)
    for name, meaning in COLUMNS.items():
        meanings.add_row(name, meaning)
    return Group(made, meanings)
