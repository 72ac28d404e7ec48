"""`slotcar status OUTPUT`: how far a run has come, whether somebody is at it, and what to do next. Touches nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import RenderableType
from rich.table import Table

from cluster.runtime.commit.run_json import only_looking
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.watch.progress import progress_line
from cluster.runtime.watch.run_status import RunStatus, State, read_status
from cluster.runtime.watch.timeline import read_now
from lstm_core.json_types import JsonObject

FOLLOW_S = 2.0  # between two looks; the driver itself speaks every 5 seconds

NEXT: dict[State, str] = {
    "running": "wait: a driver is at work",
    "broken": "the driver is gone: give the same command again, it goes on from what is committed",
    "failed": "do as the failure says; where it does not ask for another output, the same command goes on from what is "
    "committed",
    "stopped": "give the same command again, it goes on from what is committed",
    "done": "nothing: all rows are scored or in quarantine",
    "quarantine": "look into _quarantine: mend the rows and give a new output.path, or give the same command a higher "
    "faults.quarantine_limit",
}


@dataclass(frozen=True)
class StatusReport:
    """A run's status, with what to do next."""

    found: RunStatus

    @property
    def status(self) -> State:
        """One word of how the run stands, as the table and the JSON have it."""
        return self.found.status

    @property
    def next_step(self) -> str:
        """What to do next, in words."""
        return NEXT[self.status]

    def as_dict(self) -> JsonObject:
        """The status as plain values, for JSON."""
        return {**asdict(self.found), "next": self.next_step}

    def render(self) -> RenderableType:
        """The status as a table for a terminal."""
        found = self.found
        table = Table(title=f"{found.output}: {found.status}", title_justify="left", show_header=False)
        table.add_row("run", found.run_id)
        table.add_row("rows", _share(found.rows_done, found.rows_total))
        table.add_row("rows in quarantine", f"{found.rows_quarantined:,}, with those without an entity or a time")
        if found.files_lost:
            table.add_row("files that cannot be read", f"{found.files_lost:,}: nobody can count the rows in them")
        table.add_row("entities", _share(found.entities_done, found.entities_total))
        table.add_row("shards", _share(found.shards_done, found.shards_total))
        table.add_row("fragments", f"{found.fragments:,}")
        table.add_row("started", found.started_at or "")
        table.add_row("last commit", found.last_commit_at or "none yet")
        if found.driver is not None:
            table.add_row("driver", self._driver())
        elif found.finished_at is not None:
            table.add_row("ended", found.finished_at)
        if found.error is not None:
            table.add_row("failure", found.error)
        table.add_row("next", self.next_step)
        return table

    def _driver(self) -> str:
        driver = self.found.driver
        assert driver is not None
        age = "no heartbeat yet" if driver.heartbeat_age_s is None else f"heartbeat {driver.heartbeat_age_s:.0f} s ago"
        return f"process {driver.pid} on {driver.host} since {driver.since}, {age}"


def run(output: str) -> StatusReport:
    """The status of the run in `output`. Raises `UsageError` where there is none."""
    with only_looking(output):
        return StatusReport(read_status(open_store(StoreSpec.named(output))))


def follow(output: str, pause: Callable[[float], None] = time.sleep) -> StatusReport:
    """Shows the progress on stderr for as long as a driver is at work, then returns what has become of the run."""
    store = open_store(StoreSpec.named(output))
    with progress_line() as line:
        while (report := run(output)).found.status == "running":
            progress = read_now(store)
            if progress is not None:
                line.show(progress)
            pause(FOLLOW_S)
    return report


def _share(done: int, total: int | None) -> str:
    if total is None:
        return "not planned yet"
    return f"{done:,} of {total:,}" + (f" ({done / total:.1%})" if total else "")
