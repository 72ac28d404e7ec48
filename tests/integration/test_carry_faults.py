"""What does not fit the carry-over: late rows, entities that are broken, unknown or absent, and tables to refuse."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import Fill, StepSettings
from cluster.run_errors import InputRefused, OutputRefused, RunFailed, TooManyBadRows
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run.run import score
from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import state as state_job
from jobs.commands import verify
from tests.harness.inprocess import Job, in_process, run, scores
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.models.keras_models import FIT, contract_of, save
from tests.paths import ROOT

MODEL = save(FIT["lstm"]())
FEATURES = columns_for(contract_of(MODEL, "lstm"))
LENGTHS = [12, 7, 20, 4, 9]
CHUNK = 4


def job(folder: Path, night: str, table: Any, read: str | None = None, **changes: Any) -> Job:
    """A night over `table`; its state is written under the night's name."""
    write_cut(folder / f"in-{night}", table, [table.num_rows], [17])
    state = {"write": folder / f"state-{night}", **({"read": folder / f"state-{read}"} if read else {})}
    state |= changes.pop("state", {})
    base = Job(MODEL, folder / f"in-{night}", folder / f"out-{night}", FEATURES, run_id=night, quarantine_limit=1.0)
    return replace(base, step=StepSettings(4, CHUNK), state=state, **changes)


def series(lengths: Sequence[int] = LENGTHS) -> Any:
    return make_series(lengths, extra=True)


def split(table: Any, firsts: Sequence[int], lengths: Sequence[int] = LENGTHS) -> tuple[Any, Any]:
    """Each entity's first so many rows, and the others."""
    position = np.concatenate([np.arange(length) for length in lengths])
    early = position < np.repeat(firsts, lengths)
    return table.filter(pa.array(early)), table.filter(pa.array(~early))


def rows_of(table: Any, entity: int, positions: Sequence[int], lengths: Sequence[int] = LENGTHS) -> list[int]:
    return [sum(lengths[:entity]) + position for position in positions]


def state_of(folder: Path, night: str) -> Any:
    files = sorted((folder / f"state-{night}").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in files]).sort_by("entity")


def told(table: Any, *names: str) -> dict[str, Any]:
    """Some columns of a carry-over by entity."""
    columns = [table.column(name).to_pylist() for name in names]
    values = columns[0] if len(names) == 1 else list(zip(*columns, strict=True))
    return dict(zip(table.column("entity").to_pylist(), values, strict=True))


def tidy(*tables: Any) -> Any:
    return pa.concat_tables(tables).sort_by([("entity", "ascending"), ("time", "ascending")])


def quarantined(output: Path) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for path in sorted((output / "_quarantine").glob("*.parquet")):
        for line in pq.read_table(path).to_pylist():
            found.setdefault(line["entity"], []).append((line["reason"], line["rows"]))
    return found


def check_sums(record: dict[str, Any]) -> None:
    assert record["rows_in"] == record["rows_scored"] + record["rows_quarantined"] + record["rows_skipped"]


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    """One run over everything."""
    work = job(tmp_path, "whole", series())
    run(work)
    return tidy(scores(work.output))


# ---- late rows


@pytest.mark.parametrize("late", ["quarantine", "drop"])
def test_late_rows_are_left_out_and_the_entity_goes_on(tmp_path: Path, whole: Any, late: str) -> None:
    early, rest = split(series(), [8, 4, 12, 4, 0])
    first = job(tmp_path, "a", early)
    run(first)
    again = rows_of(series(), 0, [3, 7]) + rows_of(series(), 2, [0])  # the last one is the carried last time itself
    second = tidy(rest, series().take(pa.array(again)))
    work = job(tmp_path, "b", second, "a", state={"late": late})
    record = run(work)
    check_sums(record)
    kept = record["rows_quarantined"] if late == "quarantine" else record["rows_skipped"]
    assert (kept, record["rows_scored"]) == (3, rest.num_rows)
    assert tidy(scores(first.output), scores(work.output)).equals(whole)
    expected = {"e0000": 2, "e0002": 1} if late == "quarantine" else {}
    assert {entity: lines[0][1] for entity, lines in quarantined(work.output).items()} == expected
    assert state_of(tmp_path, "b").equals(state_of(tmp_path, "whole"))


def test_late_rows_that_fail_are_named(tmp_path: Path) -> None:
    early, rest = split(series(), [8] * 5)
    run(job(tmp_path, "a", early))
    second = tidy(rest, series().take(pa.array([2])))
    with pytest.raises(RunFailed, match=r"part-000\.parquet, row 0: the row is not after the last one"):
        run(job(tmp_path, "b", second, "a", state={"late": "fail"}))


