"""Two nights of a small input, by every road that keys, times, features and kept columns take.

Each night is planned, scored with a bad row in it, audited, scored again by the audit, reported and looked up in the
carry-over; the second one goes on from the first. What must come out is said from outside: scores are Keras's, of each
entity alone, and keys, times and kept values are those that pyarrow reads from the input's own files.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.entity_keys import describe_entity
from cluster.core.value_texts import text_of
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.carry.carry_inspection import OpenTable
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from jobs.commands import plan, report, state, status
from jobs.commands import verify as audit
from jobs.commands.score import request_of
from jobs.config.configuration import Config, load_config
from lstm_core.contract.model_contract import read_contract
from tests.harness.inprocess import in_process
from tests.harness.truth import TOLERANCE, expected
from tests.models.keras_models import FIT, save

ENTITIES, FIRST, ROWS = 3, 6, 10  # rows of an entity: those of the first night, and all
BAD = (1, 3)  # the entity and the row of it that has no value in its second feature
LATE = 2 * ROWS + FIRST - 1  # a row of the first night that comes again on the second
# Rows in order; each entity in the wrong order of time; all rows in any order; in order, and too long to be read whole.
LAYOUTS = ("tidy", "turned", "mixed", "long")
KEYLESS = 2  # rows without an entity, or without a time, on the first night
GROUP_ROWS = 5
START_US, MINUTE_US = 1_700_000_000_000_000, 60_000_000

Column = Callable[[Any], Any]  # numbers (row,) -> a column of such values, which order as the numbers do


@dataclass(frozen=True)
class Spelling:
    """What the columns of an input are called, and what is in them."""

    key: Column = lambda number: pa.array([f"e{one}" for one in number])
    time: Column = lambda place: pa.array(place * MINUTE_US + START_US).cast(pa.timestamp("us"))
    entity: str = "entity"
    order: str = "time"
    features: tuple[str, str, str] = ("f0", "f1", "f2")
    kept: dict[str, Column] = field(default_factory=dict)  # row numbers -> a column that is handed through
    write: dict[str, Any] = field(default_factory=dict)  # options of pq.write_table
    read: dict[str, Any] = field(default_factory=dict)  # options of pq.read_table
    settings: dict[str, Any] = field(default_factory=dict)  # further keys of the configuration, by section


@dataclass
class Night:
    """What a night has read and written."""

    spelling: Spelling
    source: Any  # the input's rows, file after file, as pyarrow reads them
    run: dict[str, Any]
    scores: Any
    quarantine: Any
    output: Path
    state: Path


@cache
def model() -> bytes:
    """One LSTM of three features."""
    return save(FIT["lstm"]())


@cache
def tidy() -> Any:
    """All rows: the number of the entity, the row's place in it, three features and a number of its own."""
    number, place = (index.ravel() for index in np.indices((ENTITIES, ROWS)))
    generator = np.random.default_rng(3)
    features = {f"f{index}": generator.normal(size=len(number)).astype(np.float32) for index in range(3)}
    return pa.table({"entity": number, "place": place, **features, "row_number": np.arange(len(number))})


@cache
def truth() -> Any:
    """The score of each row (row,), by Keras, of its entity alone."""
    return expected(model(), tidy(), read_contract(model(), name="the model"))[:, 0]


def is_scored() -> Any:
    """Which rows (row,) have a score in the end."""
    number, place = (tidy().column(name).to_numpy() for name in ("entity", "place"))
    return (number != BAD[0]) | (place < BAD[1])


def spelt(spelling: Spelling, rows: Any) -> Any:
    """Some rows of `tidy`, by number, as they stand in a file."""
    number, place, row = (tidy().column(name).to_numpy()[rows] for name in ("entity", "place", "row_number"))
    bad = (number == BAD[0]) & (place == BAD[1])
    columns = {spelling.entity: spelling.key(number), spelling.order: spelling.time(place)}
    for index, name in enumerate(spelling.features):
        columns[name] = pa.array(tidy().column(f"f{index}").to_numpy()[rows], mask=bad if index == 1 else None)
    return pa.table(columns | {"row_number": row, **{name: made(row) for name, made in spelling.kept.items()}})


