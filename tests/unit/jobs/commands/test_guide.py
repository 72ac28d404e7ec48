"""`slotcar guide`: the list, a guide on a terminal and elsewhere, and that an installation has them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from jobs.commands.guide import TOPICS, find
from jobs.config.toml_text import first_sentence
from lstm_core.errors import UsageError
from lstm_core.exit_codes import EXIT_DONE, EXIT_USAGE
from tests.harness.commands import command
from tests.paths import ROOT

GUIDES, EXAMPLES = ROOT / "jobs" / "guides", ROOT / "jobs" / "examples"


def test_the_list_has_every_topic_with_its_title_and_what_it_is_good_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("guide") == EXIT_DONE
    shown = " ".join(capsys.readouterr().out.split())
    for topic in TOPICS:
        assert f" {topic} " in shown
    assert command("guide", "--json") == EXIT_DONE
    listed = json.loads(capsys.readouterr().out)["topics"]
    assert [one["topic"] for one in listed] == list(TOPICS)
    assert [one for one in listed if not one["title"] or not one["about"].endswith((".", ":"))] == []


@pytest.mark.parametrize("topic", TOPICS)
def test_a_guide_is_its_own_text_where_there_is_no_terminal(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (GUIDES / f"{topic}.md").read_text(encoding="utf-8")
    assert command("guide", topic) == EXIT_DONE
    assert capsys.readouterr().out == text
    assert command("guide", topic, "--json") == EXIT_DONE
    title = text.partition("\n")[0].removeprefix("# ")
    assert json.loads(capsys.readouterr().out) == {"topic": topic, "title": title, "text": text}


def test_a_guide_is_found_by_the_name_of_its_file_too() -> None:
    assert find("Nights.md") == find("nights")


def test_an_unknown_topic_is_one_sentence_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("guide", "configuratoin") == EXIT_USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "the nearest one is configuration" in said.err
    assert command("guide", "zzqx") == EXIT_USAGE
    assert capsys.readouterr().err == "slotcar: There is no guide 'zzqx': slotcar guide lists them all.\n"
    with pytest.raises(UsageError):
        find("../../README")


def test_on_a_terminal_a_guide_is_rendered_and_goes_through_the_users_pager(tmp_path: Path) -> None:
    """The pager here keeps what it is given; brackets are no markup, and comments are not shown."""
    kept = tmp_path / "kept"
    environment = {**os.environ, "PAGER": f"cat > {kept}", "TERM": "xterm-256color", "COLUMNS": "100"}
    ours, theirs = pty.openpty()
    try:
        program = [sys.executable, "-m", "jobs", "guide", "configuration"]
        done = subprocess.run(program, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, timeout=60, check=False)
    finally:
        os.close(theirs)
        os.close(ours)
    shown = kept.read_text()
    assert done.returncode == EXIT_DONE
    assert "\x1b[" in shown
    assert "Configuration reference" in shown
    assert "# Configuration reference" not in shown
    assert "[storage]" in shown
    assert "<!--" not in shown


def test_neither_ray_nor_tensorflow_is_imported_for_it() -> None:
    program = (
        "import sys; from jobs.cli import exit_code, _command\n"
        "code = exit_code(lambda: _command(['guide', 'nights']))\n"
        "engines = {'ray', 'tensorflow', 'keras', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(str(engines) if engines else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (EXIT_DONE, "")


def test_the_first_sentence_ends_where_the_next_one_begins() -> None:
    assert first_sentence("A path, as in\nmodel.path. `train` writes it. Or not.") == "A path, as in model.path."
    assert first_sentence("No full stop here") == "No full stop here"


def test_an_installation_that_is_no_checkout_has_the_guides_and_the_examples(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for package in ("jobs", "cluster", "lstm_core"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", "out", "."]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options], cwd=tmp_path, check=True, timeout=120)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    shipped = set(ZipFile(wheel).namelist())
    files = [*GUIDES.glob("*.md"), *(path for path in EXAMPLES.iterdir() if path.is_file())]
    assert [path.name for path in files if path.relative_to(ROOT).as_posix() not in shipped] == []