def test_an_entity_whose_rows_are_all_late_keeps_its_state(tmp_path: Path) -> None:
    run(job(tmp_path, "a", series()))
    work = job(tmp_path, "b", series(), "a")
    record = run(work)
    assert (record["rows_scored"], record["rows_quarantined"]) == (0, sum(LENGTHS))
    check_sums(record)
    assert state_of(tmp_path, "b").equals(state_of(tmp_path, "a"))


def test_late_rows_of_an_entity_out_of_order_are_found(tmp_path: Path, whole: Any) -> None:
    early, rest = split(series(), [8, 4, 12, 4, 0])
    first = job(tmp_path, "a", early)
    run(first)
    both = tidy(rest, series().take(pa.array([1, 5])))
    backwards = both.take(pa.array(np.concatenate([rows[::-1] for rows in _stretches(both)])))
    work = job(tmp_path, "b", backwards, "a")
    check_sums(run(work))
    assert tidy(scores(first.output), scores(work.output)).equals(whole)


def _stretches(table: Any) -> list[Any]:
    entity = table.column("entity").to_numpy(zero_copy_only=False)
    return np.split(np.arange(len(entity)), np.flatnonzero(entity[1:] != entity[:-1]) + 1)


# ---- broken entities


def test_a_broken_entity_stays_in_quarantine_until_its_row_comes_again_and_is_good(tmp_path: Path, whole: Any) -> None:
    table = series()
    early, rest = split(table, [8, 4, 12, 4, 5])
    bad = rows_of(table, 0, [5])[0]
    first = job(tmp_path, "a", with_nulls(early, "f0", [5]))
    record = run(first)
    assert (record["rows_quarantined"], record["entities_quarantined"]) == (3, 1)
    since = table.column("time")[bad].as_py()
    assert told(state_of(tmp_path, "a"), "rows_seen", "broken_since")["e0000"] == (5, since)
    assert told(state_of(tmp_path, "a"), "broken_since")["e0001"] is None
    second = job(tmp_path, "b", rest, "a")
    record = run(second)
    check_sums(record)
    assert record["rows_quarantined"] == 4
    assert "since" in quarantined(second.output)["e0000"][0][0]
    before, after = (told(state_of(tmp_path, night), "last_time", "rows_seen", "broken_since") for night in "ab")
    assert after["e0000"] == before["e0000"]
    mended = table.take(pa.array(rows_of(table, 0, range(5, 12))))
    third = job(tmp_path, "c", mended, "b")
    record = run(third)
    assert (record["rows_scored"], record["rows_quarantined"]) == (7, 0)
    found = tidy(*(scores(work.output) for work in (first, second, third)))
    assert found.select(["entity", "time"]).equals(whole.select(["entity", "time"]))
    assert np.abs(found.column("score").to_numpy() - whole.column("score").to_numpy()).max() < 1e-6
    names = ["entity", "last_time", "rows_seen", "broken_since"]
    assert state_of(tmp_path, "c").select(names).equals(state_of(tmp_path, "whole").select(names))


def test_a_row_that_comes_again_and_is_still_bad_breaks_its_entity_again(tmp_path: Path) -> None:
    table = series()
    early, _ = split(table, [8, 4, 12, 4, 5])
    run(job(tmp_path, "a", with_nulls(early, "f0", [5])))
    again = with_nulls(table, "f0", [5]).take(pa.array(rows_of(table, 0, range(5, 12))))
    record = run(job(tmp_path, "b", again, "a"))
    assert (record["rows_scored"], record["rows_quarantined"]) == (0, 7)
    before, after = (told(state_of(tmp_path, night), "rows_seen", "broken_since")["e0000"] for night in "ab")
    assert before == after


def test_an_entity_that_is_bad_from_its_first_row_leaves_only_that(tmp_path: Path, whole: Any) -> None:
    table = series()
    early, rest = split(table, [8, 4, 12, 4, 5])
    first = job(tmp_path, "a", with_nulls(early, "f0", [0]))
    run(first)
    row = {name: values[0] for name, values in state_of(tmp_path, "a").to_pydict().items()}
    assert (row["last_time"], row["rows_seen"], row["broken_since"]) == (None, 0, table.column("time")[0].as_py())
    assert not any(row["state__memory__0"] + row["state__memory__1"])
    run(job(tmp_path, "b", rest, "a"))
    assert told(state_of(tmp_path, "b"), "rows_seen")["e0000"] == 0
    third = job(tmp_path, "c", table.slice(0, 12), "b")
    assert run(third)["rows_scored"] == 12
    mine = whole.filter(pa.array(np.arange(whole.num_rows) < 12))
    assert scores(third.output).equals(mine)


