"""Entities that only their folders name, by values that others read as one: each has the scores of its own rows.

The truth is Keras on each folder's rows alone. Two nights: tidy files, then interleaved ones, on the first one's
carry-over.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.audit.audit import audit
from cluster.runtime.storage.local_store import LocalStore
from lstm_core.proof.reference import Reference
from tests.harness.inprocess import Job, run, scores
from tests.inputs.damage import cut_off
from tests.inputs.series import make_series
from tests.models.keras_models import FIT, save

MODEL = save(FIT["lstm"]())
FEATURES = ("f0", "f1", "f2")
ROWS = 6
NULL = "__HIVE_DEFAULT_PARTITION__"

# The folders' values, and what each of them means.
NIGHTS: dict[str, dict[str, Any]] = {
    "padded": {"007": "007", "7": "7", "07": "07"},
    "signs": {"0": "0", "-0": "-0", "+0": "+0"},
    "bytes": {"%FF": "%FF", "%FE": "%FE", "%C3%BF": "ÿ"},
    "forms": {"é": "é", "e%CC%81": "e\u0301", "e": "e"},
    "digits": {"7": "7", "٧": "٧", "７": "７"},
    "spaces": {"7": "7", " 7": " 7", "7%20": "7 "},
    "numbers": {"7": 7, "-1": -1, "2147483647": 2147483647},
    "long": {"3000000000": "3000000000", "7": "7"},
    "case": {"a": "a", "A": "A"},
    "nothing": {"": "", "null": "null", "None": "None"},
}


def write(folder: Path, names: list[str], night: int, *, parts: int) -> dict[str, pa.Table]:
    """Each folder's rows, in so many files that overlap in time where they are several."""
    written = {}
    for index, name in enumerate(names):
        rows = make_series([ROWS], seed=10 * night + index).drop_columns("entity")
        minutes = np.arange(ROWS) + 1000 * night
        rows = rows.set_column(0, "time", pa.array(minutes * 60_000_000, pa.timestamp("us")))
        (folder / f"sensor={name}").mkdir(parents=True)
        for part in range(parts):
            pq.write_table(rows.take(np.arange(part, ROWS, parts)), folder / f"sensor={name}" / f"p{part}.parquet")
        written[name] = rows
    return written


def job(folder: Path, night: int, **asked: Any) -> Job:
    state: dict[str, Any] = {"write": folder / f"state{night}"}
    state |= {"read": folder / f"state{night - 1}"} if night else {}
    return Job(
        MODEL,
        folder / f"in{night}",
        folder / f"out{night}",
        (("rows", FEATURES),),
        StepSettings(4, 4),
        input={"entity": ("sensor",), **asked},
        state=state,
        quarantine_limit=1.0,
        run_id=f"night {night}",
    )


def check(outputs: list[Path], nights: list[dict[str, pa.Table]], means: dict[str, Any]) -> None:
    """All scores of all nights, against Keras on each folder's rows alone; and every audit."""
    reference = Reference(FIT["lstm"]())
    found = pa.concat_tables(scores(output) for output in outputs)
    for name, value in means.items():
        rows = pa.concat_tables(night[name] for night in nights)
        (wanted,) = reference.score([np.stack([rows.column(feature).to_numpy() for feature in FEATURES], axis=1)])
        mine = found.filter(pa.array([one == value for one in found.column("sensor").to_pylist()])).sort_by("time")
        assert mine.column("time").equals(rows.column("time"))
        np.testing.assert_allclose(mine.column("score").to_numpy(), wanted[:, 0], atol=1e-5)
    assert found.num_rows == len(means) * ROWS * len(nights)
    for output in outputs:
        assert [one for one in audit(LocalStore(str(output))).checks if one.failures] == []


@pytest.mark.parametrize("name", NIGHTS)
def test_each_folder_is_an_entity_of_its_own_from_night_to_night(tmp_path: Path, name: str) -> None:
    means = NIGHTS[name]
    nights = [write(tmp_path / f"in{night}", list(means), night, parts=1 + night) for night in (0, 1)]
    jobs = [job(tmp_path, night, layout=layout) for night, layout in ((0, "clustered"), (1, "shuffle"))]
    assert [run(one)["rows_scored"] for one in jobs] == [len(means) * ROWS] * 2
    check([one.output for one in jobs], nights, means)


def test_a_bad_row_and_a_lost_file_are_those_of_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "in0", ["007", "7", "07"], 0, parts=1)
    spoilt = pq.read_table(tmp_path / "in0" / "sensor=7" / "p0.parquet", partitioning=None)
    values = spoilt.column("f1").to_pylist()
    values[2] = None
    spoilt = spoilt.set_column(spoilt.column_names.index("f1"), "f1", pa.array(values, pa.float32()))
    pq.write_table(spoilt, tmp_path / "in0" / "sensor=7" / "p0.parquet")
    pq.write_table(spoilt.slice(0, 1), tmp_path / "in0" / "sensor=007" / "p1.parquet")
    cut_off(tmp_path / "in0" / "sensor=007" / "p1.parquet")
    asked = dataclasses.replace(job(tmp_path, 0), state={})
    record = run(asked)
    assert (record["rows_scored"], record["rows_quarantined"], record["files_lost"]) == (ROWS + 2, ROWS + 4, 1)
    files = sorted((asked.output / "_quarantine").glob("*.parquet"))
    lines = [line for file in files for line in pq.read_table(file, partitioning=None).to_pylist()]
    assert {(line["sensor"], line["rows"]) for line in lines} == {("7", 4), ("007", ROWS), ("007", 0)}


def test_padded_numbers_order_rows_and_are_features(tmp_path: Path) -> None:
    """What was right before: hours and months in folders, as numbers."""
    for hour in ("09", "10", "11"):
        rows = make_series([2, 2], seed=int(hour)).drop_columns("time")
        (tmp_path / "in0" / f"day=2026-11-20/hour={hour}").mkdir(parents=True)
        pq.write_table(rows, tmp_path / "in0" / f"day=2026-11-20/hour={hour}" / "p.parquet")
    asked = dataclasses.replace(job(tmp_path, 0, entity=("entity",), time=("day", "hour")), state={})
    asked = dataclasses.replace(asked, features=(("rows", ("f0", "f1", "hour")),))
    assert run(asked)["rows_scored"] == 12
    found = scores(asked.output)
    assert found.schema.field("hour").type == pa.int32()
    assert found.column("hour").to_pylist() == [9, 9, 10, 10, 11, 11] * 2
