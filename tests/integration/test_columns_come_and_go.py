"""Columns that some files do not have, or that are null there, and files without rows: what a fill mends is mended.

Each input is read as it lies and clustered first. The files are those of `tests.harness.differing`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import Fill, StepSettings
from cluster.run_errors import InputRefused
from cluster.runtime.audit.audit import audit
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from tests.harness.differing import (
    DAYS,
    ENTITIES,
    FEATURES,
    NAMES,
    NOTES,
    ONE,
    SETTINGS,
    Types,
    scored,
    truth,
    write_file,
)
from tests.harness.inprocess import Job, in_process
from tests.harness.truth import TOLERANCE
from tests.models.keras_models import FIT, save

MODEL = save(FIT["several_codes_per_row"]())
ROWS = ENTITIES * DAYS
NULLS: Types = dict.fromkeys(NAMES, pa.null())
layouts = pytest.mark.parametrize("layout", ["clustered", "shuffle"])


def write(folder: Path, *files: tuple[Types, bool] | Types) -> list[Path]:
    """Files of these types, later ones with later rows; a pair says whether the file is empty."""
    paths = [folder / "in" / f"part-{place}.parquet" for place in range(len(files))]
    for place, file in enumerate(files):
        types, empty = file if isinstance(file, tuple) else (file, False)
        write_file(paths[place], types, place * DAYS, empty=empty)
    return paths


def job(folder: Path, layout: str, **settings: Any) -> Job:
    asked = Job(MODEL, folder / "in", folder / "out", FEATURES, step=StepSettings(4, 3), quarantine_limit=1.0)
    return replace(asked, input={**SETTINGS, "layout": layout, **settings})


def run(asked: Job) -> tuple[list[int], list[tuple[int, str]]]:
    """(rows in, scored, in quarantine) and, for each line of the quarantine, its rows and its reason."""
    record = score(asked.request(), open_cluster=in_process)
    assert [check for check in audit(LocalStore(str(asked.output))).checks if check.failures] == []
    files = sorted((asked.output / "_quarantine").glob("*.parquet"))
    lines = [line for path in files for line in pq.read_table(path, partitioning=None).to_pylist()]
    counts = [record[f"rows_{name}"] for name in ("in", "scored", "quarantined")]
    return counts, [(line["rows"], line["reason"]) for line in lines]


def expect_truth(asked: Job, files: list[Path]) -> None:
    wanted, found = truth(MODEL, files), scored(asked.output)
    assert found.keys() == wanted.keys()
    assert all(found[place][1] == wanted[place][1] for place in wanted)
    assert max(abs(found[place][0] - wanted[place][0]) for place in wanted) <= TOLERANCE


@layouts
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", [None, pa.null()], ids=["missing", "null"])
def test_every_filled_feature_may_be_missing_or_null_in_any_file(
    tmp_path: Path, kind: Any, place: int, layout: str
) -> None:
    files = [ONE, ONE, ONE]
    files[place] = {**ONE, **dict.fromkeys(("f0", "f2", "code", "word"), kind)}
    paths, asked = write(tmp_path, *files), job(tmp_path, layout)
    assert run(asked) == ([3 * ROWS, 3 * ROWS, 0], [])
    expect_truth(asked, paths)


@layouts
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "types",
    [NULLS, dict.fromkeys(NAMES), dict.fromkeys(NAMES, pa.float64()), {**NULLS, **dict.fromkeys(NOTES)}, ONE],
    ids=["null", "no columns", "floats", "some", "alike"],
)
def test_a_file_without_rows_says_nothing(tmp_path: Path, types: Types, place: int, layout: str) -> None:
    files: list[Any] = [ONE, ONE]
    files.insert(place, (types, True))
    paths, asked = write(tmp_path, *files), job(tmp_path, layout)
    assert run(asked) == ([2 * ROWS, 2 * ROWS, 0], [])
    expect_truth(asked, [path for path in paths if pq.read_metadata(path).num_rows])


@layouts
def test_an_input_of_files_without_rows_is_refused(tmp_path: Path, layout: str) -> None:
    write(tmp_path, (ONE, True), (ONE, True))
    with pytest.raises(InputRefused, match="has no rows in 2 files"):
        run(job(tmp_path, layout))


@layouts
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["f1", "code", "word"])
def test_a_feature_without_a_fill_that_is_null_in_a_file_is_a_fault_of_its_rows(
    tmp_path: Path, name: str, place: int, layout: str
) -> None:
    whole = {**ONE, "f1": pa.int32()}  # has no nulls of its own
    files = [whole, whole]
    files[place] = {**whole, name: pa.null()}
    write(tmp_path, *files)
    fills = {column: fill for column, fill in SETTINGS["fill"].items() if column != name}
    rows = DAYS if place else 2 * DAYS
    counts, lines = run(job(tmp_path, layout, fill=fills))
    assert counts == [2 * ROWS, 2 * ROWS - ENTITIES * rows, ENTITIES * rows]
    assert lines == [(rows, f"{name} is null and [input.fill] names no value for it")] * ENTITIES


@layouts
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["f1", "code", "word", "n1", "key", "time"])
def test_what_no_fill_mends_may_not_be_missing(tmp_path: Path, name: str, place: int, layout: str) -> None:
    files = [ONE, ONE]
    files[place] = {**ONE, name: None}
    paths = write(tmp_path, *files)
    fills = {column: fill for column, fill in SETTINGS["fill"].items() if column != name}
    with pytest.raises(InputRefused, match=rf"there is no column '{name}' in {paths[place]}; .*it has f0"):
        run(job(tmp_path, layout, fill=fills))
    assert not (tmp_path / "out" / "_slotcar" / "run.json").exists()


@layouts
@pytest.mark.parametrize("name", ["f0", "code", "word"])
def test_a_filled_feature_that_no_file_has_is_a_name_that_is_wrong(tmp_path: Path, name: str, layout: str) -> None:
    paths = write(tmp_path, {**ONE, name: None}, {**ONE, name: None})
    with pytest.raises(InputRefused, match=rf"there is no column '{name}' in {paths[0]}"):
        run(job(tmp_path, layout))


@layouts
def test_a_filled_feature_that_is_null_in_all_files_is_filled(tmp_path: Path, layout: str) -> None:
    types = {**ONE, **dict.fromkeys(("f0", "code", "word"), pa.null())}
    paths, asked = write(tmp_path, types, {**types, "f0": None}), job(tmp_path, layout)
    assert run(asked) == ([2 * ROWS, 2 * ROWS, 0], [])
    expect_truth(asked, paths)


@layouts
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("name", "says"), [("key", "entity"), ("part", "entity"), ("time", "time"), ("tick", "time")])
def test_a_key_or_time_that_is_null_in_a_file_puts_its_rows_into_quarantine(
    tmp_path: Path, name: str, says: str, place: int, layout: str
) -> None:
    files = [ONE, ONE]
    files[place] = {**ONE, name: pa.null()}
    paths, asked = write(tmp_path, *files), job(tmp_path, layout)
    counts, lines = run(asked)
    assert counts == [2 * ROWS, ROWS, ROWS]
    assert lines == [(1, f"a column of the {says} is null")] * ROWS
    expect_truth(asked, [paths[1 - place]])


@layouts
@pytest.mark.parametrize(("name", "cannot"), [("key", "name an entity"), ("time", "order rows in time")])
def test_a_key_or_time_that_is_null_in_all_files_is_refused(
    tmp_path: Path, name: str, cannot: str, layout: str
) -> None:
    write(tmp_path, {**ONE, name: pa.null()}, {**ONE, name: pa.null()})
    with pytest.raises(InputRefused, match=rf"column '{name}' of .* is null, .*cannot {cannot}"):
        run(job(tmp_path, layout))


@layouts
def test_the_last_known_value_goes_on_through_files_and_nights_that_lack_the_column(
    tmp_path: Path, layout: str
) -> None:
    fills = {**SETTINGS["fill"], **{name: Fill(previous=True) for name in ("f0", "code", "word")}}
    lacking = {**ONE, "f0": None, "code": pa.null(), "word": None}
    nights = [
        [{**ONE, "f0": pa.int32()}, lacking],
        [lacking, {**ONE, "f0": pa.float64()}],
        [{**lacking, **dict.fromkeys(("f0", "word"), pa.null())}],
    ]
    found: dict[Any, float] = {}
    days, whole = 0, tmp_path / "whole"
    for number, files in enumerate(nights):
        folder = tmp_path / f"night{number}"
        for types in files:
            write_file(folder / "in" / f"part-{days:03d}.parquet", types, days)
            write_file(whole / "in" / f"part-{days:03d}.parquet", types, days)
            days += DAYS
        state = {"write": folder / "state", **({"read": tmp_path / f"night{number - 1}" / "state"} if number else {})}
        asked = replace(job(folder, layout, fill=fills), state=state, run_id=f"n{number}")
        assert run(asked)[0] == [len(files) * ROWS, len(files) * ROWS, 0]
        found.update({place: score for place, (score, _) in scored(asked.output).items()})
    asked = job(whole, layout, fill=fills)
    run(asked)
    wanted = {place: score for place, (score, _) in scored(asked.output).items()}
    assert found.keys() == wanted.keys()
    assert max(abs(found[place] - wanted[place]) for place in wanted) <= TOLERANCE
    assert Counter(round(score, 6) for score in found.values()) != Counter([0.0])