# ---- long entities, in pieces


LONG = [30, 5000, 8]


def long_job(folder: Path, night: str, table: Any, read: str | None = None, **changes: Any) -> Job:
    return job(folder, night, table, read, write={"rows_per_file": 1000}, **changes)


def test_a_long_entity_goes_on_in_pieces_behind_its_late_rows(tmp_path: Path) -> None:
    table = make_series(LONG, extra=True)
    early, rest = split(table, [12, 2400, 8], LONG)
    work = long_job(tmp_path, "whole", table)
    run(work)
    first = long_job(tmp_path, "a", early)
    run(first)
    again = table.take(pa.array(rows_of(table, 1, [0, 7, 2399], LONG)))
    second = long_job(tmp_path, "b", tidy(rest, again), "a")
    record = run(second)
    check_sums(record)
    assert (record["rows_quarantined"], quarantined(second.output)["e0001"][0][1]) == (3, 3)
    assert tidy(scores(first.output), scores(second.output)).equals(tidy(scores(work.output)))
    assert state_of(tmp_path, "b").equals(state_of(tmp_path, "whole"))


@pytest.mark.parametrize("bad", [0, 1, 2047, 2048, 2049, 4999], ids=str)
def test_a_long_entity_leaves_the_state_of_its_last_good_row_wherever_a_piece_ends(tmp_path: Path, bad: int) -> None:
    table = make_series(LONG, extra=True)
    run(long_job(tmp_path, "a", with_nulls(table, "f0", [30 + bad])))
    row = told(state_of(tmp_path, "a"), "rows_seen", "broken_since", "last_time")["e0001"]
    times = table.column("time")
    assert row == (bad, times[30 + bad].as_py(), times[30 + bad - 1].as_py() if bad else None)
    if bad:
        good = long_job(tmp_path, "good", table.slice(30, bad))
        run(good)
        names = ["state__memory__0", "state__memory__1"]
        assert told(state_of(tmp_path, "a"), *names)["e0001"] == told(state_of(tmp_path, "good"), *names)["e0001"]


def test_a_long_entity_that_is_late_or_broken_as_a_whole_keeps_its_row(tmp_path: Path) -> None:
    table = make_series(LONG, extra=True)
    early, rest = split(table, [12, 2400, 8], LONG)
    run(long_job(tmp_path, "a", with_nulls(early, "f0", [12 + 2000])))
    late = long_job(tmp_path, "b", early.slice(0, 12 + 2000), "a")
    record = run(late)
    check_sums(record)
    assert record["rows_scored"] == 0
    broken = long_job(tmp_path, "c", rest, "b")
    record = run(broken)
    check_sums(record)
    assert record["rows_quarantined"] == 2600
    mine = [told(state_of(tmp_path, night), "last_time", "rows_seen", "broken_since")["e0001"] for night in "abc"]
    assert mine[0] == mine[1] == mine[2]


# ---- who is unknown, and who is absent


def test_an_entity_without_carry_over_starts_from_zero_or_is_named(tmp_path: Path, whole: Any) -> None:
    table = series()
    first, second = table.slice(0, 19), table.slice(19)
    run(job(tmp_path, "a", first))
    work = job(tmp_path, "b", second, "a")
    run(work)
    assert tidy(scores(tmp_path / "out-a"), scores(work.output)).equals(whole)
    with pytest.raises(InputRefused, match=r"3 of 3 entities have no carry-over .* the first is entity='e0002'"):
        run(job(tmp_path, "c", second, "a", state={"missing": "fail"}))


def test_who_is_absent_is_handed_on_to_the_bit(tmp_path: Path) -> None:
    run(job(tmp_path, "a", series()))
    run(job(tmp_path, "b", make_series([3] * 8).slice(15), "a"))
    before, after = state_of(tmp_path, "a"), state_of(tmp_path, "b")
    assert after.num_rows == 8
    assert after.slice(0, 5).equals(before)


def test_last_known_words_outlive_another_order_of_the_vocabulary(tmp_path: Path) -> None:
    blob = save(FIT["two_inputs"]())
    features = columns_for(contract_of(blob, "two_inputs"))
    code = features[1][1][0] if features[1][0] == "carrier" else features[0][1][0]
    words = pa.array(["AA", "zz", "UA", "AA", None, None])
    table = make_series([3, 3]).append_column(code, words)
    fill = {"fill": {code: Fill(previous=True)}}
    common = {"model": blob, "features": features}
    run(replace(job(tmp_path, "a", table.slice(0, 4)), input={**fill, "vocabulary": {code: ("AA", "UA")}}, **common))
    column = f"previous__{code}"
    assert told(state_of(tmp_path, "a"), column) == {"e0000": "UA", "e0001": "AA"}
    work = job(tmp_path, "b", table.slice(4), "a")
    run(replace(work, input={**fill, "vocabulary": {code: ("UA", "AA")}}, **common))
    assert told(state_of(tmp_path, "b"), column) == {"e0000": "UA", "e0001": "AA"}
    assert scores(work.output).num_rows == 2


