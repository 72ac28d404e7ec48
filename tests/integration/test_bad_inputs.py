"""Inputs with something wrong in them: each row is counted once, and what is quarantined is named, however rows lie.

Every case runs twice, as the input lies and clustered first; both must count alike and name the same rows. The base is
five entities of 6, 5, 4, 3 and 2 rows, one minute or more apart, in two files of 8 and 12 rows.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import Fill, StepSettings
from cluster.run_errors import InputBroken, InputRefused, RunFailed
from cluster.runtime.audit.audit import audit
from cluster.runtime.storage.local_store import LocalStore
from lstm_core.errors import SlotcarError
from tests.harness.inprocess import Job, run
from tests.inputs.damage import DAMAGES, WHAT
from tests.inputs.series import make_series, replace, with_nulls, with_ties, with_time_type, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = (6, 5, 4, 3, 2)
ROWS = 20
FIRST_FILE = 8
MODEL = save(FIT["lstm"]())
FEATURES = (("rows", ("f0", "f1", "f2")),)
DEAD = "null and [input.fill] names no value for it"

Spoil = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """What is done to the base, and what must come of it."""

    name: str
    spoil: Spoil
    lost: dict[int, tuple[str, int]] = field(default_factory=dict)  # row of the base -> (reason, rows in quarantine)
    skipped: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def put(column: str, values: dict[int, Any], kind: Any = None) -> Spoil:
    """Puts values into a column at the given rows, the column cast to `kind` first."""

    def spoil(table: Any) -> Any:
        found = table.column(column)
        found = (found.cast(kind) if kind else found).combine_chunks()
        listed = found.to_pylist()
        for row, value in values.items():
            listed[row] = value
        return replace(table, column, pa.array(listed, found.type))

    return spoil


def nulls(column: str, *rows: int) -> Spoil:
    return lambda table: with_nulls(table, column, rows)


def both(*spoils: Spoil) -> Spoil:
    def spoil(table: Any) -> Any:
        for one in spoils:
            table = one(table)
        return table

    return spoil


def as_texts(values: dict[int, str | None]) -> Spoil:
    """Times as ISO texts, some replaced."""
    return both(lambda table: with_time_type(table, pa.string()), put("time", values))


def in_decimals(values: dict[int, Any]) -> Spoil:
    def spoil(table: Any) -> Any:
        exact = [decimal.Decimal(f"{value:.3f}") for value in table.column("f0").to_pylist()]
        for row, value in values.items():
            exact[row] = value
        return replace(table, "f0", pa.array(exact, pa.decimal128(9, 3)))

    return spoil


def with_times(values: dict[int, datetime.datetime]) -> Spoil:
    return put("time", dict(values))


NO_ENTITY, NO_TIME, NO_ISO = "a column of the entity is null", "a column of the time is null", "the time is no ISO time"
MINUTE_8 = "2026-01-01T00:08:00"
FAR = datetime.datetime(2200, 1, 1)

CASES = (
    Case("nothing wrong", lambda table: table),
    Case("a null entity", nulls("entity", 3), {3: (NO_ENTITY, 1)}),
    Case("null entities at every border", nulls("entity", 0, 7, 8, 19), dict.fromkeys((0, 7, 8, 19), (NO_ENTITY, 1))),
    Case("all entities null", nulls("entity", *range(ROWS)), dict.fromkeys(range(ROWS), (NO_ENTITY, 1))),
    Case("a whole entity null", nulls("entity", 18, 19), dict.fromkeys((18, 19), (NO_ENTITY, 1))),
    Case("a null time", nulls("time", 7), {7: (NO_TIME, 1)}),
    Case("null times at every border", nulls("time", 0, 5, 6, 19), dict.fromkeys((0, 5, 6, 19), (NO_TIME, 1))),
    Case("all times null", nulls("time", *range(ROWS)), dict.fromkeys(range(ROWS), (NO_TIME, 1))),
    Case("neither entity nor time", both(nulls("entity", 4), nulls("time", 4)), {4: (NO_ENTITY, 1)}),
    Case("a null feature in the middle", nulls("f1", 3), {3: (f"f1 is {DEAD}", 3)}),
    Case("a null feature in the first row", nulls("f1", 6), {6: (f"f1 is {DEAD}", 5)}),
    Case("a null feature in the last row", nulls("f1", 19), {19: (f"f1 is {DEAD}", 1)}),
    Case(
        "a null feature in every row",
        nulls("f0", *range(ROWS)),
        {row: (f"f0 is {DEAD}", length) for row, length in zip((0, 6, 11, 15, 18), LENGTHS, strict=True)},
    ),
    Case("two bad rows of one entity", nulls("f1", 2, 4), {2: (f"f1 is {DEAD}", 4)}),
    Case("two bad columns of one row", both(nulls("f2", 2), nulls("f1", 2)), {2: (f"f1 is {DEAD}", 4)}),
    Case("bad rows of two entities", nulls("f1", 5, 6), {5: (f"f1 is {DEAD}", 1), 6: (f"f1 is {DEAD}", 5)}),
    Case("a bad row behind the file's border", nulls("f1", 8), {8: (f"f1 is {DEAD}", 3)}),
    Case("NaN", put("f0", {12: float("nan")}), {12: (f"f0 is {DEAD}", 3)}),
    Case("infinity", put("f0", {12: float("inf")}), {12: ("f0 is infinite", 3)}),
    Case("minus infinity", put("f2", {0: -float("inf")}), {0: ("f2 is infinite", 6)}),
    Case("too large for float32", put("f0", {12: 1e300}, pa.float64()), {12: ("f0 is infinite", 3)}),
    Case("infinity in float16", put("f0", {9: np.float16("inf")}, pa.float16()), {9: ("f0 is infinite", 2)}),
    Case("a null decimal", in_decimals({10: None}), {10: (f"f0 is {DEAD}", 1)}),
    Case("a null among booleans", put("f1", {4: None}, pa.bool_()), {4: (f"f1 is {DEAD}", 2)}),
    Case(
        "a null among whole numbers",
        lambda table: replace(table, "f1", pa.array([None if row == 4 else row for row in range(ROWS)], pa.int8())),
        {4: (f"f1 is {DEAD}", 2)},
    ),
    Case("a null that has a fill", nulls("f1", 3), settings={"fill": {"f1": Fill(value=0.0)}}),
    Case("NaN that has a fill", put("f1", {3: float("nan")}), settings={"fill": {"f1": Fill(value=0.0)}}),
    Case(
        "infinity that a fill does not mend",
        put("f1", {3: float("inf")}),
        {3: ("f1 is infinite", 3)},
        settings={"fill": {"f1": Fill(value=0.0)}},
    ),
    Case("a null filled with the value before", nulls("f1", 3), settings={"fill": {"f1": Fill(previous=True)}}),
    Case(
        "a null with no value before",
        nulls("f1", 6),
        {6: ('f1 is null and its entity has no earlier value that "previous" could repeat', 5)},
        settings={"fill": {"f1": Fill(previous=True)}},
    ),
    Case("text that is no time", as_texts({3: "yesterday"}), {3: (NO_ISO, 1)}),
    Case("a day that is none", as_texts({3: "2026-02-30"}), {3: (NO_ISO, 1)}),
    Case("an empty time", as_texts({3: ""}), {3: (NO_ISO, 1)}),
    Case("a time outside of what 64 bits of nanoseconds hold", as_texts({3: "9999-01-01"})),
    Case("a null among time texts", as_texts({3: None}), {3: (NO_TIME, 1)}),
    Case("rows before since", lambda table: table, skipped=15, settings={"since": MINUTE_8}),
    Case("rows from until on", lambda table: table, skipped=5, settings={"until": MINUTE_8}),
    Case(
        "a bad row that is skipped", both(nulls("f1", 0), nulls("entity", 1)), skipped=15, settings={"since": MINUTE_8}
    ),
    Case(
        "a row without a time is not skipped",
        nulls("time", 0),
        {0: (NO_TIME, 1)},
        skipped=14,
        settings={"since": MINUTE_8},
    ),
    Case("everything skipped", lambda table: table, skipped=ROWS, settings={"since": "2030-01-01"}),
    Case("equal times", lambda table: with_ties(table, range(1, ROWS, 2))),
    Case(
        "equal times with a bad row",
        both(lambda table: with_ties(table, [3]), nulls("f1", 3)),
        {3: (f"f1 is {DEAD}", 3)},
    ),
    Case("a row out of order", with_times({0: FAR})),
    Case("a bad row out of order", both(with_times({0: FAR}), nulls("f0", 0)), {0: (f"f0 is {DEAD}", 1)}),
)


def job(folder: Path, **settings: Any) -> Job:
    return Job(
        MODEL,
        folder / "in",
        folder / f"out-{settings.get('layout', 'auto')}",
        FEATURES,
        step=StepSettings(4, 4),
        input=settings,
        quarantine_limit=1.0,
    )


def quarantined(output: Path) -> list[tuple[Any, ...]]:
    """(file, row, entity, reason, rows, time) of all quarantine files."""
    names = ("file", "row", "entity", "reason", "rows", "time")
    tables = [pq.read_table(path, partitioning=None) for path in sorted((output / "_quarantine").glob("*.parquet"))]
    return sorted(
        (row for table in tables for row in zip(*(table.column(name).to_pylist() for name in names), strict=True)),
        key=lambda row: row[:2],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_is_counted_and_every_bad_one_named(tmp_path: Path, case: Case) -> None:
    table = case.spoil(make_series(LENGTHS))
    write_cut(tmp_path / "in", table, [FIRST_FILE, ROWS - FIRST_FILE], [3])
    lost = sum(rows for _, rows in case.lost.values())
    named = []
    for layout in ("auto", "shuffle"):
        asked = job(tmp_path, layout=layout, **case.settings)
        record = run(asked)
        counts = [record[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped")]
        assert counts == [ROWS, ROWS - lost - case.skipped, lost, case.skipped]
        named.append(quarantined(asked.output))
        assert [check for check in audit(LocalStore(str(asked.output))).checks if check.failures] == []
    assert named[0] == named[1]
    first_row = {"part-000.parquet": 0, "part-001.parquet": FIRST_FILE}
    places = [(first_row[Path(file).name] + row, (reason, rows)) for file, row, _, reason, rows, _ in named[0]]
    assert dict(places) == case.lost
    for row, (*_, entity, reason, _, time) in zip(sorted(case.lost), named[0], strict=True):
        assert entity == table.column("entity")[row].as_py()
        assert (time is None) == (reason in (NO_ENTITY, NO_TIME, NO_ISO))


def test_bad_entity_fail_ends_the_run_with_the_rows_place(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", nulls("f1", 9)(make_series(LENGTHS)), [FIRST_FILE, ROWS - FIRST_FILE])
    for layout in ("auto", "shuffle"):
        with pytest.raises(RunFailed, match=r"part-001\.parquet, row 1: f1 is null"):
            run(job(tmp_path, layout=layout, bad_entity="fail"))


def test_ties_that_are_not_wanted_refuse_the_input(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", with_ties(make_series(LENGTHS), [3, 4]))
    for layout in ("auto", "shuffle"):
        with pytest.raises(InputRefused, match="2 rows have the same time"):
            run(job(tmp_path, layout=layout, ties="fail"))


def test_an_input_without_rows_is_refused(tmp_path: Path) -> None:
    write_cut(tmp_path / "in", make_series([]), [0, 0])
    for layout in ("auto", "shuffle"):
        with pytest.raises(InputRefused, match="no rows in 2 files"):
            run(job(tmp_path, layout=layout))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_a_file_whose_keys_cannot_be_read_ends_the_run_and_mended_it_is_scored(
    tmp_path: Path, damage: Callable[[Path], None], layout: str
) -> None:
    _, path = write_cut(tmp_path / "in", make_series(LENGTHS), [FIRST_FILE, ROWS - FIRST_FILE])
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(InputBroken, match=rf"part-001\.parquet {WHAT[damage.__name__]}") as found:
        run(job(tmp_path, layout=layout))
    assert found.value.exit_code == 1
    path.write_bytes(whole)
    assert run(job(tmp_path, layout=layout))["rows_scored"] == ROWS


def test_other_types_in_another_file_refuse_the_input(tmp_path: Path) -> None:
    write_cut(tmp_path / "in" / "a", make_series([2]))
    write_cut(tmp_path / "in" / "b", with_time_type(make_series([2]), pa.int64()))
    for layout in ("auto", "shuffle"):
        with pytest.raises(SlotcarError, match=r"Column 'time' is int64 in .* but timestamp"):
            run(job(tmp_path, layout=layout))