def keyless(spelling: Spelling) -> list[Any]:
    """A row without an entity, and one without a time."""
    rows = spelt(spelling, np.array([0]))
    found = []
    for number, name in enumerate((spelling.entity, spelling.order)):
        place = rows.column_names.index(name)
        nothing = rows.set_column(place, name, pa.nulls(1, rows.column(name).type))
        place = rows.column_names.index("row_number")
        found.append(nothing.set_column(place, "row_number", pa.array([1000 + number])))
    return found


def lay(folder: Path, spelling: Spelling, layout: str, night: int) -> Any:
    """Writes a night's input in two files, and returns its rows as they stand there."""
    first = tidy().column("place").to_numpy() < FIRST
    rows = np.flatnonzero(first if night == 0 else ~first | (np.arange(len(first)) == LATE))
    if layout == "turned":
        number = tidy().column("entity").to_numpy()[rows]
        rows = np.concatenate([rows[number == one][::-1] for one in range(ENTITIES)])
    elif layout == "mixed":
        rows = np.random.default_rng(night).permutation(rows)
    cut = len(rows) // ENTITIES + (layout == "mixed")
    folder.mkdir(parents=True)
    paths = [folder / "a.parquet", folder / "b.parquet"]
    for path, part in zip(paths, (rows[:cut], rows[cut:]), strict=True):
        groups = [spelt(spelling, part[begin : begin + GROUP_ROWS]) for begin in range(0, len(part), GROUP_ROWS)]
        groups += keyless(spelling) if night == 0 and path == paths[1] else []
        with pq.ParquetWriter(path, groups[0].schema, **spelling.write) as writer:
            for group in groups:  # pyarrow cannot write a part of some views
                writer.write_table(group)
    return pa.concat_tables([pq.read_table(path, partitioning=None, **spelling.read) for path in paths])


def config_of(folder: Path, spelling: Spelling, name: str, before: str | None) -> Config:
    """The configuration of a night."""
    (folder / "model.keras").write_bytes(model())
    asked: dict[str, Any] = {
        "model": {"path": str(folder / "model.keras"), "slots": 4, "chunk": 4},
        "input": {
            "path": str(folder / f"in-{name}"),
            "entity": [spelling.entity],
            "time": [spelling.order],
            "features": list(spelling.features),
        },
        "output": {"path": str(folder / f"out-{name}"), "keep": ["row_number", *spelling.kept]},
        "state": {"write": str(folder / f"state-{name}")},
        "faults": {"quarantine_limit": 1.0},
        "cluster": {"replicas": 1},
    }
    if before is not None:
        asked["state"]["read"] = str(folder / f"state-{before}")
    for section, keys in spelling.settings.items():
        asked[section] |= keys
    return load_config(asked)


def _long(spelling: Spelling) -> Spelling:
    """With files of scores that are shorter than an entity."""
    output = {"rows_per_file": 4, **spelling.settings.get("output", {})}
    return replace(spelling, settings={**spelling.settings, "output": output})


def go(folder: Path, spelling: Spelling, layout: str) -> list[Night]:
    """Both nights by every road; each is checked as far as it can be said of any types."""
    nights: list[Night] = []
    for index, (name, before) in enumerate((("first", None), ("second", "first"))):
        source = lay(folder / f"in-{name}", spelling, layout, index)
        config = config_of(folder, spelling if layout != "long" else _long(spelling), name, before)
        planned = plan.run(config)
        bad = KEYLESS if index == 0 else 0
        assert (planned.rows, planned.entities, planned.rows_bad) == (source.num_rows - bad, ENTITIES, bad)
        assert planned.shuffle == (layout == "mixed"), planned.reason
        assert planned.entities_known == (None if before is None else ENTITIES)
        record = score(request_of(config), open_cluster=in_process)
        output, table = folder / f"out-{name}", folder / f"state-{name}"
        night = Night(spelling, source, record, _rows_in(output), _rows_in(output / "_quarantine"), output, table)
        check(night, index)
        nights.append(night)
    assert state.diff(str(nights[0].state), str(nights[1].state)).found.entities == (ENTITIES, ENTITIES)
    return nights


def _rows_in(folder: Path) -> Any:
    """All rows of a folder, in order of the files' names."""
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in sorted(folder.glob("*.parquet"))])