# ---- refusals


def test_a_table_that_is_not_there_half_written_or_of_another_model_is_refused(tmp_path: Path) -> None:
    early, rest = split(series(), [4] * 5)
    run(job(tmp_path, "a", early))
    with pytest.raises(InputRefused, match="found no carry-over"):
        run(job(tmp_path, "b", rest, "nowhere"))
    half = tmp_path / "state-half"
    shutil.copytree(tmp_path / "state-a", half)
    (half / "_SUCCESS").unlink()
    with pytest.raises(InputRefused, match="1 Parquet files without _SUCCESS: its run has not ended"):
        run(job(tmp_path, "b", rest, "half"))
    shutil.copytree(tmp_path / "state-a", tmp_path / "state-less")
    next((tmp_path / "state-less").glob("part-*.parquet")).unlink()
    with pytest.raises(InputRefused, match="holds 0 entities in 0 files, but its _SUCCESS says 5 in 1"):
        run(job(tmp_path, "b", rest, "less"))
    other = replace(job(tmp_path, "b", rest, "a"), model=save(FIT["gru"]()))
    with pytest.raises(InputRefused, match=r"it is of the model .* another architecture or other weights"):
        run(other)
    assert not (tmp_path / "out-b" / "_slotcar").exists()


def test_keys_of_another_type_are_refused(tmp_path: Path) -> None:
    early, rest = split(series(), [4] * 5)
    run(job(tmp_path, "a", early))
    numbers = pa.array([int(name[1:]) for name in rest.column("entity").to_pylist()])
    with pytest.raises(InputRefused, match=r"column 'entity' is large_string, and tonight's is int64"):
        run(job(tmp_path, "b", rest.set_column(0, "entity", numbers), "a"))


def test_a_place_that_another_run_writes_is_refused_unless_its_output_is_overwritten(tmp_path: Path) -> None:
    run(job(tmp_path, "a", series()))
    work = job(tmp_path, "b", series(), state={"write": tmp_path / "state-a"})
    with pytest.raises(OutputRefused, match="is the carry-over of another run, a"):
        run(work)
    (tmp_path / "foreign").mkdir()
    pq.write_table(series(), tmp_path / "foreign" / "x.parquet")
    with pytest.raises(OutputRefused, match="which no run of slotcar has written"):
        run(replace(work, state={"write": tmp_path / "foreign"}))
    with pytest.raises(OutputRefused, match="is the carry-over of another run, a"):
        run(replace(work, write={"overwrite": True}))
    run(replace(job(tmp_path, "a", series()), run_id="again", write={"overwrite": True}))
    assert json.loads((tmp_path / "state-a" / "_slotcar" / "run.json").read_text())["run_id"] == "again"


def test_too_many_bad_rows_withhold_both_marks_until_they_are_allowed(tmp_path: Path) -> None:
    work = replace(job(tmp_path, "a", with_nulls(series(), "f0", [0])), quarantine_limit=0.01)
    remedy = "mend them and give a new output.path and state.write, or give the same command a higher limit"
    with pytest.raises(TooManyBadRows, match=f"are in quarantine, more than .*: {remedy}") as caught:
        run(work)
    assert caught.value.record == json.loads((work.output / "_slotcar" / "run.json").read_text())
    assert not (tmp_path / "state-a" / "_SUCCESS").exists()
    run(replace(work, quarantine_limit=1.0))
    assert (tmp_path / "state-a" / "_SUCCESS").exists()
    assert (work.output / "_SUCCESS").exists()


def test_the_same_night_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    early, rest = split(series(), [5, 2, 9, 4, 1])
    run(job(tmp_path, "a", early))
    for night in ("b", "c"):
        run(replace(job(tmp_path, night, rest, "a"), replicas=1 if night == "b" else 2))
    files = [sorted((tmp_path / f"state-{night}").glob("*")) for night in "bc"]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert [path.read_bytes() for path in files[0] if path.is_file()] == [
        path.read_bytes() for path in files[1] if path.is_file()
    ]


# ---- the audit


