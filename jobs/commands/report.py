"""`slotcar report OUTPUT`: the run as one self-contained HTML page, for a person the morning after.

The page is `OUTPUT/_slotcar/report.html`, and `score` writes it by itself at the end of a session, from at most
`ROWS_AT_END` rows of scores so that it takes seconds at most. A report that cannot be made costs the run nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rich.console import RenderableType

from cluster.runtime.commit.commit import REPORT
from cluster.runtime.commit.run_json import only_looking
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.watch.report_figures import gather_figures
from jobs.report.report_page import page
from jobs.report.report_story import tell_story
from lstm_core.json_types import JsonObject

ROWS_AT_END = 5_000_000

log = logging.getLogger("slotcar")


@dataclass(frozen=True)
class Reported:
    """The page that was written."""

    report: str  # where
    run_id: str
    status: str
    against: str | None  # the run that the scores are compared with
    bytes: int

    def as_dict(self) -> JsonObject:
        """As plain values, for JSON."""
        return dict(vars(self))

    def render(self) -> RenderableType:
        """Where the page is."""
        return self.report


def run(output: str | StoreSpec, against: str | None = None, *, rows_max: int | None = None) -> Reported:
    """Writes the report of the run in `output`; its scores are compared with those of `against`.

    Without `against` that is the run in the folder beside it that was finished last before it. Raises `UsageError`
    where there is no run, `StoreFault` where the page cannot be written.
    """
    with only_looking(output.url if isinstance(output, StoreSpec) else output):
        figures = gather_figures(output, against=against, rows_max=rows_max)
        content = page(figures, tell_story(figures.lines, figures.record["slots"])).encode()
    store = open_store(StoreSpec.named(output))
    store.write(REPORT, content)
    record = figures.record
    return Reported(store.path(REPORT), record["run_id"], record["status"], figures.against, len(content))


def write_at_end(output: StoreSpec) -> None:
    """The report of a session that has ended; whatever goes wrong is said and left at that."""
    try:
        run(output, rows_max=ROWS_AT_END)
    except Exception as error:  # a page is never worth a run
        log.warning("no report was written for %s: %s: %s", output.url, type(error).__name__, error)
