"""One data set in ten layouts: the same scores, bit for bit, and an audit that holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import find_truth, rescore
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from jobs.commands import plan
from jobs.config.configuration import load_config
from lstm_core.contract.model_contract import read_contract
from tests.fakes.cramped import cramp
from tests.harness.inprocess import Job, in_process, run, scores
from tests.harness.truth import assert_same_scores, columns_for, expected
from tests.inputs.series import make_series, replace, with_nulls, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = (40, 1, 7, 25, 3, 60, 12, 30)
MODEL = save(FIT["lstm"]())
Write = Callable[[Path, Any], None]


def dataset() -> Any:
    """Series over several days; the entity's names have slashes, quotes, spaces and signs that a path cannot hold."""
    table = make_series(LENGTHS)
    names = pa.array([f"{name}/'ü %=\"" for name in table.column("entity").to_pylist()])
    hours = pc.multiply(table.column("time").cast(pa.int64()), 120).cast(pa.timestamp("us"))
    return replace(replace(table, "entity", names), "time", hours)


def tidy(folder: Path, table: Any) -> None:
    write_cut(folder, table)


def unsorted_in_time(folder: Path, table: Any) -> None:
    rng, start, order = np.random.default_rng(0), 0, []
    for length in LENGTHS:
        order.append(start + rng.permutation(length))
        start += length
    write_cut(folder, take(table, np.concatenate(order)), None, [16])


def cut_in_entities(folder: Path, table: Any) -> None:
    write_cut(folder, table, [30, 0, 1, 77, table.num_rows - 108], [13, 5])


def hive_by_date(folder: Path, table: Any) -> None:
    days = pc.strftime(table.column("time"), format="%Y-%m-%d").to_numpy(zero_copy_only=False)
    for day in np.unique(days):
        part(folder / f"day={day}", take(table, np.flatnonzero(days == day)))


def hive_by_date_in_time_order(folder: Path, table: Any) -> None:
    hive_by_date(folder, table.sort_by("time"))


def hive_by_entity(folder: Path, table: Any) -> None:
    start = 0
    for length in LENGTHS:
        rows = table.slice(start, length)
        part(folder / f"entity={quote(rows.column('entity')[0].as_py(), safe='')}", rows.drop_columns("entity"))
        start += length


def round_robin(folder: Path, table: Any) -> None:
    inside = np.concatenate([np.arange(length) for length in LENGTHS])
    write_cut(folder, take(table, np.argsort(inside, kind="stable")), [90, 88], [20])


def by_time_across_files(folder: Path, table: Any) -> None:
    write_cut(folder, table.sort_by("time"), [50, 50, 78], [50])


def shuffled(folder: Path, table: Any) -> None:
    write_cut(folder, take(table, np.random.default_rng(1).permutation(table.num_rows)), [60, 118], [9])


