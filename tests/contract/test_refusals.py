"""What `score` must refuse: exit code 2 and one sentence with its remedy, before a replica starts or a file is made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from deltalake import write_deltalake

from jobs.cli import main
from lstm_core.exit_codes import EXIT_USAGE
from tests.inputs.configs import IN_AND_OUT
from tests.inputs.series import make_series, replace, write_cut
from tests.models.keras_models import FIT, save
from tests.models.unfit_models import UNFIT

LINES = '[model]\npath = "model.keras"\n' + IN_AND_OUT


@dataclass(frozen=True)
class Desk:
    """A folder with a configuration that is right but for what a test spoils."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def model(self, model: Any) -> None:
        (self.folder / "model.keras").write_bytes(save(model))

    def input(self, table: Any) -> None:
        write_cut(self.folder / "in", table)

    def refused(self, *overrides: str) -> str:
        """The one sentence that `score` refuses with."""
        (self.folder / "job.toml").write_text(LINES)
        options = [part for override in overrides for part in ("--set", override)]
        with pytest.raises(SystemExit) as ended:
            main(["score", str(self.folder / "job.toml"), *options])
        assert ended.value.code == EXIT_USAGE
        said = self.capsys.readouterr()
        assert said.out == ""
        [sentence] = said.err.splitlines()
        assert sentence.startswith("slotcar: ")
        assert "Traceback" not in sentence
        assert not ray.is_initialized()
        assert not (self.folder / "out").exists()
        return sentence


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    made = Desk(tmp_path, capsys)
    made.model(FIT["lstm"]())
    made.input(make_series([5, 9]))
    return made


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_an_unfit_model_is_refused_with_its_reason(name: str, desk: Desk) -> None:
    build, words = UNFIT[name]
    desk.model(build())
    sentence = desk.refused()
    for word in words:
        assert word in sentence


def test_a_missing_column_is_named_with_the_nearest_one(desk: Desk) -> None:
    sentence = desk.refused('input.features=["f0", "f1", "f22"]')
    assert "f22" in sentence
    assert "f2" in sentence


def test_a_column_of_a_wrong_type_is_named_with_its_type(desk: Desk) -> None:
    table = make_series([5, 9])
    desk.input(replace(table, "f1", pa.array(["x"] * table.num_rows)))
    sentence = desk.refused()
    assert "f1" in sentence
    assert "string" in sentence


def test_features_that_do_not_fit_the_model_are_counted(desk: Desk) -> None:
    sentence = desk.refused('input.features=["f0", "f1"]')
    assert "2" in sentence
    assert "3" in sentence


def test_an_unknown_key_names_the_nearest_one(desk: Desk) -> None:
    assert "slots" in desk.refused("model.slot=4")


def test_a_folder_that_others_wrote_into_is_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs.parquet").write_bytes(b"theirs")
    assert "theirs.parquet" in desk.refused("output.path='elsewhere'")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["theirs.parquet"]


def test_a_named_pipe_in_the_input_is_called_one(desk: Desk) -> None:
    os.mkfifo(desk.folder / "in" / "late.parquet")
    assert "in/late.parquet is a named pipe" in desk.refused()


def test_a_day_of_a_table_is_refused_with_the_table(desk: Desk) -> None:
    days = pa.array(["2026-11-19", "2026-11-20"] * 7)
    write_deltalake(desk.folder / "table", make_series([5, 9]).append_column("day", days), partition_by=["day"])
    sentence = desk.refused('input.path="table/day=2026-11-20"')
    assert f"reads files of the Delta table {desk.folder}/table" in sentence
    assert "name the table itself" in sentence


def test_two_folders_that_would_be_one_entity_are_both_named(desk: Desk) -> None:
    for name in ("%FF", "%25FF"):
        write_cut(desk.folder / "in" / f"plant={name}", make_series([4]))
    sentence = desk.refused('input.entity=["plant", "entity"]')
    assert "'plant=%25FF' and 'plant=%FF' would both say '%FF'" in sentence


def test_a_file_that_contradicts_its_folder_is_named_with_both(desk: Desk) -> None:
    write_cut(desk.folder / "in" / "entity=e0007", make_series([4]))
    sentence = desk.refused()
    assert "Column 'entity' is e0000 in row 0 of" in sentence
    assert "but its folder says e0007" in sentence
