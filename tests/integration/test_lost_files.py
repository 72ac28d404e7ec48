"""Files that cannot be read, but whose folders name their entity: it is in quarantine, and nobody else is disturbed.

The base is five entities of 6, 5, 4, 3 and 2 rows, each in a folder of its own, in two files where it has more than two
rows. Two of them, e0001 and e0003, lose files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan
from cluster.core.settings import StepSettings
from cluster.run_errors import InputBroken, InputRefused, RunFailed, TooManyBadRows
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import find_truth, rescore
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run import run as run_module
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from jobs.commands import plan as plan_job
from jobs.commands import status as status_job
from jobs.config.configuration import load_config
from tests.harness.inprocess import Job, in_process, run, tidy
from tests.inputs.damage import DAMAGES, WHAT, cut_off, empty
from tests.inputs.series import make_series, replace
from tests.integration.test_carry_kills import poisoned
from tests.integration.test_train import lay_out, table_with_targets, trained
from tests.models.keras_models import FIT, save

LENGTHS = (6, 5, 4, 3, 2)
ROWS = 20
MODEL = save(FIT["lstm"]())
FEATURES = (("rows", ("f0", "f1", "f2")),)
BROKEN = WHAT["cut_off"]

Damage = Callable[[Path], None]


def write(folder: Path, table: Any, *, parts: int = 2, column: str = "entity") -> None:
    """Each entity's rows in a folder of its own, in `parts` files where there are so many rows and one more."""
    names = table.column("entity").to_pylist()
    for name in dict.fromkeys(names):
        mine = table.filter(pa.array([other == name for other in names])).drop_columns("entity")
        place = folder / f"{column}={name}"
        place.mkdir(parents=True)
        count = parts if mine.num_rows > parts else 1
        for part, rows in enumerate(np.array_split(np.arange(mine.num_rows), count)):
            pq.write_table(mine.take(pa.array(rows)), place / f"part-{part}.parquet")


def part(folder: Path, entity: int, number: int) -> Path:
    return folder / "in" / f"entity=e{entity:04d}" / f"part-{number}.parquet"


def job(folder: Path, name: str = "out", **settings: Any) -> Job:
    step = StepSettings(4, 4)
    return Job(MODEL, folder / "in", folder / name, FEATURES, step=step, input=settings, quarantine_limit=1.0)


def lines(output: Path) -> list[tuple[Any, ...]]:
    """(entity, folder and file, row, rows, time, reason) of all quarantine files."""
    tables = [pq.read_table(path, partitioning=None) for path in sorted((output / "_quarantine").glob("*.parquet"))]
    names = ("entity", "file", "row", "rows", "time", "reason")
    found = [tuple(line[name] for name in names) for table in tables for line in table.to_pylist()]
    return sorted((entity, Path(file).name, *rest) for entity, file, *rest in found)


def failures(output: Path) -> list[Any]:
    return [check for check in audit(LocalStore(str(output))).checks if check.failures]


def without(table: Any, *entities: int) -> Any:
    gone = [f"e{number:04d}" for number in entities]
    return table.filter(pa.array([name not in gone for name in table.column("entity").to_pylist()]))


