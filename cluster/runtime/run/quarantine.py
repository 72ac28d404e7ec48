"""What no shard has: rows that no entity owns, and files that cannot be read. Published beside the shards' lines.

A lost file has one line, whatever else its entity has in quarantine. Nobody can count its rows: the line says 0, and
they are in none of a run's totals.
"""

from __future__ import annotations

from typing import cast

import pyarrow as pa

from cluster.core.arrow_types import ArrowValues
from cluster.core.commit import QUARANTINE, STAGED
from cluster.core.plan.inventory import LostFile, why_lost
from cluster.core.plan.shard_plan import PlanHead, entity_keys
from cluster.core.settings import OutputSettings
from cluster.runtime.commit.commit import Commits
from cluster.runtime.plan.plan_files import read_bad, read_lost
from cluster.runtime.storage.parquet_tables import write_table

BAD_ROWS, LOST_FILES = "rows-without-key-", "lost-files-"  # how quarantine's own files begin
SENTENCES = {
    "null_entity": "a column of the entity is null",
    "null_time": "a column of the time is null",
    "bad_time": "the time is no ISO time",
}


def publish_unowned(commits: Commits, head: PlanHead, run: str, output: OutputSettings) -> None:
    """Writes the rows without an entity or a time, and the lost files, which the plan found.

    Again and again with the same outcome.
    """
    if head.rows_bad:
        _publish(commits, f"{BAD_ROWS}{run}.parquet", _of_rows(read_bad(commits.store)), output)
    if head.files_lost:
        _publish(commits, f"{LOST_FILES}{run}.parquet", _of_files(read_lost(commits.store)), output)


def _publish(commits: Commits, name: str, lines: pa.Table, output: OutputSettings) -> None:
    staged = f"{STAGED}/{name}.{commits.fence.number}"
    write_table(commits.store, staged, lines, output.compression)
    commits.store.publish(staged, f"{QUARANTINE}/{name}")


def _of_rows(bad: pa.Table) -> pa.Table:
    reasons = [SENTENCES[reason] for reason in _texts(bad, "reason")]
    return _lines(bad, reasons, rows=1, row=bad.column("row").cast(pa.int64()))


def _of_files(lost: pa.Table) -> pa.Table:
    if "reason" in lost.column_names:
        reasons = _texts(lost, "reason")
    else:  # of a plan that an earlier version has made
        reasons = [why_lost(LostFile(path, (), "")) for path in _texts(lost, "file")]
    return _lines(lost, reasons, rows=0, row=pa.nulls(len(reasons), pa.int64()))


def _texts(found: pa.Table, name: str) -> list[str]:
    return cast("list[str]", found.column(name).to_pylist())


def _lines(found: pa.Table, reasons: list[str], *, rows: int, row: ArrowValues) -> pa.Table:
    """Lines of quarantine for what was found (key__ columns + file), each with so many rows."""
    table = entity_keys(found)
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    table = table.append_column("rows", pa.array([rows] * len(reasons), pa.int64()))
    table = table.append_column("file", found.column("file"))
    table = table.append_column("row", row)
    return table.append_column("time", pa.nulls(len(reasons), pa.string()))
