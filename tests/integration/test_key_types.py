"""Entities and times of every type that Parquet has for them: the same scores, audit and carry-over, however rows lie.

Each kind is scored twice, as a tidy table that leaves carry-over and as shuffled rows that are clustered first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.audit.audit import audit
from cluster.runtime.storage.local_store import LocalStore
from tests.harness.inprocess import Job, run, scores
from tests.inputs.series import make_series, replace, with_key_type, with_time_type, write_cut
from tests.models.keras_models import FIT, save
from tests.unit.cluster.runtime.input.test_key_scan import KEY_TYPES, TIME_TYPES

LENGTHS = (9, 1, 20, 6)
MODEL = save(FIT["lstm"]())
Change = Callable[[Any], Any]
FEATURES = (("rows", ("f0", "f1", "f2")),)
NAMES = ["", "ünï/…", 'it\'s "e"\\', "null"]  # empty, beyond ASCII, with slashes and quotes, and what is no null


def numbered(table: Any) -> Any:
    """The entity's number in each row."""
    return pa.array([int(name[1:]) for name in table.column("entity").to_pylist()])


def as_uuid(table: Any) -> Any:
    ids = [UUID(int=int(number) << 64).bytes for number in numbered(table).to_pylist()]
    return replace(table, "entity", pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16))))


def as_decimal(table: Any) -> Any:
    exact = [Decimal(number) - Decimal("1.25") for number in numbered(table).to_pylist()]
    return replace(table, "entity", pa.array(exact, pa.decimal128(20, 2)))


def named(table: Any) -> Any:
    return replace(table, "entity", pa.array([NAMES[number] for number in numbered(table).to_pylist()]))


def typed(kind: Any) -> Change:
    return lambda table: with_key_type(table, kind)


KEYS: dict[str, Change] = {
    **{str(kind): typed(kind) for kind in KEY_TYPES},
    "uuid": as_uuid,
    "decimal": as_decimal,
    "names": named,
}
TIMES = [*TIME_TYPES, pa.timestamp("ns", "+05:30"), pa.date32()]


def timed(table: Any, kind: Any) -> Any:
    """With times of a type, all of them different within an entity."""
    if not pa.types.is_date(kind):
        return with_time_type(table, kind)
    return replace(table, "time", pa.array(np.arange(table.num_rows), pa.int32()).cast(kind))


def check(folder: Path, table: Any, spell: Change = lambda table: table, **columns: Any) -> Any:
    """The scores by the number of the row, which are the same however rows lie; the runs are audited."""
    found, states = [], []
    order = np.random.default_rng(1).permutation(table.num_rows)
    for name, rows, cut in (("tidy", table, [20, 16]), ("mixed", table.take(pa.array(order)), [11, 25])):
        write_cut(folder / name, spell(rows), cut, [7])
        asked = {"keep": ("row",), **columns}
        job = Job(MODEL, folder / name, folder / f"out-{name}", FEATURES, step=StepSettings(4, 4), input=asked)
        job = dataclasses.replace(job, state={"write": folder / f"state-{name}"})
        assert run(job)["rows_scored"] == table.num_rows
        assert [one for one in audit(LocalStore(str(job.output))).checks if one.failures] == []
        found.append(scores(job.output).sort_by("row"))
        parts = [pq.read_table(path).to_pylist() for path in (folder / f"state-{name}").glob("*.parquet")]
        states.append(sorted(str(row) for part in parts for row in part))
    assert found[0].equals(found[1])
    assert states[0] == states[1]
    return found[0]


@pytest.fixture(scope="module")
def table() -> Any:
    return make_series(LENGTHS, extra=True)


@pytest.fixture(scope="module")
def plain(table: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The scores where entities are text and times are microseconds."""
    return check(tmp_path_factory.mktemp("plain"), table).column("score")


@pytest.mark.parametrize("kind", KEYS)
def test_entities_of_every_type_have_the_scores_of_text(tmp_path: Path, kind: str, table: Any, plain: Any) -> None:
    assert check(tmp_path, table, KEYS[kind]).column("score").equals(plain)


def test_an_entity_of_two_values(tmp_path: Path, table: Any) -> None:
    """Booleans cannot name more: each has the rows of two series, one after the other."""
    odd = pa.array([int(name[1:]) % 2 == 1 for name in table.column("entity").to_pylist()])
    later = pa.array(np.arange(table.num_rows) * 60_000_000, pa.timestamp("us"))
    assert check(tmp_path, replace(replace(table, "entity", odd), "time", later)).num_rows == sum(LENGTHS)


def test_an_entity_named_by_several_columns_of_different_types(tmp_path: Path, table: Any, plain: Any) -> None:
    numbers = np.array([int(name[1:]) for name in table.column("entity").to_pylist()])
    words = pa.array(["left", "right"]).take(pa.array(numbers % 2)).dictionary_encode()
    table = table.append_column("half", pa.array(numbers // 2, pa.int16())).append_column("side", words)
    assert check(tmp_path, table, entity=("side", "half")).column("score").equals(plain)


@pytest.mark.parametrize("kind", TIMES, ids=str)
def test_times_of_every_type_have_the_scores_of_microseconds(tmp_path: Path, kind: Any, table: Any, plain: Any) -> None:
    assert check(tmp_path, timed(table, kind)).column("score").equals(plain)


def test_columns_that_nobody_asks_for_are_never_read(tmp_path: Path, table: Any, plain: Any) -> None:
    """Their pages are no Parquet in any file, nested ones among them: whoever read one would fail."""
    for name, order in (("tidy", np.arange(table.num_rows)), ("mixed", np.argsort(table.column("time").to_numpy()))):
        (path,) = write_cut(tmp_path / name, table.take(pa.array(order)), None, [7])
        assert spoil_pages(path, {"unused", "nested"}) == 3 * -(-table.num_rows // 7)
        asked = {"keep": ("row",)}
        job = Job(MODEL, tmp_path / name, tmp_path / f"out-{name}", FEATURES, step=StepSettings(4, 4), input=asked)
        assert run(job)["rows_scored"] == table.num_rows
        assert scores(job.output).sort_by("row").column("score").equals(plain)


def spoil_pages(path: Path, columns: set[str]) -> int:
    """Writes over all pages of some columns; returns of how many column chunks."""
    content, footer, spoilt = bytearray(path.read_bytes()), pq.read_metadata(path), 0
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            chunk = footer.row_group(group).column(index)
            if chunk.path_in_schema.partition(".")[0] in columns:
                begin = chunk.dictionary_page_offset or chunk.data_page_offset
                content[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
                spoilt += 1
    path.write_bytes(content)
    return spoilt
