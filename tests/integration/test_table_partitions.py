"""Tables of Delta Lake and Iceberg, whose partition values their folders only spell: what the table says is scored.

The truth is what the table's own library reads, scored by Keras, one entity alone. Each table is written on two nights;
the first one is scored at its version, the second as interleaved rows, on the carry-over that the first one left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from cluster.core.settings import StepSettings
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import find_truth, rescore
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from lstm_core.proof.reference import Reference
from tests.harness.inprocess import Job, run, scores
from tests.inputs.damage import cut_off
from tests.inputs.series import make_series
from tests.models.keras_models import FIT, save

MODEL = save(FIT["lstm"]())
FEATURES = ("f0", "f1", "f2")
COLUMN = "plant 5%/a=b"  # of a name that is spelt otherwise in a folder

VALUES: dict[str, Any] = {
    "padded": pa.array(["05", "5", "005", "6"]),
    "signs": pa.array(["0", "-0", "+0", "1.0"]),
    "words": pa.array(["null", "None", "__HIVE_DEFAULT_PARTITION__x", "true"]),
    "marks": pa.array(["a+b", "a b", "a%20b", "a/b=c"]),
    "letters": pa.array(["é", "e\u0301", "٧", "日本"]),
    "booleans": pa.array([True, False]),
    "small": pa.array([-7, 7, 0], pa.int8()),
    "long": pa.array([3_000_000_000, -1, 2**62]),
    "dates": pa.array([date(2026, 11, 19), date(1969, 12, 31)]),
    "moments": pa.array([datetime(2026, 11, 19), datetime(2026, 11, 20, 5, 6, 7, 8)]),
    "zoned": pa.array([datetime(2026, 11, 19), datetime(2026, 11, 20, 5, 6, 7, 8)], pa.timestamp("us", "UTC")),
    "decimals": pa.array([Decimal("1.50"), Decimal("-2.00"), Decimal("0.05")], pa.decimal128(9, 2)),
    "bytes": pa.array([b"a", b"b"]),
}
ICEBERG_ONLY: dict[str, Any] = {
    "times": pa.array([time(5), time(5, 0, 0, 1)]),
    "fixed": pa.array([b"ab", b"\xff\x00"], pa.binary(2)),
    "empty": pa.array(["", "x"]),
}
NO_KEYS: dict[str, Any] = {
    "doubles": pa.array([1.0, 2.5, 2.0**40, -0.5]),  # pyiceberg keeps no more than a float of them in its manifests
    "floats": pa.array([0.1, 1.0], pa.float32()),
}


class Lake(Protocol):
    """A table as somebody else writes and reads it."""

    def append(self, rows: pa.Table) -> None:
        """Another version of the table."""

    def read(self) -> pa.Table:
        """What the table's own library reads."""

    @property
    def path(self) -> Path: ...

    @property
    def version(self) -> int: ...


@dataclass
class Delta:
    path: Path

    def append(self, rows: pa.Table) -> None:
        write_deltalake(self.path, rows, partition_by=[COLUMN], mode="append")

    def read(self) -> pa.Table:
        return DeltaTable(self.path).to_pyarrow_table()

    @property
    def version(self) -> int:
        return DeltaTable(self.path).version()


@dataclass
class Iceberg:
    folder: Path
    table: Table | None = None

    def append(self, rows: pa.Table) -> None:
        if self.table is None:
            catalog = SqlCatalog("lake", uri=f"sqlite:///{self.folder}/catalog.db", warehouse=f"file://{self.folder}")
            catalog.create_namespace("lake")
            self.table = catalog.create_table("lake.rows", rows.schema)
            with self.table.update_spec() as spec:
                spec.add_field(COLUMN, IdentityTransform(), "by plant")
        self.table.append(rows)

    def read(self) -> pa.Table:
        assert self.table is not None
        return self.table.scan().to_arrow()

    @property
    def path(self) -> Path:
        assert self.table is not None
        return Path(self.table.location().removeprefix("file://"))

    @property
    def version(self) -> int:
        assert self.table is not None
        snapshot = self.table.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id


class Bare(Iceberg):
    """As a table that was imported from Hive: its files do not have the column, only its manifests do."""

    def append(self, rows: pa.Table) -> None:
        super().append(rows)
        for file in self.path.rglob("*.parquet"):
            table = pq.read_table(file, partitioning=None)
            if COLUMN in table.column_names:
                pq.write_table(table.drop_columns(COLUMN), file)