def counts(record: dict[str, Any]) -> list[int]:
    return [record[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped")]


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    """The scores of an undisturbed run."""
    write(tmp_path / "in", make_series(LENGTHS))
    asked = job(tmp_path, "whole")
    run(asked)
    return tidy(asked.output)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("number", [0, 1])
def test_an_entity_with_a_lost_file_is_in_quarantine_with_all_its_rows(
    tmp_path: Path, whole: Any, damage: Damage, number: int
) -> None:
    lost, left = part(tmp_path, 1, number), part(tmp_path, 1, 1 - number)
    first = pq.ParquetFile(left).read()
    damage(lost)
    asked = job(tmp_path)
    record = run(asked)
    assert counts(record) == [ROWS - 5 + first.num_rows, ROWS - 5, first.num_rows, 0]
    assert [record[f"entities_{name}"] for name in ("in", "scored", "quarantined")] == [5, 4, 1]
    assert record["files_lost"] == 1
    reason = f"{lost}, which holds rows of the entity, {WHAT[damage.__name__]}"
    time = str(first.column("time").cast(pa.string())[0])
    expected = [("e0001", left.name, 0, first.num_rows, time, reason), ("e0001", lost.name, None, 0, None, reason)]
    assert lines(asked.output) == sorted(expected)
    assert tidy(asked.output).equals(without(whole, 1))
    assert failures(asked.output) == []


def test_an_entity_without_another_file_is_named_though_no_row_of_it_is_at_hand(tmp_path: Path, whole: Any) -> None:
    for number in (0, 1):
        cut_off(part(tmp_path, 0, number))  # files that come first: columns are known from later ones
    cut_off(part(tmp_path, 3, 1))
    asked = job(tmp_path)
    record = run(asked)
    assert counts(record) == [ROWS - 6 - 1, ROWS - 6 - 3, 2, 0]
    assert [record[f"entities_{name}"] for name in ("in", "scored", "quarantined")] == [5, 3, 2]
    assert record["files_lost"] == 3
    found = [(entity, name, row, rows) for entity, name, row, rows, *_ in lines(asked.output)]
    gone = [("e0000", "part-0.parquet", None, 0), ("e0000", "part-1.parquet", None, 0)]
    assert found == [*gone, ("e0003", "part-0.parquet", 0, 2), ("e0003", "part-1.parquet", None, 0)]
    assert tidy(asked.output).equals(without(whole, 0, 3))
    assert failures(asked.output) == []
    assert status_job.run(str(asked.output)).as_dict()["files_lost"] == 3


def test_several_lost_files_of_one_entity_are_counted_and_each_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in", make_series(LENGTHS), parts=4)
    for number in (1, 3):
        empty(part(tmp_path, 0, number))
    asked = job(tmp_path)
    assert counts(run(asked))[2] == 3
    found = lines(asked.output)
    assert [name for _, name, _, rows, *_ in found if not rows] == ["part-1.parquet", "part-3.parquet"]
    (reason,) = (reason for *_, rows, _, reason in found if rows)
    told = "is empty; 1 more of its files cannot be read"
    assert reason.endswith(f"/part-1.parquet, which holds rows of the entity, {told}")


def test_the_audit_misses_the_names_of_lost_files(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 1, 1))
    asked = job(tmp_path)
    run(asked)
    next((asked.output / "_quarantine").glob("lost-files-*.parquet")).unlink()
    assert [(check.name, check.failures) for check in failures(asked.output)] == [("quarantine", 1)]


def test_the_audit_finds_scores_of_an_entity_that_has_lost_a_file(tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "whole" / "_slotcar" / "plan" / "plan.parquet"
    extents = pq.read_table(path)
    reasons = ["it is lost" if name == "e0001" else None for name in extents.column("key__entity").to_pylist()]
    pq.write_table(replace(extents, "fault", pa.array(reasons, pa.string())), path)
    (found,) = failures(tmp_path / "whole")
    assert (found.name, found.first) == (
        "exactly once",
        "entity entity='e0001' has scores, but a file of it cannot be read",
    )


def test_entities_beside_a_lost_file_can_be_scored_again(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 0, 0))
    (tmp_path / "m.keras").write_bytes(MODEL)
    asked = job(tmp_path)
    score(dataclasses.replace(asked.request(), model_path=str(tmp_path / "m.keras")), open_cluster=in_process)
    store = LocalStore(str(asked.output))
    found = rescore(audit(store), store, find_truth(store, StoreSpec(store.root)), 5, alone)
    scored = set(pq.read_table(asked.output).column("entity").to_pylist())
    assert (found.check.failures, {one.entity.split("'")[1] for one in found.entities}) == (0, scored)


@contextmanager
def alone(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    yield AuditActor(spec, model).rescore


def test_of_a_shard_that_is_given_up_an_entity_keeps_its_own_reason(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 1, 1))
    asked = dataclasses.replace(job(tmp_path), state={"write": tmp_path / "state-given"}, cluster={"max_attempts": 2})
    record = score(asked.request(), open_cluster=poisoned(0, 0))
    assert counts(record) == [ROWS - 2, 0, ROWS - 2, 0]
    reasons = {entity: reason for entity, *_, rows, _, reason in lines(asked.output) if rows}
    assert [entity for entity, reason in reasons.items() if BROKEN in reason] == ["e0001"]
    assert state_of(tmp_path, "given")["e0001"][2] is not None
    assert failures(asked.output) == []


def test_a_training_leaves_the_entity_out(tmp_path: Path) -> None:
    table = table_with_targets([9, 8, 7])
    found = []
    for name in ("without", "lost"):
        path = lay_out(tmp_path / name, table)
        rmtree(tmp_path / name / "in")
        write(tmp_path / name / "in", without(table, 1) if name == "without" else table)
        if name == "lost":
            cut_off(part(tmp_path / name, 1, 0))
        found.append(trained(path))
    assert [(report.rows_in, report.rows_quarantined, report.files_lost) for report in found] == [
        (16, 0, 0),
        (20, 4, 1),
    ]
    assert found[0].model_fingerprint == found[1].model_fingerprint
    assert [epoch.loss for epoch in found[0].epochs] == [epoch.loss for epoch in found[1].epochs]


def test_bad_entity_fail_ends_the_run(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 1, 0))
    with pytest.raises(InputBroken, match=rf"e0001/part-0\.parquet {BROKEN}"):
        run(job(tmp_path, bad_entity="fail"))


