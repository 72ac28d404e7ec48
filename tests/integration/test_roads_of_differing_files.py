"""Files of different types on all other roads: broken off and taken up, given up, damaged, lost, late, trained, shown.

Each test does to files that differ what other tests do to files that are alike, and compares with these: numbers that a
float32 holds, keys and times are the same, however they are spelt.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import Fill, StepSettings
from cluster.run_errors import InputRefused
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from jobs.commands import report, verify
from jobs.commands import state as state_job
from tests.harness.inprocess import Job, in_process, run, scores
from tests.inputs.damage import damaged_features
from tests.inputs.series import make_series
from tests.inputs.series import replace as put
from tests.integration.test_bad_inputs import quarantined
from tests.integration.test_carry_faults import check_sums, job, split, state_of, tidy
from tests.integration.test_carry_kills import ALWAYS, OFTEN, nights, poisoned
from tests.integration.test_checkpoints import Broken, breaking
from tests.integration.test_lost_files import job as job_of_folders
from tests.integration.test_lost_files import lines, part, write
from tests.integration.test_train import held_out, lay_out, table_with_targets, trained

SPELT = (
    {"time": pa.timestamp("us"), "f0": pa.float32(), "row": pa.int64(), "target": pa.float64()},
    {
        "entity": pa.large_string(),
        "time": pa.timestamp("ns"),
        "f0": pa.float64(),
        "row": pa.int32(),
        "f2": pa.float64(),
    },
    {
        "entity": pa.dictionary(pa.int32(), pa.string()),
        "time": pa.timestamp("ms"),
        "row": pa.uint16(),
        "f1": pa.float64(),
    },
)


def numbered(table: Any, kind: Any) -> Any:
    """The entity's number in the place of its name."""
    return put(table, "entity", pa.array([int(name[1:]) for name in table.column("entity").to_pylist()]).cast(kind))


