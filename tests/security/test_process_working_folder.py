"""Files that lie where a run is started are never run, and names that a user's own project has break nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lstm_core.contract.custom_code import import_module
from lstm_core.errors import UsageError
from lstm_core.own_packages import PACKAGES
from tests.harness.attacked import Victim, victim
from tests.paths import ROOT

NAMES = (
    "json.py",
    "pickle.py",
    "keras.py",
    "tensorflow.py",
    "ray.py",
    "h5py.py",
    "numpy/__init__.py",
    "pyarrow.py",
    "lstm_core/__init__.py",
    "cluster.py",
    "jobs/__init__.py",
    "tests/__init__.py",
    "sitecustomize.py",
)


def lay(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Files that leave a mark where they are run; where the mark would be."""
    mark = folder / "RUN"
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(mark)!r}, 'a').write({name!r} + chr(10))\nraise SystemExit('taken over')\n")
    return mark


def said(mark: Path) -> str:
    return mark.read_text() if mark.exists() else ""


@pytest.fixture
def mine(tmp_path: Path) -> Victim:
    return victim(tmp_path / "mine")


def test_inspect_runs_no_file_of_a_folder_of_downloads(mine: Victim, tmp_path: Path) -> None:
    mark = lay(tmp_path / "downloads")
    done = mine.run("inspect", mine.model, cwd=tmp_path / "downloads")
    assert (done.code, said(mark)) == (0, ""), done.err
    assert "LSTM" in done.out


def test_python_m_jobs_runs_no_file_of_the_working_folder(mine: Victim, tmp_path: Path) -> None:
    """But one that is called `jobs`, which is what Python is told to run."""
    mark = lay(tmp_path / "downloads", tuple(name for name in NAMES if not name.startswith("jobs")))
    done = mine.call([sys.executable, "-m", "jobs", "inspect", str(mine.model)], cwd=tmp_path / "downloads")
    assert (done.code, said(mark)) == (0, ""), done.err


@pytest.mark.ray
def test_score_and_verify_run_no_file_of_the_working_folder(mine: Victim, tmp_path: Path) -> None:
    """Replicas are processes that Ray starts, and so are those that score again."""
    mark = lay(tmp_path / "downloads")
    scored = mine.run("score", mine.config, cwd=tmp_path / "downloads")
    assert (scored.code, said(mark)) == (0, ""), scored.err
    verified = mine.run("verify", mine.output, "--rescore", "1", cwd=tmp_path / "downloads")
    assert (verified.code, said(mark)) == (0, ""), verified.err


@pytest.mark.ray
def test_a_users_own_cluster_jobs_and_tests_beside_his_configuration_break_nothing(tmp_path: Path) -> None:
    """On PYTHONPATH too, as a project's own settings have it; his modules are still found beside the configuration."""
    module = {"modules": ["own.layers"]}
    mine = victim(tmp_path / "mine", "custom_layers_of_two_kinds", changes={"model": module})
    for name in ("cluster.py", "jobs/__init__.py", "tests/__init__.py", "own/__init__.py"):
        file = mine.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("X = 1\n")
    (mine.folder / "own" / "layers.py").write_text((ROOT / "tests" / "models" / "custom_layers.py").read_text())
    mine = replace(mine, environment={"PYTHONPATH": f"{mine.folder}:{ROOT}"})
    scored = mine.run("score", mine.config)
    assert scored.code == 0, scored.err
    assert (mine.output / "_SUCCESS").exists()


def test_another_package_that_is_imported_already_is_one_sentence(mine: Victim) -> None:
    (mine.folder / "cluster.py").write_text("X = 1\n")
    program = (
        "import sys\nsys.path.insert(0, '.')\nimport cluster\nfrom lstm_core.errors import UsageError\n"
        "try:\n    from jobs import api\nexcept UsageError as fault:\n    print(fault)\n"
    )
    done = mine.call([sys.executable, "-c", program])
    assert done.out.startswith("A module 'cluster' was imported from "), done.err
    assert "give yours another name" in done.out


@pytest.mark.parametrize("name", [*PACKAGES, "jobs.layers", "json", "pickle.layers"])
def test_a_users_module_cannot_stand_for_one_of_ours_or_of_pythons(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.modules: '\w+' is a (package of Slotcar|module of Python) itself"):
        import_module(name, [str(tmp_path)], setting="model.modules")


def test_what_lies_beside_a_users_module_stands_for_nothing_that_is_installed(tmp_path: Path) -> None:
    """The module that is named is found first, its neighbours last."""
    mine = victim(tmp_path / "mine", "custom_layers_of_two_kinds", changes={"model": {"modules": ["own_layers"]}})
    mark = lay(mine.folder, ("json.py", "keras.py", "pandas.py", "h5py.py", "requests.py"))
    code = (ROOT / "tests" / "models" / "custom_layers.py").read_text()
    (mine.folder / "own_layers.py").write_text(code.replace("import keras\n", "import keras\nimport neighbour\n", 1))
    (mine.folder / "neighbour.py").write_text("X = 1\n")
    done = mine.run("inspect", mine.model, "--config", mine.config)
    assert (done.code, said(mark)) == (0, ""), done.err


def test_the_proof_is_the_only_process_that_a_command_starts_by_itself() -> None:
    """Whoever starts another one finds here how."""
    starters = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "import subprocess" in path.read_text() and "examples" not in path.parts
    ]
    assert starters == ["jobs/config/model_proof.py"]
