"""A run's scores appended to a Delta table: one commit for the whole run, and never a second one.

The commit carries a transaction of Delta's own, whose application is the run. So a session that died between this
commit and `_SUCCESS`, or lost its answer, is found out by asking the table. Fragments are streamed from the output, a
batch at a time; they stay where they are. What the table's columns are is for its library to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.settings import OutputSettings
from cluster.run_errors import OutputRefused, RunFailed, first_line
from cluster.runtime.commit.commit import Commits
from cluster.runtime.listing.table_formats import delta_options
from cluster.runtime.storage.parquet_tables import read_batches
from cluster.runtime.storage.store import Store

if TYPE_CHECKING:
    from deltalake import DeltaTable

TRANSACTION = 1  # of a run, which has no other


def check_delta(output: OutputSettings) -> None:
    """Refuses, before anything is started, a table that cannot be opened. Raises OutputRefused."""
    if output.delta is None:
        return
    try:
        _open(output)
    except ImportError:
        raise OutputRefused("output.delta is set: install slotcar[delta] to write a Delta table.") from None
    except Exception as error:  # the library has no common class of its own
        raise OutputRefused(f"output.delta {output.delta} cannot be opened: {first_line(error)}.") from None


def append_to_delta(commits: Commits, output: OutputSettings, run: str, run_id: str) -> None:
    """Appends all fragments' rows in one commit, unless that was done. Raises LockLost, RunFailed."""
    names = [record.file for record in commits.records() if record.file is not None]
    if output.delta is None or not names:
        return
    commits.fence.check()
    try:
        if not _has(output, run):
            _append(commits.store, output, names, (f"slotcar-{run}", run_id))
    except Exception as error:  # as above
        if not _landed(output, run):
            raise RunFailed(
                f"The scores could not be appended to output.delta {output.delta}: {first_line(error)}; mend that, and "
                "the same command goes on from here."
            ) from error


def _append(store: Store, output: OutputSettings, names: Sequence[str], run: tuple[str, str]) -> None:
    from deltalake import CommitProperties, Transaction, write_deltalake

    assert output.delta is not None, "asked before"
    application, run_id = run
    write_deltalake(
        output.delta,
        pa.RecordBatchReader.from_batches(_schema(store, names[0]), _rows(store, names)),
        mode="append",
        storage_options=delta_options(output.delta, output.storage),
        commit_properties=CommitProperties(
            custom_metadata={"slotcar.run_id": run_id}, app_transactions=[Transaction(application, TRANSACTION)]
        ),
    )


def _rows(store: Store, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for name in names:
        yield from read_batches(store, name)


def _schema(store: Store, name: str) -> pa.Schema:
    with store.open_input(name) as file:
        return pq.read_schema(file).remove_metadata()


def _has(output: OutputSettings, run: str) -> bool:
    table = _open(output)
    return table is not None and table.transaction_version(f"slotcar-{run}") is not None


def _landed(output: OutputSettings, run: str) -> bool:
    try:
        return _has(output, run)
    except Exception:  # then nobody knows, and the next session asks again
        return False


def _open(output: OutputSettings) -> DeltaTable | None:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    assert output.delta is not None, "asked before"
    try:
        return DeltaTable(output.delta, storage_options=delta_options(output.delta, output.storage))
    except TableNotFoundError:
        return None