def respell(folder: Path, *, parts: int = 3, keys: tuple[Any, ...] = (), group_rows: int = 17) -> None:
    """Cuts the rows of a folder into files, each with types of its own; with `keys` entities are whole numbers."""
    paths = sorted(folder.glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    for path in paths:
        path.unlink()
    for index, rows in enumerate(np.array_split(np.arange(table.num_rows), parts)):
        mine = table.take(pa.array(rows))
        for name, kind in SPELT[index % len(SPELT)].items():
            if name in table.column_names and name != "entity":
                mine = put(mine, name, mine.column(name).cast(kind))
            elif name == "entity" and not keys:
                mine = put(mine, name, mine.column(name).combine_chunks().dictionary_encode().cast(kind))
        mine = numbered(mine, keys[index % len(keys)]) if keys else mine
        pq.write_table(mine, folder / f"part-{index:03d}.parquet", row_group_size=group_rows)


def told(table: Any, *names: str) -> list[tuple[Any, ...]]:
    """Rows by what they say, whatever their types."""
    columns = [_spelt(table.column(name)) for name in names]
    return sorted(zip(*columns, strict=True), key=str)


def _spelt(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
    if pa.types.is_integer(column.type):
        return [None if value is None else int(value) for value in column.to_pylist()]
    return column.to_pylist()


def expect_same(found: Any, wanted: Any) -> None:
    names = ("entity", "time", "score")
    assert told(found, *names) == told(wanted, *names)


# ---- broken off, given up


@pytest.mark.parametrize("layout", ["auto", pytest.param("shuffle", marks=pytest.mark.soak)])
def test_a_night_of_differing_files_that_is_broken_again_and_again_goes_on(tmp_path: Path, layout: str) -> None:
    calm, storm = nights(tmp_path / "calm"), nights(tmp_path / "storm")
    for night in calm:
        check_sums(run(night))
    respell(tmp_path / "storm" / "in-b")
    run(storm[0])
    night = replace(storm[1], cluster=ALWAYS, input={**storm[1].input, "layout": layout})
    request, sessions = night.request(), 0
    for at in (2, 7, 1, 12):
        try:
            score(request, open_cluster=breaking(at))
        except Broken:
            sessions += 1
    assert sessions
    score(request, open_cluster=in_process)
    verify.expect_holds(verify.run(night.output))
    expect_same(scores(night.output), scores(calm[1].output))
    kept = ("entity", "last_time", "rows_seen", "broken_since", "state__memory__0")
    assert told(state_of(tmp_path / "storm", "b"), *kept) == told(state_of(tmp_path / "calm", "b"), *kept)


@pytest.mark.parametrize(("shard", "fragments"), [(0, 3), (1, 0)], ids=str)
def test_a_shard_of_differing_files_that_is_given_up_is_accounted_for(
    tmp_path: Path, shard: int, fragments: int
) -> None:
    first, second = nights(tmp_path)
    respell(tmp_path / "in-b")
    run(first)
    request = replace(second, cluster={**(ALWAYS if fragments else OFTEN), "max_attempts": 2}).request()
    record = score(request, open_cluster=poisoned(shard, fragments))
    check_sums(record)
    assert record["rows_quarantined"] > 0
    verify.expect_holds(verify.run(second.output))


# ---- damaged, lost


@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_damaged_pages_of_one_of_differing_files_cost_what_they_cost_of_files_alike(
    tmp_path: Path, layout: str
) -> None:
    asked, found = Job(nights(tmp_path)[0].model, tmp_path / "in", tmp_path / "out", FEATURES), []
    for name, kind in (("alike", None), ("differ", pa.float64())):
        folder = tmp_path / name
        damaged_features(folder, make_series([6, 5, 4, 3, 2]), [8, 12], [8, 6])
        if kind is not None:  # the file that is whole gets other types
            table = pq.read_table(folder / "part-000.parquet")
            table = put(put(table, "f0", table.column("f0").cast(kind)), "f1", pa.array([1, None] * 4, pa.int8()))
            table = put(table, "time", table.column("time").cast(pa.timestamp("ns")))
            pq.write_table(table, folder / "part-000.parquet")
        fills = {"f1": Fill(0.0)}
        mine = replace(asked, path=folder, output=tmp_path / f"out-{name}", input={"layout": layout, "fill": fills})
        record = run(replace(mine, step=StepSettings(4, 4), quarantine_limit=1.0))
        verify.expect_holds(verify.run(mine.output))
        lost = [(Path(file).name, *rest[:-1]) for file, *rest in quarantined(mine.output)]
        found.append(([record[f"rows_{count}"] for count in ("in", "scored", "quarantined")], lost))
    assert found[0] == found[1]


FEATURES = (("rows", ("f0", "f1", "f2")),)


@pytest.mark.parametrize("layout", ["auto", "shuffle"])
def test_damaged_pages_of_a_kept_column_whose_type_is_another_one_cost_the_same(tmp_path: Path, layout: str) -> None:
    """Without statistics its values are looked at before anything is scored: what is damaged is not what decides."""
    table = make_series((6, 5, 4, 3, 2)).append_column("kept", pa.array(range(20), pa.int64()))
    (tmp_path / "in").mkdir()
    whole, torn = table.slice(0, 8), tmp_path / "in" / "part-001.parquet"
    pq.write_table(put(whole, "kept", pa.array([0.5] * 8)), tmp_path / "in" / "part-000.parquet")
    pq.write_table(table.slice(8), torn, row_group_size=6, write_statistics=False)
    spoil_pages(torn, {"kept"}, group=1)
    asked = Job(nights(tmp_path / "x")[0].model, tmp_path / "in", tmp_path / "out", FEATURES, step=StepSettings(4, 4))
    record = run(replace(asked, input={"layout": layout, "keep": ("kept",)}, quarantine_limit=1.0))
    assert [record[f"rows_{count}"] for count in ("in", "scored", "quarantined")] == [20, 14, 6]
    verify.expect_holds(verify.run(asked.output))


def spoil_pages(path: Path, columns: set[str], *, group: int) -> None:
    """Writes over the pages of some columns in one row group."""
    content, footer = bytearray(path.read_bytes()), pq.read_metadata(path)
    for chunk in [footer.row_group(group).column(index) for index in range(footer.num_columns)]:
        if chunk.path_in_schema in columns:
            begin = chunk.dictionary_page_offset or chunk.data_page_offset
            content[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def test_a_lost_file_among_differing_ones_costs_its_entity_alone(tmp_path: Path) -> None:
    write(tmp_path / "in", make_series((6, 5, 4, 3, 2)))
    for entity, number, changes in ((0, 0, {"time": pa.timestamp("ns")}), (2, 0, {"f0": pa.float64()})):
        path = part(tmp_path, entity, number)
        table = pq.ParquetFile(path).read()
        for name, kind in changes.items():
            table = put(table, name, table.column(name).cast(kind))
        pq.write_table(table, path)
    part(tmp_path, 1, 0).write_bytes(b"no Parquet")
    asked = job_of_folders(tmp_path)
    record = run(asked)
    assert [record[f"entities_{name}"] for name in ("in", "scored", "quarantined")] == [5, 4, 1]
    assert {line[0] for line in lines(asked.output)} == {"e0001"}
    verify.expect_holds(verify.run(asked.output))


# ---- nights


@pytest.mark.parametrize("keys", [(), (pa.int16(), pa.int64(), pa.uint8())], ids=["text", "numbers"])
@pytest.mark.parametrize("late", ["quarantine", "drop"])
def test_late_rows_and_those_handed_on_are_the_same_in_every_spelling(tmp_path: Path, late: str, keys: Any) -> None:
    early, rest = split(make_series([12, 7, 20, 4, 9], extra=True), [8, 7, 12, 0, 0])
    again = early.take(pa.array([7, 9]))
    for name, differ in (("alike", False), ("differ", True)):
        for night, table, read in (("a", early, None), ("b", tidy(rest, again), "a")):
            asked = job(tmp_path / name, night, table, read, state={"late": late})
            if differ or keys:
                respell(tmp_path / name / f"in-{night}", parts=3 if differ else 1, keys=keys)
            check_sums(run(asked))
            verify.expect_holds(verify.run(asked.output))
    expect_same(scores(tmp_path / "differ" / "out-b"), scores(tmp_path / "alike" / "out-b"))
    kept = ("entity", "last_time", "rows_seen", "broken_since", "state__memory__0")
    assert told(state_of(tmp_path / "differ", "b"), *kept) == told(state_of(tmp_path / "alike", "b"), *kept)


def test_tables_of_different_spellings_can_be_compared_and_looked_into(tmp_path: Path) -> None:
    early, rest = split(make_series([12, 7, 20, 4, 9], extra=True), [8, 4, 12, 4, 0])
    kinds = {"a": (pa.int16(),), "b": (pa.int32(), pa.uint64())}
    for night, table, read in (("a", early, None), ("b", rest, "a")):
        asked = job(tmp_path, night, table, read)
        respell(tmp_path / f"in-{night}", parts=2, keys=kinds[night])
        run(asked)
    found = state_job.diff(str(tmp_path / "state-a"), str(tmp_path / "state-b")).found
    assert (found.moved, found.same, found.gone, found.new, found.broke, found.mended) == (3, 1, 0, 1, 0, 0)
    assert state_job.show(str(tmp_path / "state-b"), ["2"]).as_dict()["entity"][0]["rows_seen"] == 20
    backwards = state_job.diff(str(tmp_path / "state-b"), str(tmp_path / "state-a")).found
    assert (backwards.gone, backwards.new) == (1, 0)


# ---- training, report


def test_a_training_on_differing_files_moves_the_weights_as_on_files_alike(tmp_path: Path) -> None:
    reports = []
    for name in ("alike", "differ", "mixed"):
        (tmp_path / name).mkdir()
        path = lay_out(tmp_path / name, table_with_targets())
        order = [] if name != "mixed" else ["input.layout=shuffle"]
        if name != "alike":
            respell(tmp_path / name / "in")
        reports.append(trained(path, held_out(), "train.epochs=1", *order))
    assert len({report.model_fingerprint for report in reports}) == 1
    assert len({report.epochs[-1].validation_loss for report in reports}) == 1
    assert reports[0].targets_validated == reports[1].targets_validated > 0


def test_the_report_of_a_run_over_differing_files_is_written(tmp_path: Path) -> None:
    asked = job(tmp_path, "a", make_series([12, 7, 20], extra=True), input={"keep": ("row",)})
    respell(tmp_path / "in-a", keys=(pa.int16(), pa.int64()))
    run(asked)
    assert Path(report.run(str(asked.output)).report).read_text().startswith("<!doctype html>")


# ---- folders


def test_folders_that_are_numbers_one_night_and_text_the_next_name_the_same_entities(tmp_path: Path) -> None:
    """The names are whole numbers, then one of them is none, then they are whole numbers again."""
    tables = {name: make_series([9], seed=seed) for seed, name in enumerate(("101", "7", "A7"))}
    present = (("101", "7"), ("101", "A7"), ("101",), ("7", "A7"))
    read: dict[str, Path] = {}
    for night, names in enumerate(present):
        for name in names:
            rows = tables[name].slice(2 * night, 2).drop_columns("entity")
            path = tmp_path / f"in{night}" / f"entity={name}" / "part.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(rows, path)
        state = {"write": tmp_path / f"state{night}", **read}
        step = StepSettings(4, 4)
        asked = Job(
            nights(tmp_path / "x")[0].model, tmp_path / f"in{night}", tmp_path / f"out{night}", FEATURES, step=step
        )
        run(replace(asked, state=state, run_id=f"n{night}"))
        verify.expect_holds(verify.run(asked.output))
        read = {"read": tmp_path / f"state{night}"}
    for name, table in tables.items():
        mine = [night for night, names in enumerate(present) if name in names]
        rows = pa.concat_tables([table.slice(2 * night, 2) for night in mine])
        whole = tmp_path / "whole" / name
        pq.write_table(rows, _made(whole / "in") / "part.parquet")
        run(replace(asked, path=whole / "in", output=whole / "out", state={}))
        wanted = scores(whole / "out").column("score").to_pylist()
        found = [_scores_of(tmp_path / f"out{night}", name) for night in mine]
        assert np.concatenate(found) == pytest.approx(wanted, abs=1e-6)
    last = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "state3").glob("*.parquet"))])
    assert sorted(last.column("entity").to_pylist()) == ["101", "7", "A7"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _scores_of(output: Path, entity: str) -> list[float]:
    table = scores(output)
    named = [str(value) == entity for value in table.column("entity").to_pylist()]
    return list(table.filter(pa.array(named)).column("score").to_pylist())


# ---- carry-over that no night can go on from


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: numbered(table, pa.int64()), r"column 'entity' is large_string, and tonight's is int64"),
        (
            lambda table: put(table, "time", table.column("time").cast(pa.timestamp("us", "UTC"))),
            r"column 'last_time' is timestamp\[us\], and tonight's is timestamp\[us, tz=UTC\]",
        ),
        (
            lambda table: put(table, "time", table.column("time").cast(pa.int64())),
            r"column 'last_time' is timestamp\[us\], and tonight's is int64",
        ),
    ],
    ids=["text and numbers", "zones", "times and numbers"],
)
def test_what_cannot_be_compared_is_said_before_anything_starts(tmp_path: Path, change: Any, says: str) -> None:
    early, rest = split(make_series([12, 7], extra=True), [8, 4], [12, 7])
    run(job(tmp_path, "a", early))
    with pytest.raises(InputRefused, match=says + ", which cannot be compared; .*leave the key out to start from zero"):
        run(job(tmp_path, "b", change(rest), "a"))
    assert not (tmp_path / "out-b" / "_slotcar").exists()


def test_a_last_time_beyond_nanoseconds_is_compared_with_whole_microseconds_and_with_nothing_finer(
    tmp_path: Path,
) -> None:
    far = pa.array([1_000_000, 253_402_300_799_000_000], pa.timestamp("us"))
    early = put(make_series([2]), "time", far)
    run(job(tmp_path, "a", early))
    for number, fits in ((4_000, True), (4_001, False)):
        late = put(make_series([1]), "time", pa.array([number], pa.timestamp("ns")))
        asked = job(tmp_path, f"b{number}", late, "a")
        if fits:
            record = run(asked)
            assert (record["rows_scored"], record["rows_quarantined"]) == (0, 1)
            assert state_of(tmp_path, f"b{number}").schema.field("last_time").type == pa.timestamp("us")
            verify.expect_holds(verify.run(asked.output))
        else:
            with pytest.raises(
                InputRefused, match=r"its 'time' is timestamp\[us\], and tonight's is timestamp\[ns\], and"
            ):
                run(asked)
            assert LocalStore(str(asked.output)).find("_slotcar/run.json") is None