def check(night: Night, index: int) -> None:
    """Rows, scores, keys, kept values and quarantine of a night, and all that reads them again."""
    wanted = np.flatnonzero(is_scored())
    first = tidy().column("place").to_numpy() < FIRST
    wanted = wanted[first[wanted] == (index == 0)]
    assert night.run["rows_in"] == night.source.num_rows == night.run["rows_scored"] + night.run["rows_quarantined"]
    assert night.run["rows_scored"] == len(wanted) == night.scores.num_rows
    found = night.scores.sort_by("row_number")
    assert found.column("row_number").to_numpy().tolist() == wanted.tolist()
    np.testing.assert_allclose(found.column("score").to_numpy(), truth()[wanted], atol=TOLERANCE)
    check_kept(night, found)
    check_quarantine(night)
    holds = audit.run(night.output, ENTITIES, alone)
    audit.expect_holds(holds)
    assert holds.difference is not None
    assert holds.difference < TOLERANCE
    report.run(str(night.output))
    assert status.run(str(night.output)).render()
    check_carry_over(night)


def check_kept(night: Night, found: Any) -> None:
    """Keys, times and kept columns are the input's, value by value and, but for views and dictionaries, by type."""
    place = {row: index for index, row in enumerate(night.source.column("row_number").to_pylist())}
    at = [place[row] for row in found.column("row_number").to_pylist()]
    for name in (night.spelling.entity, night.spelling.order, *night.spelling.kept):
        values = values_of(night.source.column(name))
        assert values_of(found.column(name)) == [values[index] for index in at], name
        kind = night.source.column(name).type
        assert is_like(found.column(name).type, kind), name


def values_of(column: Any) -> list[Any]:
    """What a column holds, in a form of which two are equal where the values are."""
    if isinstance(column.type, pa.BaseExtensionType):
        return values_of(pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type))
    if pa.types.is_dictionary(column.type):
        return values_of(column.cast(column.type.value_type))
    if pa.types.is_temporal(column.type):
        return column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32()).to_pylist()
    try:
        return [repr(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException):  # times that Python does not have
        rows = (column[row : row + 1].combine_chunks() for row in range(len(column)))
        return ["".join(row.to_string(window=10**6).split()) for row in rows]


def is_like(found: Any, kind: Any) -> bool:
    """Whether a column is handed through as what it was: a dictionary as its values, a view as what it shows."""
    if pa.types.is_dictionary(kind):
        return is_like(found, kind.value_type)
    return bool(found == kind) or "view" in str(getattr(kind, "storage_type", kind))


def check_quarantine(night: Night) -> None:
    """Lines of the entity that broke, of rows without a key, and of a late one, add up and name the input's rows."""
    lines = night.quarantine
    assert lines.column_names[0] == night.spelling.entity
    assert sum(lines.column(-4).to_pylist()) == night.run["rows_quarantined"]
    whole = pq.read_table(night.output / "_quarantine")  # all files at once, as a user reads them
    assert sorted(whole.column(-4).to_pylist()) == sorted(lines.column(-4).to_pylist())
    for number in range(lines.num_rows):
        check_line(night, lines.slice(number, 1))


def check_line(night: Night, line: Any) -> None:
    """It names the first of its rows: the entity, the file and the row in it, and the time where it was read."""
    reason, _, file, row, time = (line.column(index)[0].as_py() for index in range(-5, 0))
    names = [night.spelling.entity, night.spelling.order]
    place = pq.read_table(file, partitioning=None, columns=names, **night.spelling.read).select(names).slice(row, 1)
    assert values_of(line.column(0)) == values_of(place.column(0))
    assert is_like(line.column(0).type, place.column(0).type)
    assert (time is None) == (reason.startswith("a column of")), reason


def check_carry_over(night: Night) -> None:
    """Every entity has one row, and is found by the text that names it."""
    shown = state.show(str(night.state))
    assert (shown.summary.entities, shown.summary.broken) == (ENTITIES, 1)
    keys = OpenTable.of(LocalStore(str(night.state))).keys()
    for row in range(ENTITIES):
        for text in names_of(keys, row):
            one = state.show(str(night.state), [text])
            assert one.entities.num_rows == 1, text
            for found in (shown, one):
                assert found.render()
                assert json.dumps(found.as_dict(), default=str)


def names_of(keys: Any, row: int) -> set[str]:
    """What a user may call an entity: as sentences do, and as the terminal shows it."""
    said = describe_entity(keys, row).removeprefix(f"{keys.column_names[0]}=")
    return {literal_eval(said) if said[0] in "'\"" else said, text_of(keys.column(0)[row])}


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    yield AuditActor(spec, model).rescore
