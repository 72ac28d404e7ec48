"""The workloads: how many entities of which lengths, and the Parquet files that hold them.

Decides names, sizes and seeds. A workload's files are written once, into a folder named by all that decides their rows,
and found there the next time. Rows are clustered by entity and in order of time, and no entity goes over the border of
a file, so that peers which take whole files need no shuffle.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

FEATURES = tuple(f"f{index}" for index in range(8))
ROW_GROUP_ROWS = 131_072
SEED = 7

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """What is scored: the rows, the model and the fixed shape of a step."""

    name: str
    entities: int
    mean_rows: int  # of an entity; of every entity where `sigma` is 0
    sigma: float = 0.0  # of the logarithm of the lengths
    units: int = 64  # of the LSTM
    files: int = 8
    slots: int = 256
    chunk: int = 64
    jit: bool = True
    carry: bool = False  # state is read from an earlier run and written for the next one

    def lengths(self) -> Ints:
        """Rows of each entity: the same ones every time."""
        if not self.sigma:
            return np.full(self.entities, self.mean_rows, np.int64)
        drawn = np.random.default_rng(SEED).lognormal(-(self.sigma**2) / 2, self.sigma, self.entities)
        return np.maximum(1, (self.mean_rows * drawn).astype(np.int64))

    def identity(self) -> str:
        """A digest of all that decides the rows."""
        others = ("units", "slots", "chunk", "jit", "carry")
        shape = {key: value for key, value in asdict(self).items() if key not in others}
        return hashlib.sha256(json.dumps([shape, FEATURES, ROW_GROUP_ROWS, SEED]).encode()).hexdigest()[:8]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("FULL", entities=4_096, mean_rows=1_000),
        Workload("LONG", entities=64, mean_rows=25_000),
        Workload("WIDE", entities=500_000, mean_rows=8),
        Workload("SKEW", entities=4_000, mean_rows=1_000, sigma=1.0),
        Workload("TINY", entities=4_096, mean_rows=1_000, units=8),
        Workload("NIGHT", entities=1_000_000, mean_rows=24, files=24, carry=True),
        Workload("FULL10", entities=40_960, mean_rows=1_000, files=80),
    )
}


def smoke(workload: Workload) -> Workload:
    """The same workload, tiny: for tests of the benchmark itself."""
    return replace(
        workload, entities=min(workload.entities, 24), mean_rows=min(workload.mean_rows, 40), files=2, slots=8, chunk=16
    )


def written(workload: Workload, cache: Path, night: int = 0) -> Path:
    """The folder with the workload's files, which are written where they are missing; `night` shifts the times."""
    folder = cache / f"{workload.name}-{workload.identity()}-{night}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for index, table in enumerate(_tables(workload, night)):
            pq.write_table(table, unfinished / f"{index:03d}.parquet", ROW_GROUP_ROWS, compression="zstd")
        unfinished.rename(folder)
    return folder


def _tables(workload: Workload, night: int) -> Iterator[Any]:
    lengths = workload.lengths()
    entities = np.arange(len(lengths))
    rng = np.random.default_rng((SEED, night))
    for part in np.array_split(entities, workload.files):
        yield _table(part, lengths[part], rng, night)


def _table(entities: Ints, lengths: Ints, rng: np.random.Generator, night: int) -> Any:
    rows = int(lengths.sum())
    inside = np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    begin = np.datetime64("2026-01-01T00:00:00", "us") + np.timedelta64(night, "D")
    names = pa.array([f"entity-{number:08d}" for number in entities])
    columns = {
        "entity": names.take(pa.array(np.repeat(np.arange(len(entities)), lengths))),
        "time": pa.array(begin + inside * np.timedelta64(60_000_000, "us")),
    }
    columns |= {name: pa.array(rng.standard_normal(rows, np.float32)) for name in FEATURES}
    return pa.table(columns)


def each_file(folder: Path, read: Callable[[Path], Any]) -> list[Any]:
    """`read` of every Parquet file of a folder, in order of their names."""
    return [read(path) for path in sorted(folder.glob("*.parquet"))]