def test_a_link_to_nowhere_is_no_lost_file(tmp_path: Path, whole: Any) -> None:
    part(tmp_path, 1, 0).unlink()
    part(tmp_path, 1, 0).symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputRefused, match=r"e0001/part-0\.parquet is a link to .*/nowhere, where nothing is"):
        run(job(tmp_path))


def test_interleaved_input_with_a_lost_file_ends_the_run(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 1, 0))
    with pytest.raises(InputBroken, match=BROKEN):
        run(job(tmp_path, layout="shuffle"))


def test_an_input_whose_files_are_all_lost_ends_the_run(tmp_path: Path) -> None:
    write(tmp_path / "in", make_series([2, 2]))
    for path in (tmp_path / "in").glob("*/*"):
        cut_off(path)
    with pytest.raises(InputBroken, match=BROKEN):
        run(job(tmp_path))


@pytest.mark.parametrize(("name", "entity"), [("entity", ("entity", "leg")), ("other", ("entity",))])
def test_a_file_of_which_only_a_part_of_the_key_is_known_ends_the_run(
    tmp_path: Path, name: str, entity: Sequence[str]
) -> None:
    for number in range(2):
        table = make_series([4], seed=number)
        kept = table if name == "other" else table.drop_columns("entity")
        folder = tmp_path / "in" / f"{name}=e{number}"
        folder.mkdir(parents=True)
        pq.write_table(kept.append_column("leg", pa.array(["a"] * 4)), folder / "part-0.parquet")
    asked = job(tmp_path, entity=tuple(entity))
    cut_off(tmp_path / "in" / f"{name}=e1" / "part-0.parquet")
    with pytest.raises(InputBroken, match=BROKEN):
        run(asked)


def test_a_key_of_two_columns_in_folders_is_known(tmp_path: Path) -> None:
    for leg in ("a", "b"):
        write(tmp_path / "in" / f"leg={leg}", make_series((4, 3)))
    cut_off(tmp_path / "in" / "leg=b" / "entity=e0000" / "part-1.parquet")
    asked = job(tmp_path, entity=("leg", "entity"))
    assert counts(run(asked)) == [12, 10, 2, 0]
    assert failures(asked.output) == []