def many_tiny_files(folder: Path, table: Any) -> None:
    order = np.random.default_rng(2).permutation(table.num_rows)
    write_cut(folder, take(table, order), [2] * (table.num_rows // 2))


def other_encodings(folder: Path, table: Any) -> None:
    kinds = [pa.dictionary(pa.int8(), pa.string()), pa.large_string(), pa.string_view()]
    for index, (low, rows) in enumerate([(0, 60), (60, 60), (120, 58)]):
        column = table.column("entity").slice(low, rows).combine_chunks()
        column = column.dictionary_encode().cast(kinds[index]) if index == 0 else column.cast(kinds[index])
        write_cut(folder / f"x{index}", replace(table.slice(low, rows), "entity", column), None, [25])


LAYOUTS: tuple[Write, ...] = (
    unsorted_in_time,
    cut_in_entities,
    hive_by_date,
    hive_by_date_in_time_order,
    hive_by_entity,
    round_robin,
    by_time_across_files,
    shuffled,
    many_tiny_files,
    other_encodings,
)
SHUFFLED = {hive_by_date_in_time_order, round_robin, by_time_across_files, shuffled, many_tiny_files}


SORTED = "every entity's rows lie together and in order of time"
APART = "in each file an entity's rows lie together"
REASONS = {
    tidy: SORTED,
    unsorted_in_time: "are not in order of time and are sorted when they are read",
    cut_in_entities: SORTED,
    hive_by_date: f"{APART}; ",
    hive_by_date_in_time_order: "with other entities' rows between them",
    hive_by_entity: SORTED,
    round_robin: "with other entities' rows between them",
    by_time_across_files: "with other entities' rows between them",
    shuffled: "with other entities' rows between them",
    many_tiny_files: "with times that overlap or fall",
    other_encodings: SORTED,
}


def take(table: Any, rows: Any) -> Any:
    return table.take(pa.array(rows))


def part(folder: Path, table: Any) -> None:
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet")


@pytest.fixture(autouse=True)
def _cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    cramp(monkeypatch, sort_bytes=1200)


def job(folder: Path, **changes: Any) -> Job:
    contract = read_contract(MODEL, name="the model")
    return Job(MODEL, folder / "in", folder / "out", columns_for(contract), step=StepSettings(4, 8), **changes)


def scored(folder: Path) -> Any:
    found = scores(folder / "out").sort_by([("entity", "ascending"), ("time", "ascending")])
    return replace(found, "entity", found.column("entity").cast(pa.string())).combine_chunks()


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The scores of the tidy table, which are those of each entity alone."""
    folder, table = tmp_path_factory.mktemp("tidy"), dataset()
    tidy(folder / "in", table)
    run(job(folder))
    found, contract = scored(folder), read_contract(MODEL, name="the model")
    assert found.select(["entity", "time"]).equals(table.select(["entity", "time"]).combine_chunks())
    alone = expected(MODEL, replace(table, "entity", table.column("entity").combine_chunks()), contract)
    values = np.stack([found.column(name).to_numpy() for name in contract.score_names], axis=1)
    assert_same_scores(values, alone)
    return found


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_scores_do_not_depend_on_the_layout(tmp_path: Path, write: Write, truth: Any) -> None:
    write(tmp_path / "in", dataset())
    record = run(job(tmp_path))
    assert (record["rows_in"], record["rows_scored"]) == (sum(LENGTHS), sum(LENGTHS))
    assert scored(tmp_path).equals(truth)
    store = LocalStore(str(tmp_path / "out"))
    found = audit(store)
    assert [check for check in found.checks if check.failures] == []
    assert found.head is not None
    assert bool(found.head.sources) == (write in SHUFFLED)


def say_plan(folder: Path) -> Any:
    """What `slotcar plan` says of the layout."""
    (folder / "m.keras").write_bytes(MODEL)
    ((_, columns),) = columns_for(read_contract(MODEL, name="the model"))
    input_ = {"path": str(folder / "in"), "entity": ["entity"], "time": ["time"], "features": list(columns)}
    model = {"path": str(folder / "m.keras"), "slots": 4, "chunk": 8}
    config = {"model": model, "input": input_, "output": {"path": str(folder / "out")}, "cluster": {"replicas": 1}}
    return plan.run(load_config(config, command="plan"))


@pytest.mark.parametrize("write", [tidy, *LAYOUTS], ids=lambda write: write.__name__)
def test_plan_says_which_layout_it_has_found_and_why(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "in", dataset())
    found = say_plan(tmp_path)
    assert (found.rows_in, found.rows, found.entities) == (sum(LENGTHS), sum(LENGTHS), len(LENGTHS))
    assert (found.layout, found.shuffle) == (("interleaved", True) if write in SHUFFLED else ("clustered", False))
    assert REASONS[write] in found.reason
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_a_layout_that_is_asked_for_changes_no_bit(tmp_path: Path, layout: str, truth: Any) -> None:
    tidy(tmp_path / "in", dataset())
    run(job(tmp_path, input={"layout": layout}))
    assert scored(tmp_path).equals(truth)


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    yield AuditActor(spec, model).rescore


def test_entities_of_a_shuffled_run_can_be_scored_again(tmp_path: Path) -> None:
    shuffled(tmp_path / "in", dataset())
    (tmp_path / "m.keras").write_bytes(MODEL)
    score(dataclasses.replace(job(tmp_path).request(), model_path=str(tmp_path / "m.keras")), open_cluster=in_process)
    store = LocalStore(str(tmp_path / "out"))
    found = rescore(audit(store), store, find_truth(store, StoreSpec(store.root)), 4, alone)
    assert found.check.failures == 0
    assert len(found.entities) == 4


def test_the_audit_sees_an_input_that_is_no_longer_what_was_clustered(tmp_path: Path) -> None:
    table, path = take(dataset(), np.random.default_rng(1).permutation(sum(LENGTHS))), tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    plain = {"compression": "none", "use_dictionary": False, "row_group_size": 50}  # of one size, whatever it holds
    pq.write_table(table, path, **plain)
    run(job(tmp_path))
    pq.write_table(take(table, np.append(np.arange(1, table.num_rows), 0)), path, **plain)
    failed = {check.name: check.first for check in audit(LocalStore(str(tmp_path / "out"))).checks if check.failures}
    assert "are not those that its rows had when the input was clustered" in str(failed["input"])


def night(number: int) -> Any:
    """Rows of one night; from the second on the first entity brings a late row, and a row of another is bad."""
    table = make_series((6, 5, 3), seed=number)
    days = np.where((np.arange(14) == 0) & (number > 0), 0, number)
    times = pc.add(table.column("time").cast(pa.int64()), pa.array(days * 86_400_000_000))
    table = replace(table, "time", times.cast(pa.timestamp("us")))
    return with_nulls(table, "f1", [8]) if number == 1 else table


def test_nights_carry_over_alike_when_they_are_clustered_first(tmp_path: Path) -> None:
    found: dict[str, list[Any]] = {}
    for layout in ("auto", "shuffle"):
        for number in range(3):
            folder = tmp_path / f"night{number}"
            if not folder.exists():
                write_cut(folder / "in", night(number), [9, 5], [4])
            state = {"write": tmp_path / f"{layout}{number}"} | (
                {"read": tmp_path / f"{layout}{number - 1}"} if number else {}
            )
            asked = dataclasses.replace(job(folder), output=folder / layout, state=state, quarantine_limit=1.0)
            record = run(dataclasses.replace(asked, input={"layout": layout}))
            lines = [pq.read_table(path, partitioning=None) for path in (folder / layout / "_quarantine").glob("*")]
            bad = sorted(str(row) for table in lines for row in table.to_pylist())
            states = pa.concat_tables([pq.read_table(path) for path in sorted(state["write"].glob("*.parquet"))])
            counts = [record[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped")]
            rows = scores(folder / layout).sort_by([("entity", "ascending"), ("time", "ascending")])
            found.setdefault(layout, []).append((counts, bad, rows.to_pylist(), states.sort_by("entity").to_pylist()))
    assert found["auto"] == found["shuffle"]
    assert [counts for counts, *_ in found["auto"]] == [[14, 14, 0, 0], [14, 10, 4, 0], [14, 8, 6, 0]]