LAKES: dict[str, Callable[[Path], Lake]] = {
    "delta": lambda folder: Delta(folder / "table"),
    "iceberg": Iceberg,
    "bare": Bare,
}
CASES = [(lake, name) for lake in LAKES for name in VALUES] + [
    (lake, name) for lake in ("iceberg", "bare") for name in ICEBERG_ONLY
]


def rows_of(values: Any, night: int) -> Any:
    """Six rows of each value, whose times go on from night to night."""
    names = [index for index in range(len(values)) for _ in range(6)]
    table = make_series([6] * len(values), seed=night).drop_columns("entity")
    moment = pa.array([datetime(2026, 11, 20 + night) + timedelta(minutes=i % 6) for i in range(len(names))])
    table = table.set_column(0, "time", moment.cast(pa.timestamp("us")))
    return table.append_column(COLUMN, values.take(pa.array(names)))


def job(folder: Path, lake: Lake, name: str, **asked: Any) -> Job:
    columns = {"entity": (COLUMN,), **asked}
    return Job(
        MODEL,
        lake.path,
        folder / name,
        (("rows", FEATURES),),
        StepSettings(4, 4),
        input=columns,
        quarantine_limit=1.0,
    )


def truth(table: pa.Table) -> dict[Any, float]:
    """(value, time) -> the score, by Keras, each value's rows alone and in order of time."""
    rows = sorted(table.to_pylist(), key=lambda row: row["time"])
    reference, found = Reference(FIT["lstm"]()), {}
    for value in {row[COLUMN] for row in rows} - {None}:
        mine = [row for row in rows if row[COLUMN] == value]
        series = np.array([[row[name] for name in FEATURES] for row in mine], np.float32)
        (scored,) = reference.score([series])
        found |= {(value, row["time"]): float(score[0]) for row, score in zip(mine, scored, strict=True)}
    return found


def scored(output: Path) -> dict[Any, float]:
    found = scores(output)
    return {(row[COLUMN], row["time"]): row["score"] for row in found.to_pylist()}


def check(found: dict[Any, float], wanted: dict[Any, float]) -> None:
    assert found.keys() == wanted.keys()
    for key, score in found.items():
        assert score == pytest.approx(wanted[key], abs=1e-5)


def check_audit(output: Path) -> None:
    store = LocalStore(str(output))
    assert [one for one in audit(store).checks if one.failures] == []


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    yield AuditActor(spec, model).rescore


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_entity_is_what_the_table_says_from_night_to_night(tmp_path: Path, kind: str, name: str) -> None:
    values = (VALUES | ICEBERG_ONLY)[name]
    lake = LAKES[kind](tmp_path)
    lake.append(rows_of(values, 0))
    first = lake.read()
    one = dataclasses.replace(
        job(tmp_path, lake, "one", version=lake.version), state={"write": tmp_path / "state"}, run_id="one"
    )
    assert run(one)["rows_scored"] == first.num_rows
    lake.append(rows_of(values, 1))
    both = lake.read()
    assert both.num_rows == 2 * first.num_rows
    two = job(tmp_path, lake, "two", since="2026-11-21", layout="shuffle")
    two = dataclasses.replace(two, state={"read": tmp_path / "state", "write": tmp_path / "next"}, run_id="two")
    record = run(two)
    assert (record["rows_scored"], record["rows_skipped"]) == (first.num_rows, first.num_rows)
    wanted = truth(both)
    check(scored(one.output) | scored(two.output), wanted)
    kinds = [str(table.schema.field(COLUMN).type).removeprefix("large_") for table in (scores(two.output), both)]
    assert kinds[0] == kinds[1]
    check_audit(one.output)
    check_audit(two.output)


@pytest.mark.parametrize("name", [*NO_KEYS, "padded", "moments", "bytes"])
@pytest.mark.parametrize("kind", LAKES)
@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_a_kept_column_is_what_the_table_says(tmp_path: Path, kind: str, name: str, layout: str) -> None:
    values = (VALUES | NO_KEYS)[name]
    lake = LAKES[kind](tmp_path)
    rows = rows_of(values, 0)
    lake.append(rows.append_column("entity", pa.array([f"e{i // 4}" for i in range(rows.num_rows)])))
    asked = job(tmp_path, lake, "out", entity=("entity",), keep=(COLUMN, "f0"), layout=layout)
    assert run(asked)["rows_scored"] == rows.num_rows
    found, wanted = scores(asked.output), lake.read()
    keys = ("entity", "time", "f0", COLUMN)
    assert sorted(map(str, zip(*(found.column(key).to_pylist() for key in keys), strict=True))) == sorted(
        map(str, zip(*(wanted.column(key).to_pylist() for key in keys), strict=True))
    )
    check_audit(asked.output)


