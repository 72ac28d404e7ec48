"""Bugs planted in the way in which a run reads its input: `verify` must see every one of them, though it runs with it.

Each bug stands in the place of a function of the run, while the run scores and while it is audited. Where a bug changes
which rows there are, `verify` sees it; where it changes a feature, `verify --rescore` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.core import times
from cluster.core.settings import Fill, StepSettings
from cluster.runtime.audit.rescore_actor import AuditActor
from cluster.runtime.input import key_scan, row_checks
from cluster.runtime.input.row_checks import RowChecks
from cluster.runtime.input.row_groups import RowGroups
from cluster.runtime.rows import block_reader
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.null_filling import Faults
from cluster.runtime.run.run import score
from cluster.runtime.shuffle import bucket_sort, bucket_split
from jobs.commands.verify import Verification
from jobs.commands.verify import run as verify
from tests.harness.inprocess import Job, in_process
from tests.inputs.series import make_series, replace, with_nulls, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = (30, 5, 40, 12)
MODEL = save(FIT["lstm"]())
FEATURES = (("rows", ("f0", "f1", "f2")),)
HOUR = 3600 * 10**6
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A bug, on an input on which it matters."""

    name: str
    plant: Plant
    seen_by: str  # the check that fails
    says: str  # in its first counterexample
    change: Callable[[Any], Any] = lambda table: table  # what the input is made of
    shuffled: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    nights: int = 1  # the bug is there in the last one


