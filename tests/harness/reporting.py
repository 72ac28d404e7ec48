"""A run on disk that a report can be made of, laid without scoring anything: plan, records, fragments, timeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.commit import QUARANTINE, Fragment, fragment_name, record_name
from cluster.core.own_columns import quarantine_lines
from cluster.core.plan.shard_plan import make_plan
from cluster.core.settings import OutputSettings, StepSettings
from cluster.runtime.commit.commit import TIMELINE, Commits
from cluster.runtime.commit.run_request import RequestFile, write_request
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.plan.plan_files import write_plan
from cluster.runtime.run.run_record import opening_record, record_with_plan
from cluster.runtime.storage.local_store import LocalStore
from tests.inputs.series import make_series, settings_for, write_cut


@dataclass(frozen=True)
class Laid:
    """What a test wants told of a run."""

    lengths: Sequence[int] = (50, 30, 20)
    run_id: str = "night"
    shift: float = 0.0  # of all scores
    names: tuple[str, ...] = ("score",)
    finished_at: str = "2026-11-21T03:00:00+00:00"
    record: dict[str, Any] = field(default_factory=dict)
    lines: Sequence[dict[str, Any]] = ()
    quarantine: Sequence[tuple[str, str, int]] = ()  # entity, reason, rows


def lay_run(output: Path, laid: Laid) -> str:
    """Writes it below `output`, with its input beside it."""
    store, folder = LocalStore(str(output)), output.parent / f"in-{output.name}"
    table = make_series(list(laid.lengths))
    write_cut(folder, table, [table.num_rows], [1000])
    settings = settings_for(folder)
    plan = make_plan(make_inventory(settings, map), shard_rows=max(laid.lengths))
    commits = Commits(store)
    commits.prepare()
    write_plan(store, plan)
    outputs = OutputSettings(str(output), laid.names)
    write_request(store, RequestFile(laid.run_id, "id", "m.keras", "f1", settings, StepSettings(4, 8), outputs))
    for shard in plan.shards:
        _fragment(store, laid, shard.index, shard.rows)
    _quarantine(store, laid)
    lines = "".join(f"{json.dumps(line)}\n" for line in laid.lines)
    store.write(f"{TIMELINE}/00000001-00000.jsonl", lines.encode())
    record = record_with_plan(opening_record(laid.run_id, "id", StepSettings(4, 8), "f1", None), plan.head)
    ends = {"status": "done", "started_at": laid.finished_at, "finished_at": laid.finished_at}
    done = {"rows_scored": table.num_rows, "entities_scored": len(laid.lengths), **ends}
    commits.write_run_record({**record, **done, **laid.record})
    return store.root


def _fragment(store: LocalStore, laid: Laid, shard: int, rows: int) -> None:
    name = fragment_name("run", shard, 0)
    scores = np.linspace(0, 1, rows, dtype=np.float32) + np.float32(laid.shift)
    pq.write_table(pa.table({"entity": ["e"] * rows, **dict.fromkeys(laid.names, scores)}), store.path(name))
    made = Fragment(shard, 0, 1, True, name, None, rows, 1, "", None, None)
    store.write(record_name(shard, 0), made.to_json().encode())


def _quarantine(store: LocalStore, laid: Laid) -> None:
    if laid.quarantine:
        entities, reasons, rows = zip(*laid.quarantine, strict=True)
        places = ["in.parquet"] * len(rows), pa.nulls(len(rows), pa.int64())
        table = quarantine_lines(pa.table({"entity": list(entities)}), reasons, rows, places)
        pq.write_table(table, store.path(f"{QUARANTINE}/part-000000-00000-run.parquet"))
