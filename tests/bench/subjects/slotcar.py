"""Slotcar itself, as a user starts it: a configuration, an embedded Ray cluster, the whole road."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from jobs.commands import score
from jobs.config.configuration import load_config
from tests.bench.engine import watched
from tests.bench.task import Measured, Task
from tests.bench.workloads import FEATURES


def run(task: Task) -> Measured:
    """Scores the workload."""
    config = task.output.with_suffix(".toml")
    config.write_text(configuration(task))
    begin = time.perf_counter()
    with watched("ray::ReplicaActor") as peak:
        record = score.run(load_config(str(config)))
    wall_s = time.perf_counter() - begin
    notes = {key: record[key] for key in ("startup_s", "steps", "slot_occupancy", "stage_s", "wall_s")}
    return Measured(record["work_s"], record["rows_scored"], wall_s - record["work_s"], peak.bytes, notes)


def run_one_core(task: Task) -> Measured:
    """One replica, driver and all on one core."""
    every_core = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every_core)})
    try:
        return run(Task(**{**vars(task), "replicas": 1}))
    finally:
        os.sched_setaffinity(0, every_core)


def configuration(task: Task) -> str:
    """The TOML of a run of the task."""
    workload = task.workload
    step = {"slots": workload.slots, "chunk": workload.chunk, "jit": workload.jit}
    sections: dict[str, dict[str, Any]] = {
        "model": {"path": str(task.model), **step},
        "input": {"path": str(task.input), "entity": ["entity"], "time": ["time"], "features": list(FEATURES)},
        "output": {"path": str(task.output), "names": ["score"]},
        "cluster": {"replicas": task.replicas, "gpus_per_replica": task.gpus},
    }
    if workload.carry:
        sections["state"] = {"write": f"{task.output}-state"}
        if task.state is not None:
            sections["state"]["read"] = str(task.state)
    return "\n".join(_section(name, values) for name, values in sections.items())


def _section(name: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # JSON's strings and lists are TOML's
    return "\n".join([f"[{name}]", *lines, ""])
