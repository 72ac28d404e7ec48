"""The scan of the input, which begins early: while there is no cluster yet.

What it decides: that the driver lists the files and reads what it would read itself (see `task_map`) while a cluster
starts, which takes seconds: of a small input that is all, and the replicas, which start next, have the cores to
themselves. The rest is looked at when the cluster is there. No file is listed or read twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cluster.core.plan.file_list import FileList
from cluster.core.settings import InputSettings
from cluster.runtime.fleet.task_map import NeedsCluster, map_here
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.plan.input_scan import Item, Mapper, Value
from cluster.runtime.shuffle.shuffle import LayoutScan, scan_layout


class EarlyScan:
    """One look at one input."""

    def __init__(self, settings: InputSettings, rows_per_file: int) -> None:
        self._settings, self._rows_per_file = settings, rows_per_file
        self._files: FileList | None = None
        self._values: list[Any] = []  # of the first items of the look's one map, whatever it makes
        self._begun: Future[LayoutScan | None] | None = None
        self._span_s = (0.0, 0.0)  # when it was begun and when that part ended
        self.ahead_s = 0.0  # for how long it was under way before somebody asked for its end

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Looks aside, in a thread that ends with the context."""
        with ThreadPoolExecutor(1, thread_name_prefix="slotcar-look") as aside:
            self._begun = aside.submit(self._begin)
            yield

    def finish(self, mapper: Mapper) -> LayoutScan:
        """What there is to see; `mapper` is the cluster's. Raises InputRefused, InputBroken."""
        asked, found = time.perf_counter(), None
        if self._begun is not None:
            found = self._begun.result()
            begin, end = self._span_s
            self.ahead_s = min(end, asked) - begin
        return found or self._look(self._going_on(mapper))

    def _begin(self) -> LayoutScan | None:
        begin = time.perf_counter()
        try:
            return self._look(self._kept)
        except NeedsCluster:
            return None
        finally:
            self._span_s = (begin, time.perf_counter())

    def _look(self, mapper: Mapper) -> LayoutScan:
        if self._files is None:
            self._files = list_files(self._settings)
        return scan_layout(self._settings, self._files, mapper, self._rows_per_file)

    def _kept(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
        for value in map_here(function, items):
            self._values.append(value)
            yield value

    def _going_on(self, mapper: Mapper) -> Mapper:
        def go_on(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
            yield from self._values
            yield from mapper(function, items[len(self._values) :])

        return go_on
