"""The folder beside a run may hold anything: that costs the comparison, never the report, and little time."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from cluster.runtime.watch import earlier_run
from cluster.runtime.watch.report_figures import ReportFigures, gather_figures
from jobs.commands import report
from lstm_core.errors import UsageError
from tests.harness.reporting import Laid, lay_run

pytestmark = pytest.mark.timeout(60)

ROWS = (50, 30, 20)
Spoil = Callable[[Path], None]


def lay(folder: Path) -> str:
    """Two runs beside each other: `20`, and `21`, which came later and whose report is asked for."""
    lay_run(folder / "20", Laid(ROWS, finished_at="2026-11-20T03:00:00+00:00", shift=0.5))
    return lay_run(folder / "21", Laid(ROWS))


def fragment(place: Path) -> Path:
    return sorted(place.glob("part-*.parquet"))[0]


def record(place: Path) -> Path:
    return sorted((place / "_slotcar" / "commits").glob("*.json"))[0]


def run_json(place: Path) -> Path:
    return place / "_slotcar" / "run.json"


def request(place: Path) -> Path:
    return place / "_slotcar" / "request.json"


FILES = (fragment, record, run_json, request)


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def foreign(path: Path) -> None:
    path.write_bytes(b"\xff\xfe of somebody else")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    """A terabyte of nothing, of which the disk holds nothing."""
    path.write_bytes(b"{")
    os.truncate(path, 1 << 40)


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def another_json(path: Path) -> None:
    path.write_text(json.dumps([{"run_id": 7}, 3]))


def of_another_version(path: Path) -> None:
    """It has keys that nobody here knows, and other values than are expected."""
    path.write_text(json.dumps({"status": "done", "finished_at": 17, "brand_new": True, "input": {"x": 1}}))


SPOILS = (gone, empty, cut_off, foreign, a_folder, a_pipe, endless, huge, a_loop, another_json, of_another_version)


def rewritten(change: Callable[[Any], Any]) -> Spoil:
    """A fragment with another table in it."""

    def spoil(path: Path) -> None:
        pq.write_table(change(pq.read_table(path, partitioning=None)), path)

    return spoil


def _text(table: Any) -> Any:
    return table.set_column(1, "score", pa.array(["x"] * table.num_rows))


def _not_finite(table: Any) -> Any:
    return table.set_column(1, "score", pa.array(np.full(table.num_rows, np.inf, np.float32)))


def encrypted(path: Path) -> None:
    """Its scores are, and its footer is not."""

    class Keys(encryption.KmsClient):
        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return base64.b64encode(key_bytes)

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
            return base64.b64decode(wrapped_key)

    table = pq.read_table(path, partitioning=None)
    asked = encryption.EncryptionConfiguration("f", column_keys={"k": ["score"]}, plaintext_footer=True)
    factory = encryption.CryptoFactory(lambda config: Keys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), asked)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


OF_FRAGMENTS = {
    "text": rewritten(_text),
    "infinite": rewritten(_not_finite),
    "no_score": rewritten(lambda table: table.drop_columns(["score"])),
    "more_rows": rewritten(lambda table: pa.concat_tables([table] * 50)),
    "encrypted": encrypted,
}


def alone(folder: Path) -> ReportFigures:
    """The figures of the same run with nobody beside it."""
    return gather_figures(lay_run(folder / "alone" / "21", Laid(ROWS)))


def check_report(folder: Path, output: str) -> ReportFigures:
    """The report is there, and its own figures are those of a run with nobody beside it."""
    written = report.run(output)
    assert Path(written.report).read_text().count("Scores: score") == 1
    found, wanted = gather_figures(output), alone(folder)
    assert found.against is None
    assert [column.name for column in found.scores] == ["score"]
    assert found.scores[0].before is None
    assert np.array_equal(found.scores[0].now.counts, wanted.scores[0].now.counts)
    return found


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__)
def test_a_neighbour_with_a_spoilt_file_costs_the_comparison(
    tmp_path: Path, file: Callable[[Path], Path], spoil: Spoil
) -> None:
    output = lay(tmp_path)
    assert gather_figures(output).against == str(tmp_path / "20")
    spoil(file(tmp_path / "20"))
    found = check_report(tmp_path, output)
    if file in (fragment, record):
        assert found.against_fault is not None
        assert found.against_fault.startswith(f"{tmp_path / '20'}: ")
        assert "same command" not in found.against_fault


@pytest.mark.parametrize("kind", OF_FRAGMENTS)
def test_a_neighbour_with_other_scores_than_it_says_costs_the_comparison(tmp_path: Path, kind: str) -> None:
    output = lay(tmp_path)
    OF_FRAGMENTS[kind](fragment(tmp_path / "20"))
    check_report(tmp_path, output)


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("file", [fragment, record], ids=lambda file: file.__name__)
def test_a_run_that_is_named_and_cannot_be_read_is_refused(
    tmp_path: Path, file: Callable[[Path], Path], spoil: Spoil
) -> None:
    output = lay(tmp_path)
    spoil(file(tmp_path / "20"))
    with pytest.raises(UsageError, match=r"/20 cannot be compared with: .*; leave --against out"):
        gather_figures(output, against=str(tmp_path / "20"))


def test_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = lay(tmp_path)
    monkeypatch.setattr(earlier_run, "SECONDS_MAX", -1.0)
    fault = check_report(tmp_path, output).against_fault
    assert fault is not None
    assert "could not be read within" in fault


def test_of_many_folders_the_newest_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = lay(tmp_path)
    monkeypatch.setattr(earlier_run, "RUNS_MAX", 3)
    for number in range(10):
        place = tmp_path / f"old-{number}" / "_slotcar"
        place.mkdir(parents=True)
        (place / "run.json").write_text("{}")
        os.utime(place / "run.json", (1, 1))
    assert gather_figures(output).against == str(tmp_path / "20")


def test_a_stray_file_among_the_quarantine_costs_nothing(tmp_path: Path) -> None:
    output = lay(tmp_path)
    (tmp_path / "21" / "_quarantine").mkdir(exist_ok=True)
    (tmp_path / "21" / "_quarantine" / "notes.txt").write_text("look at e0003")
    assert gather_figures(output).against == str(tmp_path / "20")
