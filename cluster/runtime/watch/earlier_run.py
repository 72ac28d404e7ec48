"""The run beside this one, whose scores a report holds against its own: found and read within bounds, or not at all.

What it decides: that it is the run in a folder beside this one that was finished last before this one began, and has
the same score columns; and how much of a neighbour is believed. A folder beside may hold anything: a run whose scores
retention has removed, one of another version, a file of somebody else's, a pipe, something without an end. So only
plain files of a reasonable size are read, their figures must be those of their records, and time is limited. Whatever
is wrong is a fault here, for the caller to say in a few words: it costs the comparison, never the report.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.commit import COMMITS, Fragment
from cluster.run_errors import OVER_VALUES
from cluster.runtime.commit.commit import RUN, Commits
from cluster.runtime.commit.run_request import REQUEST, read_request
from cluster.runtime.storage.open_parquet import read_footer
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.store import Store
from lstm_core.errors import SlotcarError

RUNS_MAX = 200  # beside this one, of which the newest are looked at
JSON_BYTES_MAX = 64 << 20  # a request has its vocabularies in it
RECORDS_MAX = 100_000
ROWS_MAX = 20_000_000
SECONDS_MAX = 30.0
VALUE_BYTES_MAX, GROUP_BYTES = 16, 1 << 20  # of a score in a file, and of what stands beside them


class NotComparable(Exception):
    """What keeps a run from being compared with, to go on from its name."""


def find_earlier(store: Store, names: Sequence[str]) -> Store | None:
    """The run beside the one in `store`; None where there is none, as in a store whose folders cannot be listed."""
    here, began = Path(store.root), (Commits(store).run_record() or {}).get("started_at")
    if not here.is_absolute() or not isinstance(began, str):
        return None
    ended = [(when, str(place)) for place in _neighbours(here) if (when := _ended(place, names)) and when <= began]
    return open_store(StoreSpec(max(ended)[1])) if ended else None


def _neighbours(here: Path) -> list[Path]:
    """The folders beside this one that have a run in them, those with the newest records."""
    found = []
    with os.scandir(here.parent) as entries:
        for entry in entries:
            if entry.name != here.name and (size_age := _plain_file(Path(entry.path) / RUN)) is not None:
                found.append((size_age[1], Path(entry.path)))
    return [place for _, place in sorted(found, reverse=True)[:RUNS_MAX]]


def _plain_file(path: Path) -> tuple[int, float] | None:
    """The size and age of a plain file that is not too large to be a record; None for all else."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) and found.st_size <= JSON_BYTES_MAX else None


def _ended(place: Path, names: Sequence[str]) -> str | None:
    """When the run there was finished, where it was and has these scores."""
    if _plain_file(place / REQUEST) is None:
        return None
    try:
        other = open_store(StoreSpec(str(place)))
        request, record = read_request(other), Commits(other).run_record()
        same = request is not None and list(request.output.names) == list(names)
        ended = record.get("finished_at") if same and record and record.get("status") == "done" else None
    except (SlotcarError, OSError, AttributeError, *OVER_VALUES):
        return None
    return ended if isinstance(ended, str) else None


@dataclass
class Within:
    """How much of a run may be read."""

    rows_max: int = ROWS_MAX
    until_s: float = field(default_factory=lambda: time.monotonic() + SECONDS_MAX)

    def check(self) -> None:
        """Raises NotComparable when time is up."""
        if time.monotonic() > self.until_s:
            raise NotComparable(f"it could not be read within {SECONDS_MAX:.0f} seconds")


def read_records(store: Store, within: Within) -> list[Fragment]:
    """The commit records of a run beside this one. Raises NotComparable, StoreFault, and what a foreign file gives."""
    folder, found = Path(store.root) / COMMITS, []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, RECORDS_MAX + 1) if entry.name.endswith(".json"))
    if len(names) > RECORDS_MAX:
        raise NotComparable(f"it has more than {RECORDS_MAX:,} records")
    for name in names:
        within.check()
        if _plain_file(folder / name) is None:
            raise NotComparable(f"its record {name} is no plain file")
        found.append(Fragment.from_json(store.read(f"{COMMITS}/{name}").decode()))
        if "/" in (found[-1].file or ""):
            raise NotComparable(f"its record {name} names a file that is not its own")
    return found


def check_whole(store: Store, records: list[Fragment]) -> list[Fragment]:
    """The records, where they are all of a run that is done. Raises NotComparable."""
    run, rows = Commits(store).run_record() or {}, sum(record.rows for record in records)
    if run.get("status") == "done" and run.get("rows_scored") != rows:
        raise NotComparable(f"it has records of {rows:,} rows, and says that it has scored {run.get('rows_scored')}")
    return records


def check_scores(parquet: pq.ParquetFile, names: Sequence[str], rows: int) -> None:
    """Raises NotComparable where a file is not what a run has written of so many rows with these scores."""
    footer = parquet.metadata
    if footer.num_rows != rows:
        raise NotComparable(f"a file of it has {footer.num_rows:,} rows, and its record says {rows:,}")
    for name in names:
        place = footer.schema.names.index(name) if name in footer.schema.names else -1
        if place < 0 or parquet.schema_arrow.field(name).type != pa.float32():
            raise NotComparable(f"a file of it has no scores {name!r}")
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            if group.column(place).total_uncompressed_size > VALUE_BYTES_MAX * group.num_rows + GROUP_BYTES:
                raise NotComparable(f"a file of it has other scores {name!r} than it says")


def open_scores(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    """A file of scores, once. Raises NotComparable, StoreFault, OSError, ArrowException."""
    with store.open_input(name) as file:
        footer, encrypted = read_footer(file)
        if encrypted:  # pyarrow would end the process over its columns
            raise NotComparable("a file of it is encrypted")
        with pq.ParquetFile(file, metadata=footer) as parquet:
            yield parquet
