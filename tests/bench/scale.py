"""Large inputs, one at a time: `python -m tests.bench.scale entities|files|long|simulate --count N`.

`entities`: N entities of two rows each are planned. `files`: N files of a few rows are listed, and their footers and
keys read in tasks. `long`: one entity of N rows, in row groups of a million, is scored by one replica. `simulate`: the
scheduler drives 1,000 simulated replicas, with deaths and stragglers, over N entities of skewed lengths. Each prints
one JSON object: seconds, and the peak memory of the process that did it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.plan.shard_plan import choose_shard_rows, make_plan, shard_groups, shards_of
from cluster.core.settings import ClusterSettings, InputSettings, StepSettings
from cluster.core.simulate.run_simulation import SimulatedFaults, simulate_run
from cluster.core.simulate.simulated_replica import ReplicaPace
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.fleet.task_map import map_on_cluster
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.plan.plan_files import write_plan
from cluster.runtime.storage.local_store import LocalStore

FEATURES = tuple(f"f{i}" for i in range(8))
GROUP_ROWS = 1_000_000


def entities(count: int, folder: Path) -> dict[str, Any]:
    """Plans `count` entities, in files of a million rows."""
    per_file = 500_000
    (folder / "in").mkdir()
    for start in range(0, count, per_file):
        numbers = np.repeat(np.arange(start, min(start + per_file, count)), 2)
        names = pa.array(np.char.mod("entity-%09d", numbers))
        pq.write_table(_rows(names, np.arange(len(numbers)), 1), folder / "in" / f"{start:09d}.parquet")
    begin = time.perf_counter()
    with connected(ClusterSettings()):
        inventory = make_inventory(_settings(folder / "in", 1), map_on_cluster)
    plan = make_plan(inventory, shard_rows=choose_shard_rows(inventory.rows_in, rows_per_file=1_000_000))
    write_plan(LocalStore(str(folder / "out")), plan)
    assert plan.head.entities == count
    return {"seconds": time.perf_counter() - begin, "peak_mb": _peak_mb()}


def files(count: int, folder: Path) -> dict[str, Any]:
    """Plans `count` files of five rows of one entity each."""
    for index in range(count):
        if index % 1000 == 0:
            (folder / "in" / f"{index // 1000:04d}").mkdir(parents=True)
        table = _rows(pa.array([f"entity-{index:07d}"] * 5), np.arange(5), 1)
        pq.write_table(table, folder / "in" / f"{index // 1000:04d}" / f"{index:07d}.parquet")
    begin = time.perf_counter()
    with connected(ClusterSettings()):
        inventory = make_inventory(_settings(folder / "in", 1), map_on_cluster)
    plan = make_plan(inventory, shard_rows=choose_shard_rows(inventory.rows_in, rows_per_file=1_000_000))
    write_plan(LocalStore(str(folder / "out")), plan)
    assert plan.head.rows_planned == 5 * count
    return {"seconds": time.perf_counter() - begin, "peak_mb": _peak_mb()}


def long(count: int, folder: Path) -> dict[str, Any]:
    """Scores one entity of `count` rows; the peak is that of the process, replica and driver together."""
    from tests.harness.inprocess import Job, run
    from tests.models.keras_models import lstm, save

    _write_long(folder / "in", count)
    job = Job(save(lstm()), folder / "in", folder / "out", (("rows", FEATURES[:3]),), step=StepSettings(1, 1024))
    begin = time.perf_counter()
    record = run(job)
    assert record["rows_scored"] == count
    return {"seconds": time.perf_counter() - begin, "peak_mb": _peak_mb(), "fragments": record["fragments"]}


def simulate(count: int, folder: Path) -> dict[str, Any]:
    """Forecasts a run over `count` entities, lognormal with mean 1,000 and sigma 1, and times the scheduler."""
    drawn = np.random.default_rng(7).lognormal(-0.5, 1.0, count)
    lengths = np.maximum(1, (1_000 * drawn).astype(np.int64))
    begin = time.perf_counter()
    shard_rows = choose_shard_rows(int(lengths.sum()), rows_per_file=1_000_000)
    shards = shards_of(shard_groups(lengths, shard_rows), lengths, shard_rows)
    pace = ReplicaPace(rows_per_s=700_000, slots=256, startup_s=15.0, checkpoint_s=60.0)
    weather = SimulatedFaults(deaths_per_hour=0.5, stragglers=0.05)
    found = simulate_run(shards, 1_000, pace, weather, time.perf_counter)
    told = {name: round(value, 4) for name, value in asdict(found).items()}
    return {"seconds": time.perf_counter() - begin, "peak_mb": _peak_mb(), "shards": len(shards), **told}


def _write_long(folder: Path, count: int) -> None:
    folder.mkdir()
    table = _rows(pa.array(["e"]), np.arange(1), len(FEATURES))
    with pq.ParquetWriter(folder / "long.parquet", table.schema) as writer:
        for start in range(0, count, GROUP_ROWS):
            rows = min(GROUP_ROWS, count - start)
            table = _rows(pa.array(["e"] * rows), np.arange(start, start + rows), len(FEATURES))
            writer.write_table(table, row_group_size=GROUP_ROWS)


def _rows(names: Any, times: Any, features: int) -> Any:
    rng = np.random.default_rng(int(times[0]))
    columns = {"entity": names, "time": pa.array(times * 1000, pa.timestamp("us"))}
    return pa.table(
        columns | {name: pa.array(rng.normal(size=len(times)).astype(np.float32)) for name in FEATURES[:features]}
    )


def _settings(folder: Path, features: int) -> InputSettings:
    return InputSettings((str(folder),), ("entity",), ("time",), (("rows", FEATURES[:features]),))


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


KINDS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "entities": entities,
    "files": files,
    "long": long,
    "simulate": simulate,
}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Prints one JSON object, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--count", type=int, required=True)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="slotcar-scale-") as name:
        found = {"kind": asked.kind, "count": asked.count, **KINDS[asked.kind](asked.count, Path(name))}
    print(json.dumps({**found, "seconds": round(found["seconds"], 2)}), flush=True)
    return found


if __name__ == "__main__":
    main()