def test_a_key_that_the_files_have_as_well_is_of_their_type(tmp_path: Path) -> None:
    for number in range(3):
        for half in range(2):
            table = make_series([6], seed=number).slice(3 * half, 3).drop_columns("entity")
            table = table.append_column("entity", pa.array([number] * 3, pa.int64()))
            (tmp_path / "in" / f"entity={number}").mkdir(parents=True, exist_ok=True)
            pq.write_table(table, tmp_path / "in" / f"entity={number}" / f"part-{half}.parquet")
    cut_off(tmp_path / "in" / "entity=1" / "part-0.parquet")
    asked = job(tmp_path)
    assert counts(run(asked)) == [15, 12, 3, 0]
    assert failures(asked.output) == []


def test_a_lost_file_that_gives_its_folders_column_another_type_ends_the_run(tmp_path: Path) -> None:
    for name in ("1", "2", "x"):
        (tmp_path / "in" / f"entity={name}").mkdir(parents=True)
        pq.write_table(make_series([3]).drop_columns("entity"), tmp_path / "in" / f"entity={name}" / "part-0.parquet")
    cut_off(tmp_path / "in" / "entity=x" / "part-0.parquet")
    with pytest.raises(InputBroken, match=BROKEN):
        run(job(tmp_path))


@pytest.mark.parametrize("number", [0, 1])
def test_of_an_entity_that_is_longer_than_a_shard_nothing_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(shard_plan, "SHARD_ROWS_MIN", 4)
    monkeypatch.setattr(run_module, "BLOCK_CHUNKS", 1)
    write(tmp_path / "in", make_series((40, 5)))
    cut_off(part(tmp_path, 0, number))
    asked = job(tmp_path)
    assert counts(run(asked)) == [25, 5, 20, 0]
    assert {name: (row, rows) for _, name, row, rows, *_ in lines(asked.output)} == {
        f"part-{number}.parquet": (None, 0),
        f"part-{1 - number}.parquet": (0, 20),
    }
    assert failures(asked.output) == []


def test_a_run_goes_on_from_a_plan_that_has_lost_a_file(tmp_path: Path, whole: Any) -> None:
    """Where the file was mended meanwhile, and the run is the same to its caller, the plan counts."""
    kept = part(tmp_path, 1, 1).read_bytes()
    cut_off(part(tmp_path, 1, 1))
    asked = job(tmp_path)
    limited = dataclasses.replace(asked, quarantine_limit=0.0)
    with pytest.raises(TooManyBadRows, match="more than the"):
        run(limited)
    part(tmp_path, 1, 1).write_bytes(kept)
    record = run(asked)
    assert (record["files_lost"], record["rows_quarantined"]) == (1, 3)
    assert tidy(asked.output).equals(without(whole, 1))


def config(folder: Path, **sections: Any) -> Any:
    (folder / "m.keras").write_bytes(MODEL)
    model = {"path": str(folder / "m.keras"), "slots": 4, "chunk": 4}
    columns = list(FEATURES[0][1])
    asked = {"path": str(folder / "in"), "entity": ["entity"], "time": ["time"], "features": columns}
    whole = {"model": model, "input": asked, "output": {"path": str(folder / "out")}, **sections}
    return load_config(whole, command="plan")


def test_plan_says_how_many_files_are_lost(tmp_path: Path, whole: Any) -> None:
    cut_off(part(tmp_path, 0, 0))
    cut_off(part(tmp_path, 1, 1))
    found = plan_job.run(config(tmp_path))
    assert (found.files, found.files_lost, found.entities) == (7, 2, 5)
    with pytest.raises(InputBroken, match=BROKEN):
        plan_job.run(config(tmp_path, faults={"bad_entity": "fail"}))


# ---- carry-over


def night(folder: Path, name: str, table: Any, read: str | None = None) -> Job:
    """A night over `table`, whose state is written under the night's name."""
    write(folder / name / "in", table)
    state = {"write": folder / f"state-{name}", **({"read": folder / f"state-{read}"} if read else {})}
    return dataclasses.replace(job(folder / name), state=state, run_id=name)


