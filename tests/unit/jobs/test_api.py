"""The commands from Python: a configuration as a file or as a dict, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import api
from jobs.config.configuration import load_config
from lstm_core.errors import UsageError
from tests.harness.reporting import Laid, lay_run

KEYS: dict[str, Any] = {
    "model": {"path": "model.keras"},
    "input": {"path": "in", "entity": "entity", "time": "time", "features": ["x"]},
    "output": {"path": "out"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.keras").write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dict_is_read_as_the_file_with_its_content(folder: Path) -> None:
    path = folder / "job.toml"
    path.write_text(
        '[model]\npath = "model.keras"\n[output]\npath = "out"\n[input]\npath = "in"\nentity = "entity"\n'
        'time = "time"\nfeatures = ["x"]\n'
    )
    overrides = ["model.slots=8"]
    assert load_config(KEYS, overrides).document == load_config(str(path), overrides).document


def test_a_dict_is_left_as_it_was(folder: Path) -> None:
    load_config(KEYS, ["output.path=elsewhere"])
    assert KEYS["output"] == {"path": "out"}


def test_a_mistake_in_a_dict_is_one_sentence(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"^The configuration: the key model.slot is unknown, the nearest one is"):
        api.plan({**KEYS, "model": {"path": "model.keras", "slot": 8}})


@pytest.mark.parametrize("call", [api.score, api.plan])
def test_faults_are_raised_as_they_are(folder: Path, call: Any) -> None:
    with pytest.raises(UsageError, match=r"model\.keras"):
        call(KEYS)


def test_a_summary_has_figures_for_a_schedulers_metadata() -> None:
    record = {"rows_in": 3, "wall_s": 1.5, "status": "done", "stage_s": {"read": 1.0}, "finished_at": None}
    summary = api.RunSummary("out", "night", "done", 3, 3, 0, 0, 1, 1.5, record)
    assert summary.figures == {"rows_in": 3, "wall_s": 1.5, "status": "done"}


def test_a_report_is_made_from_python_as_well(tmp_path: Path) -> None:
    made = api.report(lay_run(tmp_path / "out", Laid()))
    assert (made.run_id, made.against) == ("night", None)
    assert Path(made.report).is_file()
