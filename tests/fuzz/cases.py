"""What a seed decides: a small valid input, and the faults in the bytes of one of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.fuzz.mutations import Generator, mutated

START = 1_795_132_800_000_000
SENSORS = 4
ROWS = 40


@dataclass(frozen=True)
class Case:
    """A seed, as it was played."""

    seed: int
    options: dict[str, Any]  # of the writer
    faults: tuple[str, ...]


def table_of(draw: Generator) -> Any:
    """Some rows of some sensors, in order, or as they have come."""
    sensors = np.sort(draw.integers(SENSORS, size=ROWS))
    table = pa.table(
        {
            "sensor": pa.array([f"sensor-{number}" for number in sensors]),
            "t": pa.array(START + np.arange(ROWS) * 60_000_000, pa.timestamp("us")),
            "a": pa.array(draw.normal(size=ROWS).astype(np.float32)),
            "b": pa.array(draw.normal(size=ROWS).astype(np.float32), mask=draw.random(ROWS) < 0.02),
            "n": pa.array(np.arange(ROWS)),
        }
    )
    return table if draw.integers(2) else table.take(draw.permutation(ROWS))


def options_of(draw: Generator) -> dict[str, Any]:
    """How the files are written."""
    dictionary = bool(draw.integers(2))
    int96 = bool(draw.integers(8) == 0)
    encodings = {"sensor": "DELTA_BYTE_ARRAY", "a": "BYTE_STREAM_SPLIT"}
    encodings |= {} if int96 else {"t": "DELTA_BINARY_PACKED"}
    return {
        "row_group_size": int(draw.integers(3, ROWS)),
        "compression": str(draw.choice(["none", "snappy", "zstd", "gzip"])),
        "use_dictionary": dictionary,
        "write_statistics": bool(draw.integers(2)),
        "write_page_checksum": bool(draw.integers(2)),
        "data_page_version": str(draw.choice(["1.0", "2.0"])),
        "store_schema": bool(draw.integers(2)),
        "use_deprecated_int96_timestamps": int96,
        **({"column_encoding": encodings} if not dictionary and draw.integers(2) else {}),
    }


def write(seed: int, folder: Path) -> Case:
    """Writes the input of a seed below a folder."""
    draw = np.random.default_rng(seed)
    table, options = table_of(draw), options_of(draw)
    in_folders = bool(draw.integers(4) == 0)
    files = _in_folders(table) if in_folders else _cut(table, draw)
    paths = []
    for name, rows in files.items():
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, paths[-1], **options)
    chosen, beside = paths[int(draw.integers(len(paths)))], paths[int(draw.integers(len(paths)))]
    content, faults = mutated(chosen.read_bytes(), beside.read_bytes(), draw)
    chosen.write_bytes(content)
    return Case(seed, options, (*faults, *(["keys in folders"] if in_folders else [])))


def _cut(table: Any, draw: Generator) -> dict[str, Any]:
    border = int(draw.integers(1, ROWS))
    return {"part-0.parquet": table.slice(0, border), "part-1.parquet": table.slice(border)}


def _in_folders(table: Any) -> dict[str, Any]:
    names = pc.unique(table.column("sensor")).to_pylist()
    return {
        f"sensor={name}/part.parquet": table.filter(pc.equal(table.column("sensor"), name)).drop_columns(["sensor"])
        for name in names
    }