@contextmanager
def rescoring_here(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    yield AuditActor(spec, model).rescore


def of_kinds(folder: Path, **changes: Any) -> Path:
    """A night with late rows, a broken entity that stays so, a new one, one that is absent, and last known values."""
    table = series()
    early, rest = split(table, [8, 4, 12, 4, 0])
    fill = {"fill": {"f1": Fill(previous=True)}}
    blob_path = folder / "model.keras"
    blob_path.write_bytes(MODEL)
    run(job(folder, "a", with_nulls(early, "f0", [12 + 4]), input=fill))
    again = table.take(pa.array([*rows_of(table, 0, [3, 7]), *rows_of(table, 3, [1])]))
    first = np.flatnonzero(rest.column("entity").to_numpy(zero_copy_only=False) == "e0001")[0]
    night = tidy(with_nulls(rest, "f1", [int(first)]), again)
    work = job(folder, "b", night, "a", input=fill, **changes)
    score(replace(work.request(), model_path=str(blob_path)), open_cluster=in_process)
    return work.output


@pytest.mark.parametrize("late", ["quarantine", "drop"])
def test_the_audit_of_a_night_holds_and_scores_again_from_what_was_carried(tmp_path: Path, late: str) -> None:
    output = of_kinds(tmp_path, state={"late": late})
    found = verify.run(output, 5, rescoring_here)
    verify.expect_holds(found)
    rows = {pair["values"]: pair["counts"] for pair in scores(output).column("entity").value_counts().to_pylist()}
    assert {one.entity.split("'")[1]: one.rows for one in found.rescored} == rows
    assert {check.name: check.counted for check in found.checks}["carry-over"] > 4


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "state-b" / "_SUCCESS").write_text("{}"), "not the digest"),
        (lambda folder: next((folder / "state-b").glob("part-*")).unlink(), "cannot be read"),
        (lambda folder: shutil.rmtree(folder / "state-a"), "cannot be read again"),
        (lambda folder: _say_seen(folder / "state-b", 99), "does not hold the rows that"),
    ],
    ids=["mark", "part", "read", "seen"],
)
def test_the_audit_sees_what_is_wrong_with_carry_over(tmp_path: Path, spoil: Any, says: str) -> None:
    output = of_kinds(tmp_path)
    spoil(tmp_path)
    found = {check.name: check for check in verify.run(output).checks}
    assert not found["carry-over"].holds
    assert says in (found["carry-over"].first or "")


def _say_seen(folder: Path, rows: int) -> None:
    path = next(folder.glob("part-*"))
    table = pq.read_table(path)
    place = table.schema.get_field_index("rows_seen")
    pq.write_table(table.set_column(place, "rows_seen", pa.array([rows] * table.num_rows)), path)


# ---- looking in


def test_show_and_diff_say_how_entities_stand_and_who_has_moved(tmp_path: Path) -> None:
    early, rest = split(series(), [8, 4, 12, 4, 0])
    run(job(tmp_path, "a", early))
    run(job(tmp_path, "b", rest, "a"))
    shown = state_job.show(str(tmp_path / "state-b"), ["e0002"]).as_dict()
    assert (shown["entities"], shown["entity"][0]["rows_seen"]) == (5, 20)
    assert len(shown["entity"][0]["state__memory__0"]) == 4
    found = state_job.diff(str(tmp_path / "state-a"), str(tmp_path / "state-b")).found
    assert (found.moved, found.same, found.gone, found.new, found.broke, found.mended) == (3, 1, 0, 1, 0, 0)
    assert found.names["moved"] == ["entity='e0000'", "entity='e0001'", "entity='e0002'"]
    backwards = state_job.diff(str(tmp_path / "state-b"), str(tmp_path / "state-a")).found
    assert (backwards.gone, backwards.new) == (1, 0)
    mended = state_job.diff(str(tmp_path / "state-b"), str(tmp_path / "state-a"))
    page = DataConsole(width=200)
    with page.capture() as text:
        page.print(mended.render())
    guide = (ROOT / "jobs" / "guides" / "nights.md").read_text().partition("| kind | means |")[2]
    rows = [line.strip("| ").split(" | ") for line in guide.partition("\n\n")[0].splitlines()[2:]]
    assert [kind for kind, _ in rows] == ["as they were", *state_job.MEANINGS]
    for kind, means in rows:
        assert re.search(rf"{kind} *│ *\d+ *│ *{means}", text.get()), "the terminal says what the guide says"
    with pytest.raises(InputRefused, match="has no entity nobody among 5"):
        state_job.show(str(tmp_path / "state-b"), ["nobody"])
    with pytest.raises(InputRefused, match="named by 1 columns"):
        state_job.show(str(tmp_path / "state-b"), ["a", "b"])
