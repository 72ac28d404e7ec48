"""The first look at an input: what is begun without a cluster is the same look, and nothing of it is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from cluster.runtime.fleet import task_map
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.run import early_scan
from cluster.runtime.run.early_scan import EarlyScan
from cluster.runtime.shuffle.shuffle import scan_layout
from tests.inputs.series import make_series, write_cut
from tests.unit.cluster.runtime.shuffle.test_shuffle import asked, numbered

ROWS = 100
FILES = 6


@pytest.fixture
def settings(tmp_path: Path) -> InputSettings:
    write_cut(tmp_path / "in", numbered(make_series([10] * FILES)), [10] * FILES)
    return asked(tmp_path / "in")


@dataclass
class Workers:
    """A cluster's `map`, and what it was given."""

    given: list[Any] = field(default_factory=list)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        self.given += items
        return map(function, items)


def plain(settings: InputSettings) -> Any:
    look = scan_layout(settings, list_files(settings), map, ROWS)
    assert look.inventory is not None
    return look.inventory.entity_rows.tolist(), [file.path for file in look.inventory.files], look.why


def seen(look: Any) -> Any:
    return look.inventory.entity_rows.tolist(), [file.path for file in look.inventory.files], look.why


def test_a_small_input_is_seen_before_there_is_a_cluster(settings: InputSettings) -> None:
    look, workers = EarlyScan(settings, ROWS), Workers()
    with look.begun():
        found = look.finish(workers.map)
    assert seen(found) == plain(settings)
    assert workers.given == []
    assert look.ahead_s >= 0


def test_what_wants_a_worker_waits_for_the_cluster_and_nothing_is_done_twice(
    settings: InputSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = []
    monkeypatch.setattr(task_map, "WORKER_START_S", 0.0)
    monkeypatch.setattr(early_scan, "list_files", lambda given: lists.append(1) or list_files(given))
    look, workers = EarlyScan(settings, ROWS), Workers()
    with look.begun():
        found = look.finish(workers.map)
    assert seen(found) == plain(settings)
    assert workers.given == [[path] for path in sorted(list_files(settings))[1:]]  # the driver has read the first
    assert lists == [1]


def test_a_look_that_was_not_begun_is_taken_on_the_cluster(settings: InputSettings) -> None:
    look, workers = EarlyScan(settings, ROWS), Workers()
    assert seen(look.finish(workers.map)) == plain(settings)
    assert len(workers.given) == FILES
    assert look.ahead_s == 0


def test_a_fault_is_told_to_who_asks_for_the_end(settings: InputSettings) -> None:
    first = Path(min(list_files(settings)))
    first.with_name("zz.parquet").write_bytes(first.read_bytes())  # its entity comes back
    look = EarlyScan(replace(settings, layout="clustered"), ROWS)
    with look.begun(), pytest.raises(InputRefused, match="interleaved"):
        look.finish(map)
