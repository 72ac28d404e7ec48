"""The folder in which a guide is followed: a table of flights, two models, a list of words, a function that builds.

Small, but with what the guides speak of: nulls in a feature, an aircraft that is longer than a chunk, files by day.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = (date(2026, 11, 20), date(2026, 11, 21))
AIRCRAFT = ("N14228", "N24211", "N39463", "N619AA", "N668DN", "N804JB")
AIRCRAFT += ("N107US", "N218FR", "N353SW", "N412WN", "N529AS", "N640NK")
CARRIERS = ("AA", "B6", "DL", "UA")
FLIGHTS_MOST, FLIGHTS_LEAST = 90, 10  # of an aircraft and day
MINUTES_OF_DAY = 24 * 60

BUILD = '''\
"""The model of the guides: two features of a flight in, its arrival delay out."""

import keras
from keras import layers


def build():
    rows = keras.Input((None, 2), name="rows")
    memory = layers.LSTM(8, return_sequences=True, name="memory")(rows)
    return keras.Model(rows, layers.Dense(1, name="arr_delay")(memory))
'''


def prepare(folder: Path) -> None:
    """Lays everything into `folder`."""
    for name in ("data/flights", "models"):
        (folder / name).mkdir(parents=True)
    for number, day in enumerate(DAYS):
        pq.write_table(flights_of(day, seed=number), folder / "data" / "flights" / f"{day}.parquet")
    (folder / "delays.keras").write_bytes(_archives()[0])
    (folder / "windows.keras").write_bytes(_archives()[1])
    (folder / "carriers.txt").write_text("".join(f"{word}\n" for word in CARRIERS))
    (folder / "models" / "delays.py").write_text(BUILD)


def flights_of(day: date, seed: int) -> Any:
    """One day's flights (pa.Table) by aircraft and time."""
    generator = np.random.default_rng(seed)
    counts = np.linspace(FLIGHTS_MOST, FLIGHTS_LEAST, len(AIRCRAFT)).astype(int)
    minutes = [np.sort(generator.choice(MINUTES_OF_DAY, count, replace=False)) for count in counts]
    aircraft, rows = np.repeat(np.arange(len(AIRCRAFT)), counts), int(counts.sum())
    left = generator.normal(10, 30, rows)
    unknown = generator.random(rows) < 0.05
    unknown[-counts[-1]] = True  # the first flight of the last aircraft: there is no earlier value to repeat
    return pa.table(
        {
            "tailnum": pa.array([AIRCRAFT[number] for number in aircraft]),
            "time_hour": pa.array(
                np.datetime64(day, "us") + np.concatenate(minutes).astype("timedelta64[m]"), pa.timestamp("us", "UTC")
            ),
            "flight": pa.array(generator.integers(1, 9999, rows)),
            "dep_delay": pa.array(left, mask=unknown),
            "distance": pa.array(generator.integers(100, 2500, rows).astype(np.float64)),
            "carrier_code": pa.array([CARRIERS[number % len(CARRIERS)] for number in aircraft]),
            "arr_delay": pa.array(left + generator.normal(0, 10, rows)),
        }
    )


@cache
def _archives() -> tuple[bytes, bytes]:
    """delays.keras and windows.keras."""
    import keras
    from keras import layers

    from tests.models.keras_models import save, seeded

    names: dict[str, Any] = {}
    exec(compile(BUILD, "models/delays.py", "exec"), names)
    rows = keras.Input((4, 2), name="rows")
    window = keras.Model(rows, layers.Dense(1, name="arr_delay")(layers.LSTM(8, name="memory")(rows)))
    return save(seeded(names["build"]())), save(seeded(window))
