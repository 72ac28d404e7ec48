"""Drives the scans, and writes and reads a run's plan.

Decides how a plan lies on disk: `plan.parquet` has one row group per shard (row group i is shard i), `bad.parquet` the
rows that have no entity or no time, `plan.json` all else. `plan.json` is written last, so a folder that has it has a
whole plan. Leaves the choice of shards to `cluster.core.plan` and the question where scans run to its caller.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.inventory import FileRuns, Inventory, SourceFile, build_inventory
from cluster.core.plan import Plan, PlanHead, Shard, segment_schema
from cluster.core.settings import InputSettings
from cluster.errors import InputRefused, RunFailed, first_line
from cluster.runtime.listing import list_files
from cluster.runtime.partitions import Partitions
from cluster.runtime.scan import scan_file
from cluster.runtime.source import check_unchanged

PLAN_FILE, BAD_FILE, HEAD_FILE = "plan.parquet", "bad.parquet", "plan.json"
_FORMAT = 1

Mapper = Callable[[Callable[[str], FileRuns], Sequence[str]], Iterable[FileRuns]]


def make_inventory(settings: InputSettings, mapper: Mapper, files: Sequence[str] | None = None) -> Inventory:
    """Scan the input's files (listed here unless given) through `mapper`, which is called like `map`.

    Raises InputRefused for an input without rows and for columns that do not fit, InputBroken for a broken file.
    """
    files = list_files(settings) if files is None else files
    scan = partial(scan_file, settings=settings, partitions=Partitions.of(files))
    inventory = build_inventory(list(mapper(scan, files)))
    if inventory.rows_in == 0:
        raise InputRefused(f"input.path: {', '.join(map(repr, settings.path))} has no rows in {len(files):,} files.")
    if settings.ties == "fail" and inventory.ties:
        raise InputRefused(
            f"{inventory.ties:,} rows have the same {', '.join(settings.time)} as the row of their entity before "
            'them: add a column to input.time that breaks ties, or set faults.ties = "keep".'
        )
    return inventory


def write_plan(folder: str, plan: Plan) -> None:
    """Write the plan into `folder`, which is made where it is missing; a plan that is there is replaced."""
    os.makedirs(folder, exist_ok=True)
    Path(folder, HEAD_FILE).unlink(missing_ok=True)
    with _replacing(os.path.join(folder, PLAN_FILE)) as path, _segment_writer(path, plan) as writer:
        for shard in plan.shards:
            segments = plan.segments(shard.index)
            writer.write_table(segments, row_group_size=segments.num_rows)
    with _replacing(os.path.join(folder, BAD_FILE)) as path:
        pq.write_table(plan.inventory.bad, path)
    with _replacing(os.path.join(folder, HEAD_FILE)) as path:
        Path(path).write_text(json.dumps({"format": _FORMAT, **dataclasses.asdict(plan.head)}, indent=1))


def read_plan(folder: str, *, check_files: bool = True) -> PlanHead:
    """The plan in `folder`, without its segments; its input files are checked to be as they were planned.

    Raises RunFailed where there is no whole plan, InputBroken where a file of the input changed.
    """
    path = Path(folder, HEAD_FILE)
    try:
        stored = json.loads(path.read_text())
        head = _head(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"{path} is no plan that can be read: remove the folder {folder} and start again.") from error
    if check_files:
        check_unchanged(head)
    return head


def read_segments(folder: str, shard_index: int) -> Any:
    """The segment table (pa.Table) of one shard; see `cluster.core.plan.segment_schema`. Raises RunFailed."""
    path = os.path.join(folder, PLAN_FILE)
    try:
        with pq.ParquetFile(path) as parquet:
            return parquet.read_row_group(shard_index, use_threads=False)
    except (OSError, IndexError, pa.ArrowException) as error:
        raise RunFailed(
            f"Shard {shard_index} cannot be read from {path}: {first_line(error)}; run the same command again, and if "
            f"that does not help, remove the folder {folder} first."
        ) from error


def read_bad(folder: str) -> Any:
    """The rows without entity or time (pa.Table): key__ columns, reason, file, row. Raises RunFailed."""
    path = os.path.join(folder, BAD_FILE)
    try:
        return pq.read_table(path, use_threads=False, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise RunFailed(f"{path} cannot be read: remove the folder {folder} and start again.") from error


def _segment_writer(path: str, plan: Plan) -> Any:
    return pq.ParquetWriter(path, segment_schema(plan.inventory.keys.schema), compression="zstd")


def _head(stored: dict[str, Any]) -> PlanHead:
    if stored.pop("format") != _FORMAT:
        raise ValueError("written by another version")
    files = tuple(
        SourceFile(**{**file, "row_group_rows": tuple(file["row_group_rows"])}) for file in stored.pop("files")
    )
    shards = tuple(Shard(**shard) for shard in stored.pop("shards"))
    entity, time = tuple(stored.pop("entity")), tuple(stored.pop("time"))
    return PlanHead(files=files, shards=shards, entity=entity, time=time, **stored)


@contextmanager
def _replacing(path: str) -> Iterator[str]:
    """A temporary name to write under; on success it is synced and becomes `path`."""
    temporary = os.path.join(os.path.dirname(path), f"_{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(os.path.dirname(path))
    finally:
        Path(temporary).unlink(missing_ok=True)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