def around(owner: Any, name: str, change: Callable[..., Any]) -> Plant:
    """What a function hands back is changed; `change` is given its arguments too."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        whole = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **kwargs: change(whole(*args, **kwargs), *args, **kwargs))

    return plant


def all_of(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in plants:
            one(patch)

    return plant


# ---- bugs of features


def rounds(faults: Any, encoder: Any, table: Any, starts: Any, into: Any, *_: Any) -> Any:
    into[0][:] = np.round(into[0], 2)
    return faults


def is_off_by_one(faults: Any, encoder: Any, table: Any, starts: Any, into: Any, *_: Any) -> Any:
    into[0][1:] = into[0][:-1].copy()
    return faults


def takes_nulls_for_zero(faults: Any, *_: Any) -> Any:
    return Faults()


def refuses_good_rows(faults: Any, *_: Any) -> Any:
    faults.reasons[3] = "f0 is infinite"
    return faults


def halves(table: Any, *_: Any, **__: Any) -> Any:
    """As a cast to the type of another file might."""
    for name in set(table.column_names) & {"f0", "f1", "f2"}:
        table = replace(table, name, pc.divide(table.column(name), pa.scalar(2, pa.float32())))
    return table


def halves_of_all(tables: Any, *_: Any, **__: Any) -> Any:
    return [halves(table) for table in tables]


# ---- bugs of keys and times


def keeps_a_row_back(batches: Any, *_: Any, **__: Any) -> Any:
    found = list(batches)
    keys, moments = found[-1]
    return [*found[:-1], (keys.slice(0, len(keys) - 1), moments.slice(0, len(moments) - 1))]


def promises_less(file: Any, *_: Any, **__: Any) -> Any:
    *groups, last = file.row_group_rows
    return dataclasses.replace(file, rows=file.rows - 1, row_group_rows=(*groups, last - 1))


def lower(column: Any, *_: Any, **__: Any) -> Any:
    return pc.utf8_lower(column) if pa.types.is_large_string(column.type) else column


def to_the_hour(found: Any, *_: Any, **__: Any) -> Any:
    moments, valid, rest = found
    return moments // HOUR, valid, rest


def calls_a_row_bad(verdict: Any, judge: Any, keys: Any, moments: Any, first_row: int) -> Any:
    row = np.arange(len(verdict.good)) == 2
    bad = row_checks._bad_rows(keys, moments, np.flatnonzero(row), first_row)
    return dataclasses.replace(verdict, good=verdict.good & ~row, bad=bad)


def an_hour_later(bound: int, *_: Any, **__: Any) -> int:
    return bound + HOUR


def doubles_a_row(table: Any, *_: Any, **__: Any) -> Any:
    """One row in the place of its neighbour, so that their number is right."""
    rows = np.arange(table.num_rows)
    rows[-1] = rows[-2]
    return table.take(rows)


def nobody_late(found: Any, *_: Any, **__: Any) -> Any:
    return dataclasses.replace(found, late=np.zeros_like(found.late))


# ---- the inputs on which they matter


def two_spellings(table: Any) -> Any:
    names = {"e0000": "Pump", "e0001": "pump"}
    return replace(table, "entity", pa.array([names.get(name, name) for name in table.column("entity").to_pylist()]))


def falling(table: Any) -> Any:
    return table.take(np.arange(table.num_rows)[::-1])


def gappy(table: Any) -> Any:
    return with_nulls(table, "f1", [0, 7, 33, 50])


BUGS = [
    Bug("the encoder rounds", around(Encoder, "encode", rounds), "scores", "alone and unchunked"),
    Bug("the encoder is off by one", around(Encoder, "encode", is_off_by_one), "scores", "alone and unchunked"),
    Bug(
        "the encoder takes a null for zero",
        around(Encoder, "encode", takes_nulls_for_zero),
        "scores",
        "can be scored",
        change=gappy,
    ),
    Bug("the encoder refuses a good row", around(Encoder, "encode", refuses_good_rows), "scores", "can be scored"),
    Bug("row groups are cast", around(RowGroups, "rows", halves), "scores", "alone and unchunked"),
    Bug(
        "a piece of the shuffle is cast",
        around(bucket_split, "_of_group", halves_of_all),
        "scores",
        "alone and unchunked",
        shuffled=True,
    ),
    Bug(
        "the last row of a file is never seen",
        all_of(around(key_scan, "key_batches", keeps_a_row_back), around(key_scan, "describe_source", promises_less)),
        "input",
        "rows, but the plan has",
    ),
    Bug(
        "keys lose their capitals",
        all_of(around(key_scan, "as_plain", lower)),
        "input",
        "is of entity",
        change=two_spellings,
    ),
    Bug("times are to the hour", around(times, "_numbers", to_the_hour), "order", "after a later time", change=falling),
    Bug(
        "times of the shuffle are to the hour",
        around(times, "_numbers", to_the_hour),
        "order",
        "after a later time",
        change=falling,
        shuffled=True,
    ),
    Bug("a good row is called bad", around(RowChecks, "judge", calls_a_row_bad), "exactly once", "is called bad"),
    Bug(
        "since is an hour later",
        around(row_checks, "parse_bound", an_hour_later),
        "exactly once",
        "was asked for",
        settings={"since": "2026-01-01T00:10:00"},
    ),
    Bug(
        "until is an hour later",
        around(row_checks, "parse_bound", an_hour_later),
        "times",
        "not between since and until",
        settings={"until": "2026-01-01T00:20:00"},
    ),
    Bug(
        "a bucket has one row for two",
        around(bucket_sort, "_sorted", doubles_a_row),
        "input",
        "in the buckets more than once",
        shuffled=True,
    ),
    Bug(
        "late rows are scored again",
        around(block_reader, "unscored_rows", nobody_late),
        "times",
        "which is one row more",
        nights=2,
    ),
]


class Case:
    """One input, scored with the bug and audited with it."""

    def __init__(self, folder: Path, bug: Bug) -> None:
        self._folder, self._bug = folder, bug
        table = bug.change(make_series(LENGTHS))
        if bug.shuffled:
            table = table.take(np.random.default_rng(0).permutation(table.num_rows))
        write_cut(folder / "in", table, [50, table.num_rows - 50], [17])
        (folder / "m.keras").write_bytes(MODEL)

    def found(self, plant: Plant) -> Verification:
        for night in range(self._bug.nights):
            last = night == self._bug.nights - 1
            with pytest.MonkeyPatch.context() if last else nullcontext() as patch:
                if patch is not None:
                    plant(patch)
                self._score(night)
                if last:
                    return verify(
                        self._folder / f"out{night}",
                        9,
                        lambda spec, model: nullcontext(AuditActor(spec, model).rescore),
                    )
        raise AssertionError("a case has a night")

    def _score(self, night: int) -> None:
        state: dict[str, Any] = {"write": self._folder / f"state{night}"} if self._bug.nights > 1 else {}
        state |= {"read": self._folder / f"state{night - 1}"} if night else {}
        settings = {"fill": {} if self._bug.change is gappy else {"f1": Fill(0.5)}, **self._bug.settings}
        settings |= {"until": "2026-01-01T00:25:00"} if night < self._bug.nights - 1 else {}
        job = Job(MODEL, self._folder / "in", self._folder / f"out{night}", FEATURES, step=StepSettings(4, 4))
        job = dataclasses.replace(job, input=settings, state=state, quarantine_limit=1.0)
        score(dataclasses.replace(job.request(), model_path=str(self._folder / "m.keras")), open_cluster=in_process)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_audit_sees_a_bug_of_the_run(tmp_path: Path, bug: Bug) -> None:
    seen = {check.name: str(check.first) for check in Case(tmp_path, bug).found(bug.plant).checks if not check.holds}
    assert bug.seen_by in seen, seen
    assert bug.says in seen[bug.seen_by]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_without_the_bug_the_same_run_holds(tmp_path: Path, bug: Bug) -> None:
    found = Case(tmp_path, bug).found(lambda patch: None)
    assert [check for check in found.checks if not check.holds] == []
    assert len(found.rescored) > 1
