"""What no shard has: rows that no entity owns, and files that cannot be read. Published beside the shards' lines.

A lost file has one line, whatever else its entity has in quarantine. Nobody can count its rows: the line says 0, and
they are in none of a run's totals.
"""

from __future__ import annotations

from typing import cast

import pyarrow as pa

from cluster.core.commit import QUARANTINE, STAGED
from cluster.core.own_columns import quarantine_lines
from cluster.core.plan.inventory import LostFile, why_lost
from cluster.core.plan.shard_plan import PlanHead, entity_keys
from cluster.core.settings import OutputSettings
from cluster.runtime.commit.commit import Commits
from cluster.runtime.plan.plan_files import read_bad, read_lost
from cluster.runtime.rows.planned_keys import keys_as_read
from cluster.runtime.rows.row_origins import InputFiles
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
    files = InputFiles.of(head, commits.store, output.storage)
    if head.rows_bad:
        _publish(commits, f"{BAD_ROWS}{run}.parquet", _of_rows(read_bad(commits.store), files), output)
    if head.files_lost:
        _publish(commits, f"{LOST_FILES}{run}.parquet", _of_files(read_lost(commits.store), files), output)


def _publish(commits: Commits, name: str, lines: pa.Table, output: OutputSettings) -> None:
    staged = f"{STAGED}/{name}.{commits.fence.number}"
    write_table(commits.store, staged, lines, output.compression)
    commits.store.publish(staged, f"{QUARANTINE}/{name}")


def _of_rows(bad: pa.Table, files: InputFiles) -> pa.Table:
    reasons = [SENTENCES[reason] for reason in _texts(bad, "reason")]
    keys = keys_as_read(entity_keys(bad), files)
    return quarantine_lines(keys, reasons, [1] * len(reasons), (bad.column("file"), bad.column("row")))


def _of_files(lost: pa.Table, files: InputFiles) -> pa.Table:
    if "reason" in lost.column_names:
        reasons = _texts(lost, "reason")
    else:  # of a plan that an earlier version has made
        reasons = [why_lost(LostFile(path, (), "")) for path in _texts(lost, "file")]
    place = (lost.column("file"), pa.nulls(len(reasons), pa.int64()))
    return quarantine_lines(keys_as_read(entity_keys(lost), files), reasons, [0] * len(reasons), place)


def _texts(found: pa.Table, name: str) -> list[str]:
    return cast("list[str]", found.column(name).to_pylist())