def split(table: Any, before: int) -> tuple[Any, Any]:
    """Each entity's first so many rows, and the others."""
    position = np.concatenate([np.arange(length) for length in LENGTHS])
    return table.filter(pa.array(position < before)), table.filter(pa.array(position >= before))


def state_of(folder: Path, name: str) -> dict[str, tuple[Any, ...]]:
    table = pa.concat_tables([pq.read_table(path) for path in sorted((folder / f"state-{name}").glob("*.parquet"))])
    columns = [table.column(name).to_pylist() for name in ("rows_seen", "last_time", "broken_since")]
    return dict(zip(table.column("entity").to_pylist(), zip(*columns, strict=True), strict=True))


def test_an_entity_with_a_lost_file_is_broken_until_its_rows_come_again(tmp_path: Path, whole: Any) -> None:
    table = make_series(LENGTHS)
    early, rest = split(table, 1)
    times = [row["time"] for row in table.to_pylist() if row["entity"] == "e0000"]
    run(night(tmp_path, "a", early))
    second = night(tmp_path, "b", rest, "a")
    cut_off(part(tmp_path / "b", 0, 1))  # rows 1 to 3 are at hand, 4 and 5 are not
    assert counts(run(second)) == [13, 10, 3, 0]
    assert failures(second.output) == []
    assert state_of(tmp_path, "b")["e0000"] == (1, times[0], times[1])
    assert state_of(tmp_path, "b")["e0001"][2] is None
    later = table.take(pa.array([5]))  # a night after that does not hold the row
    third = night(tmp_path, "c", later, "b")
    assert counts(run(third)) == [1, 0, 1, 0]
    assert f"in quarantine since {times[1]}" in lines(third.output)[0][-1]
    assert state_of(tmp_path, "c")["e0000"] == (1, times[0], times[1])
    mended = night(tmp_path, "d", table.slice(1, 5), "c")
    assert counts(run(mended)) == [5, 5, 0, 0]
    assert state_of(tmp_path, "d")["e0000"] == (6, times[5], None)
    assert failures(mended.output) == []
    one = whole.slice(1, 5)
    assert tidy(mended.output).select(["entity", "time"]).equals(one.select(["entity", "time"]))
    gap = tidy(mended.output).column("score").to_numpy() - one.column("score").to_numpy()
    assert np.abs(gap).max() < 1e-6


def test_a_night_ends_where_no_row_of_an_entity_could_be_read(tmp_path: Path) -> None:
    table = make_series(LENGTHS)
    early, rest = split(table, 1)
    run(night(tmp_path, "a", early))
    second = night(tmp_path, "b", rest, "a")
    kept = part(tmp_path / "b", 4, 0).read_bytes()
    cut_off(part(tmp_path / "b", 4, 0))
    with pytest.raises(InputBroken, match=r"e0004/part-0\.parquet .* no other file has rows of entity entity='e0004'"):
        run(second)
    part(tmp_path / "b", 4, 0).write_bytes(kept)
    assert counts(run(second)) == [15, 15, 0, 0]


def test_a_night_ends_where_all_rows_of_an_entity_that_could_be_read_are_late(tmp_path: Path) -> None:
    table = make_series(LENGTHS)
    run(night(tmp_path, "a", split(table, 3)[0]))
    again = night(tmp_path, "b", table, "a")
    cut_off(part(tmp_path / "b", 0, 1))
    with pytest.raises(RunFailed, match=r"part-1\.parquet, .* all other rows of entity entity='e0000' are late"):
        run(again)


def test_an_entity_that_is_broken_already_stays_so_whatever_is_lost(tmp_path: Path) -> None:
    table = make_series(LENGTHS)
    early, rest = split(table, 3)
    first = night(tmp_path, "a", early)
    cut_off(part(tmp_path / "a", 0, 0))
    run(first)
    broken = state_of(tmp_path, "a")["e0000"]
    second = night(tmp_path, "b", rest, "a")
    cut_off(part(tmp_path / "b", 0, 0))
    assert counts(run(second))[2] == 1
    assert failures(second.output) == []
    assert state_of(tmp_path, "b")["e0000"] == broken
