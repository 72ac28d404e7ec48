"""What the pre-pass costs: `python -m tests.bench.shuffle --rows 10000000 --engine ours --engine duckdb --engine ray`.

Clusters interleaved rows (a text entity, a timestamp, eight float32 features, in order of time over all entities) on an
embedded Ray, and prints the seconds, their ratio to a plain pyarrow copy of the same files on the same cores, taken
right before and right after, the peak memory of the largest process, and a hash of what came out. With `--long` half
of all rows are one entity's. Other engines, for comparison: DuckDB sorts in a process of its own on the same cores,
Ray Data shuffles by hash and leaves the order in time undone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.plan.file_list import FileList
from cluster.core.plan.shuffle_plan import row_hashes
from cluster.core.settings import ClusterSettings, InputSettings
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.fleet.task_map import map_on_cluster
from cluster.runtime.shuffle.shuffle import open_shuffle, shuffle_input
from cluster.runtime.storage.open_store import StoreSpec

FEATURES = tuple(f"f{i}" for i in range(8))
FILE_ROWS = 1_000_000
DUCKDB_MEMORY = "600MB"


def write_input(folder: Path, rows: int, *, entities: int, long: bool) -> list[str]:
    """Files of a million rows, in order of time, entities drawn at random."""
    folder.mkdir(parents=True)
    paths = []
    for start in range(0, rows, FILE_ROWS):
        paths.append(str(folder / f"part-{start // FILE_ROWS:05d}.parquet"))
        pq.write_table(_rows(start, min(FILE_ROWS, rows - start), entities, long), paths[-1])
    return paths


def _rows(start: int, count: int, entities: int, long: bool) -> Any:
    rng = np.random.default_rng(start)
    entity = rng.integers(0, entities, count)
    if long:
        entity[rng.random(count) < 0.5] = 0
    words = pa.array([f"e{number}" for number in range(entities)])
    names = words.take(pa.array(entity))
    columns = {"entity": names, "time": pa.array(np.arange(start, start + count) * 1000, pa.timestamp("us"))}
    return pa.table(columns | {name: pa.array(rng.normal(size=count).astype(np.float32)) for name in FEATURES})


class Measured:
    """A map over the cluster that remembers the largest process."""

    peak_bytes = 0

    def __call__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for value, peak in map_on_cluster(partial(_with_peak, function), items):
            self.peak_bytes = max(self.peak_bytes, peak)
            yield value


def _with_peak(function: Callable[[Any], Any], item: Any) -> tuple[Any, int]:
    value = function(item)
    return value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(files: list[str], out: Path) -> dict[str, Any]:
    """The pre-pass, up to the inventory of its buckets."""
    settings = InputSettings(path=(str(files),), entity=("entity",), time=("time",), features=(("rows", FEATURES),))
    measured = Measured()
    inventory = shuffle_input(
        open_shuffle(settings, FileList.of(files), StoreSpec(str(out)), measured), measured, lambda: None
    )
    assert inventory.sorted.all()
    paths = [str(out / file.path) for file in inventory.files]
    return {"peak_mb": measured.peak_bytes >> 20, "files": paths, "temporary_mb": _size_mb(out)}


def copy(files: list[str], out: Path) -> dict[str, Any]:
    """The same rows, copied file by file."""
    for _ in map_on_cluster(partial(_copy, out=out), files):
        pass
    return {"files": []}


def _copy(path: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pq.read_table(path, use_threads=False), out / Path(path).name)


def duckdb(files: list[str], out: Path) -> dict[str, Any]:
    """One sort of all rows, spilling."""
    out.mkdir(parents=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        _, peak = pool.apply(_with_peak, (partial(_duckdb, out=out), files))
    return {"peak_mb": peak >> 20, "files": [str(out / "all.parquet")]}


def _duckdb(files: list[str], out: Path) -> None:
    import duckdb

    with duckdb.connect(config={"threads": 2, "memory_limit": DUCKDB_MEMORY, "temp_directory": str(out)}) as base:
        base.read_parquet(files).order("entity, time").write_parquet(str(out / "all.parquet"), compression="lz4")


def ray(files: list[str], out: Path) -> dict[str, Any]:
    """Ray Data's shuffle by hash."""
    import ray.data

    ray.data.read_parquet(files).repartition(16, keys=["entity"]).write_parquet(str(out))
    return {"files": [str(path) for path in out.glob("*.parquet")]}


ENGINES = {"ours": ours, "duckdb": duckdb, "ray": ray}


def measure(engine: str, files: list[str], folder: Path) -> dict[str, Any]:
    """One engine between two copies."""
    copies = [_timed(copy, files, folder)[0]]
    seconds, told = _timed(ENGINES[engine], files, folder)
    copies.append(_timed(copy, files, folder)[0])
    return {
        "engine": engine,
        "seconds": round(seconds, 2),
        "copy_seconds": [round(value, 2) for value in copies],
        "ratio": round(seconds / (sum(copies) / len(copies)), 2),
        **told,
    }


def _timed(engine: Callable[[list[str], Path], dict[str, Any]], files: list[str], folder: Path) -> tuple[float, Any]:
    out = folder / "out"
    begin = time.perf_counter()
    told = engine(files, out)
    seconds = time.perf_counter() - begin
    told["rows_hash"] = content_hash(told.pop("files"))
    shutil.rmtree(out)
    return seconds, told


def content_hash(paths: Iterable[str]) -> str:
    """A sum over rows, in whatever order they are: equal for engines that lost and doubled nothing."""
    total = np.zeros(1, np.uint64)
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=["entity", "time", *FEATURES]):
            total += np.sum(row_hashes(pa.table(batch)), dtype=np.uint64)
    return f"{int(total[0]):016x}"


def _size_mb(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet")) >> 20


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slotcar-shuffle-") as name:
        yield Path(name)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Prints one JSON object for each engine, and returns them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--long", action="store_true", help="half of all rows are one entity's")
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    asked = parser.parse_args(arguments)
    found = []
    with _folder() as folder, connected(ClusterSettings()):
        files = write_input(folder / "in", asked.rows, entities=asked.entities, long=asked.long)
        for _ in map_on_cluster(partial(_copy, out=folder / "warm"), files[:2]):
            pass
        for engine in asked.engine or ["ours"]:
            found.append({"rows": asked.rows, **measure(engine, files, folder)})
            print(json.dumps(found[-1]), flush=True)
    return found


if __name__ == "__main__":
    main()