@pytest.mark.parametrize("layout", ["auto", "shuffle"])
@pytest.mark.parametrize("kind", LAKES)
def test_rows_without_a_partition_value_are_in_quarantine_by_themselves(tmp_path: Path, kind: str, layout: str) -> None:
    lake = LAKES[kind](tmp_path)
    lake.append(rows_of(pa.array(["x", None, "null"]), 0))
    asked = job(tmp_path, lake, "out", layout=layout)
    record = run(asked)
    assert (record["rows_scored"], record["rows_quarantined"]) == (12, 6)
    wanted = truth(lake.read())
    check(scored(asked.output), wanted)
    (file,) = (asked.output / "_quarantine").glob("*.parquet")
    lines = pq.read_table(file, partitioning=None).to_pylist()
    assert [(line[COLUMN], line["rows"]) for line in lines] == [(None, 1)] * 6
    check_audit(asked.output)


def test_the_empty_text_of_a_delta_table_is_null_as_its_protocol_has_it(tmp_path: Path) -> None:
    lake = Delta(tmp_path / "table")
    lake.append(rows_of(pa.array(["", "x"]), 0))
    assert set(lake.read().column(COLUMN).to_pylist()) == {None, "x"}
    asked = job(tmp_path, lake, "out")
    record = run(asked)
    assert (record["rows_scored"], record["rows_quarantined"]) == (6, 6)


@pytest.mark.parametrize("kind", LAKES)
@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_bad_rows_and_a_second_look_find_the_value_of_the_table(tmp_path: Path, kind: str, layout: str) -> None:
    """A null feature puts one entity into quarantine; the others are scored again, one at a time."""
    lake = LAKES[kind](tmp_path)
    rows = rows_of(VALUES["padded"], 0)
    spoilt = rows.column("f1").to_pylist()
    spoilt[9] = None  # of the second value
    lake.append(rows.set_column(rows.column_names.index("f1"), "f1", pa.array(spoilt, pa.float32())))
    (tmp_path / "model.keras").write_bytes(MODEL)
    asked = job(tmp_path, lake, "out", layout=layout)
    record = run_with_model(asked, tmp_path / "model.keras")
    assert (record["rows_scored"], record["rows_quarantined"]) == (rows.num_rows - 3, 3)
    (file,) = (asked.output / "_quarantine").glob("*.parquet")
    (line,) = pq.read_table(file, partitioning=None).to_pylist()
    assert (line[COLUMN], line["rows"], Path(line["file"]).exists()) == ("5", 3, True)
    store = LocalStore(str(asked.output))
    found = rescore(audit(store), store, find_truth(store, StoreSpec(store.root)), 4, alone)
    assert (found.check.failures, {one.entity for one in found.entities}) == (
        0,
        {f"{COLUMN}='{name}'" for name in ("05", "5", "005", "6")},
    )


@pytest.mark.parametrize("name", VALUES)
def test_of_a_lost_file_the_table_says_whose_it_was(tmp_path: Path, name: str) -> None:
    lake = LAKES["delta"](tmp_path)
    lake.append(rows_of(VALUES[name], 0))
    values = lake.read().column(COLUMN).unique().to_pylist()
    file = sorted(lake.path.rglob("*.parquet"))[0]
    left = [row for row in lake.read().to_pylist() if row["f0"] not in pq.read_table(file).column("f0").to_pylist()]
    cut_off(file)
    asked = job(tmp_path, lake, "out")
    record = run(asked)
    assert (record["files_lost"], record["rows_scored"]) == (1, len(left))
    (lost,) = (asked.output / "_quarantine").glob("lost-files-*.parquet")
    (line,) = pq.read_table(lost, partitioning=None).to_pylist()
    assert {line[COLUMN]} == set(values) - {row[COLUMN] for row in left}
    check_audit(asked.output)


def run_with_model(asked: Job, path: Path) -> dict[str, Any]:
    """Scores in this process, and says where the model lies."""
    from cluster.runtime.run.run import score
    from tests.harness.inprocess import in_process

    return score(dataclasses.replace(asked.request(), model_path=str(path)), open_cluster=in_process)
