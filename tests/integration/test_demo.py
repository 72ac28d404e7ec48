"""The demo: its series, its folder, and the whole road on a tiny cut of the real flights."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.commands import demo
from jobs.config.configuration import load_config
from jobs.demo.demo_files import write_files
from jobs.demo.demo_flights import Flights, first_aircraft, read_flights, write_flights
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import UsageError
from lstm_core.training.model_builder import archive_of, build_model

HOUR = 3600


def flights_of(*rows: tuple[str | None, int, int, int | None]) -> Any:
    """Flights with (tail number, hour, flight number, arrival delay); no delay: cancelled."""
    tails, hours, numbers, delays = zip(*rows, strict=True)
    size = len(rows)
    columns = {
        "tailnum": pa.array(tails, pa.string()),
        "time_hour": pa.array([hour * HOUR for hour in hours], pa.timestamp("s", "UTC")),
        "flight": pa.array(numbers),
        "arr_delay": pa.array(delays, pa.int64()),
        "dep_delay": pa.array(delays, pa.int64()),
        "distance": pa.array([500] * size),
        "month": pa.array([1] * size),
        "hour": pa.array([hour % 24 for hour in hours]),
        "minute": pa.array([30] * size),
        **{name: pa.array(["X"] * size) for name in ("carrier", "origin", "dest")},
    }
    return pa.table(columns)


def written(folder: Path, flights: Any) -> tuple[Flights, Any]:
    found = write_flights(flights, folder)
    return found, pq.read_table(folder).sort_by("row")


def test_a_row_knows_the_last_flight_of_an_earlier_hour_and_nothing_later(tmp_path: Path) -> None:
    found, table = written(
        tmp_path,
        flights_of(
            ("B", 5, 1, 50), ("A", 9, 3, 30), ("A", 9, 2, 20), ("A", 7, 9, 10), (None, 1, 1, 99), ("A", 400, 1, None),
            ("A", 401, 1, 60),
        ),
    )  # fmt: skip
    assert table.column("tailnum").to_pylist() == ["A", "A", "A", "A", "A", "B", None]
    assert table.column("flight").to_pylist() == [9, 2, 3, 1, 1, 1, 1]
    assert table.column("last_arr_delay").to_pylist() == [None, 10, 10, 30, None, None, None]
    assert table.column("gap_hours").to_pylist() == [168, 2, 2, 168, 1, 168, 168]
    assert (found.rows, found.aircraft, found.without_tailnum, found.cancelled, found.equal_hours) == (7, 2, 1, 1, 1)


def test_the_flights_have_their_traps(tmp_path: Path) -> None:
    source = read_flights()
    found, table = written(tmp_path, first_aircraft(source, 30))
    assert found.aircraft == 30
    assert 0 < found.without_tailnum < found.rows / 100
    assert found.cancelled >= found.without_tailnum
    assert found.without_target > found.cancelled
    assert len(list(tmp_path.iterdir())) > 1
    numbers = table.select(["distance", "day_sin", "day_cos", "gap_hours"])
    assert all(np.isfinite(column.to_numpy()).all() for column in numbers.columns)


def test_the_files_that_are_written_fit_each_other(tmp_path: Path) -> None:
    write_files(tmp_path, carriers=["AA", "UA"], replicas=3, epochs=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["carriers.txt", "flights_model.py", "reset_score.toml", "score.toml", "train.toml"]
    model = build_model("flights_model:build", folders=[str(tmp_path)])
    (tmp_path / "delays.keras").write_bytes(archive_of(model, name="it"))
    contract = read_contract((tmp_path / "delays.keras").read_bytes(), name="it")
    for name, command in (("train", "train"), ("score", "score"), ("reset_score", "score")):
        config = load_config(str(tmp_path / f"{name}.toml"), command=command)  # type: ignore[arg-type]
        settings = config.input_settings(contract, training=command == "train")
        assert settings.target == (("arr_delay",) if command == "train" else ())
    assert tomllib.loads((tmp_path / "score.toml").read_text())["cluster"]["replicas"] == 3


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="no demo made it"):
        demo.run(tmp_path, aircraft=1)
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.ray
def test_the_whole_road_in_a_folder_that_an_earlier_demo_left(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / demo.MARK).touch()
    (folder / "leftover.parquet").touch()
    report = demo.run(folder, replicas=1, aircraft=150, epochs=2)
    assert not (folder / "leftover.parquet").exists()
    assert report.rows_quarantined == report.flights.without_tailnum
    assert 0 < report.flights_compared < report.flights_trained_on
    assert report.mae_stateful < report.mae_naive
    assert report.mae_stateful != report.mae_reset
    console = Console(width=120)
    with console.capture() as shown:
        console.print(report.render())
    assert "its state reset before every flight" in shown.get()
    assert f"slotcar score {folder.as_posix()}/score.toml" in shown.get()
