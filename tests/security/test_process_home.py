"""A run needs no home folder, and writes nothing outside of its output and one folder for temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.attacked import GONE, victim
from tests.paths import ROOT

pytestmark = pytest.mark.ray

# As for a number that no entry of /etc/passwd has; it stands before ours on PYTHONPATH, in every process of the run.
NOBODY = """
import pwd
def getpwuid(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = getpwuid
"""


@pytest.mark.parametrize("home", [GONE, "/nonexistent", "{mine}/home"])
def test_a_run_of_a_user_without_name_and_home_writes_only_where_it_may(home: str, tmp_path: Path) -> None:
    mine = victim(tmp_path / "mine")
    (mine.folder / "nobody").mkdir()
    (mine.folder / "nobody" / "sitecustomize.py").write_text(NOBODY)
    home = home.format(mine=mine.folder)
    path = f"{mine.folder / 'nobody'}{os.pathsep}{ROOT}"
    mine = replace(mine, environment={"HOME": home, "USER": GONE, "LOGNAME": GONE, "PYTHONPATH": path})
    there = {"c.toml", "in", "m.keras", "nobody", "bin"}
    inspected = mine.run("inspect", mine.model)
    assert inspected.code == 0, inspected.err
    scored = mine.run("score", mine.config)
    assert scored.code == 0, scored.err
    assert "Traceback" not in scored.err
    assert set(os.listdir(mine.folder)) == there | {"scores"}
    assert mine.run("verify", mine.output, "--rescore", "1").code == 0


def test_a_run_leaves_nothing_in_the_folder_for_temporary_files(tmp_path: Path) -> None:
    mine = victim(tmp_path / "mine")
    temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # a path that is short enough for Ray's sockets
    try:
        mine = replace(mine, environment={"TMPDIR": str(temporary)})
        scored = mine.run("score", mine.config)
        assert scored.code == 0, scored.err
        assert os.listdir(temporary) == []
    finally:
        shutil.rmtree(temporary)


def test_a_folder_for_temporary_files_whose_path_is_too_long_for_sockets_is_no_fault(tmp_path: Path) -> None:
    mine, long = victim(tmp_path / "mine"), tmp_path / ("long" * 20)
    long.mkdir()
    mine = replace(mine, environment={"TMPDIR": str(long)})
    scored = mine.run("score", mine.config)
    assert scored.code == 0, scored.err
    assert os.listdir(long) == []
