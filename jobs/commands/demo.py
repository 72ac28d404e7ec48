"""`slotcar demo`: real data, a small model, the whole road, and what carrying the state is worth.

An aircraft is an entity, its flights from New York in 2013 are the series, the arrival delay is predicted when a flight
is pushed back. It trains on the months to October, each a series of its own, scores the whole year in order, so that
November starts with October's state, and compares on November and December. The reset state is the product's own doing
too: the same model scores the same flights again, with every flight an entity of its own.

It decides nothing that a user could not configure: the files that it writes into its folder are all there is to it, and
the commands that it prints run them again. A folder that it did not make itself is left alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Group, RenderableType
from rich.table import Table

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import score, train
from jobs.config.configuration import load_config
from jobs.demo.demo_files import EPOCHS, SPLIT, write_files
from jobs.demo.demo_flights import Flights, first_aircraft, read_flights, write_flights
from lstm_core.array_types import Doubles
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject

MARK = ".slotcar-demo"
REPLICAS = 2


@dataclass(frozen=True)
class DemoReport:
    """Mean absolute errors in minutes on the flights after the split, and what was on the way."""

    folder: str
    flights: Flights
    flights_trained_on: int
    flights_compared: int
    mae_stateful: float
    mae_reset: float  # the same model and flights, the state reset before each
    mae_as_it_left: float  # arrives as late as it left
    mae_naive: float  # the median delay of the training months
    rows_quarantined: int
    seconds: dict[str, float]

    def as_dict(self) -> JsonObject:
        """The report as plain values, for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """The comparison, the traps and the commands, for a terminal."""
        return Group(self._errors(), self._traps(), self._commands())

    def _errors(self) -> Table:
        title = f"{self.flights_compared:,} flights of November and December, never trained on"
        table = Table("prediction of the arrival delay", "mean absolute error", title=title, title_justify="left")
        table.columns[1].justify = "right"
        for name, error in (
            ("the model, its state carried from flight to flight", self.mae_stateful),
            ("the same model, its state reset before every flight", self.mae_reset),
            ("every flight arrives as late as it left", self.mae_as_it_left),
            ("naive: the median delay of the training months", self.mae_naive),
        ):
            table.add_row(name, f"{error:.2f} min")
        return table

    def _traps(self) -> Table:
        table = Table("trap in the input", "rows", "what becomes of it", title_justify="left")
        table.columns[1].justify = "right"
        found = self.flights
        table.add_row("no tail number", f"{found.without_tailnum:,}", f"{self.rows_quarantined:,} rows in quarantine")
        table.add_row("cancelled: no departure", f"{found.cancelled:,}", "dep_delay is filled, the row is scored")
        table.add_row("no arrival: no target", f"{found.without_target:,}", "moves the state, has no loss")
        table.add_row("same aircraft, same hour", f"{found.equal_hours:,}", "ordered by flight number")
        return table

    def _commands(self) -> Table:
        table = Table(
            title="look into these files, and run them again", title_justify="left", show_header=False, box=None
        )
        for command, file in (("train", "train"), ("score", "score"), ("score", "reset_score"), ("plan", "score")):
            table.add_row(f"slotcar {command} {self.folder}/{file}.toml")
        return table


def run(folder: Path, *, replicas: int | None = None, aircraft: int | None = None, epochs: int = EPOCHS) -> DemoReport:
    """The whole road, in `folder`. `aircraft` keeps only the first so many. Raises `UsageError` as its parts do."""
    stages = _Stages()
    replicas = replicas or REPLICAS
    with stages.stage("writing the flights as Parquet"):
        source = read_flights()
        _take_over(folder)
        flights = write_flights(source if aircraft is None else first_aircraft(source, aircraft), folder / "flights")
        write_files(folder, carriers=flights.carriers, replicas=replicas, epochs=epochs)
    with connected(ClusterSettings(replicas=replicas)):
        with stages.stage("training on the months to October"):
            trained = train.run(load_config(str(folder / "train.toml"), command="train"))
        with stages.stage("scoring the year in order"):
            record = score.run(load_config(str(folder / "score.toml")))
        with stages.stage("scoring again, the state reset before every flight"):
            score.run(load_config(str(folder / "reset_score.toml")))
    return DemoReport(
        folder=folder.as_posix(),
        flights=flights,
        flights_trained_on=trained.targets_trained_on,
        rows_quarantined=record["rows_quarantined"],
        seconds=stages.seconds,
        **_errors(folder),
    )


def _take_over(folder: Path) -> None:
    """Empties the folder of an earlier demo, or makes a new one."""
    if folder.exists() and not (folder / MARK).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and no demo made it: give --folder a new name.")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


class _Errors(TypedDict):
    """A part of `DemoReport`."""

    flights_compared: int
    mae_stateful: float
    mae_reset: float
    mae_as_it_left: float
    mae_naive: float


def _errors(folder: Path) -> _Errors:
    columns = ["row", "tailnum", "time_hour", "dep_delay", "arr_delay"]
    table = pq.read_table(folder / "flights", columns=columns).sort_by("row")
    actual = _minutes(table, "arr_delay")
    known = ~np.isnan(actual) & table.column("tailnum").is_valid().to_numpy()
    later = table.column("time_hour").to_numpy() >= np.datetime64(SPLIT[:-6]) + np.timedelta64(4, "h")
    compared = known & later

    def error(guess: Doubles) -> float:
        return float(np.abs(guess - actual)[compared].mean())

    return {
        "flights_compared": int(compared.sum()),
        "mae_stateful": error(_scores(folder / "scores", table.num_rows)),
        "mae_reset": error(_scores(folder / "reset_scores", table.num_rows)),
        "mae_as_it_left": error(_minutes(table, "dep_delay")),
        "mae_naive": error(np.full(table.num_rows, np.median(actual[known & ~later]))),
    }


def _minutes(table: pa.Table, name: str) -> Doubles:
    return np.asarray(table.column(name).to_numpy(), np.float64)  # a null becomes NaN


def _scores(folder: Path, rows: int) -> Doubles:
    """The scores by row number; NaN where a row was not scored."""
    table = pq.read_table(folder, columns=["row", "predicted_delay"])
    scores = np.full(rows, np.nan)
    scores[table.column("row").to_numpy()] = table.column("predicted_delay").to_numpy()
    return scores


class _Stages:
    """Says on stderr what happens, and how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = DataConsole(stderr=True, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One part of the road."""
        self._console.print(f"demo: {name} ...", highlight=False)
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 1)
