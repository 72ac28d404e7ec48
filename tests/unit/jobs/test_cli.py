"""The command line: what is printed where, and the code the process ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cluster.run_errors import TooManyBadRows
from jobs.cli import exit_code
from jobs.config.configuration import Config
from jobs.terminal.stop_signals import Stopped, as_stopped
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_QUARANTINE, EXIT_STOPPED, EXIT_USAGE
from lstm_core.json_types import JsonObject
from tests.harness.commands import command
from tests.paths import ROOT

COMMANDS = ("score", "plan", "inspect", "train", "export", "status", "verify", "report", "submit", "demo", "state")
COMMANDS += ("guide",)


def _slotcar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_command_and_imports_no_engine() -> None:
    program = (
        "import sys; from jobs.cli import exit_code, _command\n"
        "code = exit_code(lambda: _command(['--help']))\n"
        "engines = {'ray', 'tensorflow', 'keras', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(str(engines) if engines else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (EXIT_DONE, "")
    assert [name for name in COMMANDS if name not in done.stdout] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("scor", "job.toml"),
        ("score",),
        ("score", "none.toml"),
        ("score", "none.toml", "--set"),
        ("score", "none.toml", "--bogus"),
        ("plan", "Makefile"),
        ("train", "pyproject.toml"),
        ("inspect", "none.keras"),
        ("inspect", "pyproject.toml"),
        ("verify",),
        ("verify", "jobs"),
        ("verify", "jobs", "--rescore", "2"),
        ("verify", "jobs", "--rescore", "-1"),
        ("report", "jobs"),
        ("submit", "none.toml"),
        ("demo", "--replicas", "0"),
        ("status", "none"),
        ("status", "jobs"),
        ("state", "show", "jobs"),
        ("state", "diff", "jobs", "jobs"),
        ("state", "shw", "jobs"),
        ("guide", "nigths"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_sentence_and_code_2(arguments: tuple[str, ...]) -> None:
    done = _slotcar(*arguments)
    assert done.returncode == EXIT_USAGE
    assert done.stdout == ""
    assert re.match(r"slotcar: \w[^:\n]*[ \w'\"]", done.stderr), "no empty name, no colon behind a colon"
    assert done.stderr.count("\n") == 1
    assert not re.search(r": *:|  |\.\.$|\bthe key out\b", done.stderr)


def test_a_run_with_too_much_in_quarantine_prints_its_record_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record: JsonObject = {"run_id": "night", "status": "quarantine", "rows_in": 60}

    def scored(config: Config) -> JsonObject:
        raise TooManyBadRows("25 of 60 rows are in quarantine.", record)

    monkeypatch.setattr("jobs.commands.score.run", scored)
    (tmp_path / "m.keras").write_bytes(b"")
    text = '[model]\npath = "m.keras"\n[input]\npath = "in"\nentity = "e"\ntime = "t"\nfeatures = ["f"]\n'
    (tmp_path / "job.toml").write_text(f'{text}[output]\npath = "out"\n')
    assert command("score", str(tmp_path / "job.toml"), "--json") == EXIT_QUARANTINE
    said = capsys.readouterr()
    assert json.loads(said.out) == record
    assert said.err == "slotcar: 25 of 60 rows are in quarantine.\n"
    assert command("score", str(tmp_path / "job.toml")) == EXIT_QUARANTINE
    assert "quarantine" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("state",)], ids=str)
def test_no_command_shows_which_there_are_and_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = _slotcar(*arguments)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.strip() == _slotcar(*arguments, "--help").stdout.strip()
    assert "COMMAND [ARGS]" in done.stderr


def test_the_version_is_that_of_the_package() -> None:
    done = _slotcar("--version")
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_DONE, f"slotcar {version('slotcar')}\n", "")


@pytest.mark.parametrize("name", [*COMMANDS, "state show", "state diff"])
def test_every_help_is_in_one_manner(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*name.split(), "--help") == EXIT_DONE
    page = capsys.readouterr().out
    assert "Shows this help." in page
    assert not re.search(r"[{}]|this message", page)


def test_a_reader_who_leaves_changes_no_code_and_says_nothing() -> None:
    """stdout and stderr are pipes whose other end is closed, as behind `head`."""
    program = (
        "import logging, sys; from jobs.cli import _show, exit_code\n"
        "def act():\n"
        "    logging.getLogger('slotcar').warning('replica 1 is lost')\n"
        "    for as_json in (True, False): _show({'rows': 'x' * 100_000}, as_json)\n"
        "    from cluster.runtime.watch.progress import progress_line\n"
        "    with progress_line() as line:\n"
        "        for _ in range(2): line.say('x' * 100_000)\n"
        "    return 7\n"
        "sys.exit(exit_code(act))\n"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=write, stderr=write, check=False)
    os.close(write)
    assert done.returncode == 7


def test_a_fault_is_said_on_one_line_with_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise SlotcarError("Shard 3\nis stale.")

    assert exit_code(fail) == EXIT_FAILED
    assert capsys.readouterr().err == "slotcar: Shard 3\\nis stale.\n"


def test_a_bug_is_not_hidden() -> None:
    def fail() -> int:
        raise AssertionError("a bug")

    with pytest.raises(AssertionError):
        exit_code(fail)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_command_with_code_143(number: signal.Signals) -> None:
    program = (
        "import signal, sys; from jobs.cli import exit_code\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    while True: signal.pause()\n"
        "sys.exit(exit_code(wait))\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.send_signal(number)
        _, said = started.communicate(timeout=60)
    assert started.returncode == EXIT_STOPPED
    assert said.startswith(f"slotcar: Stopped by {number.name}: give the same command again; a run goes on from what")
    assert said.count("\n") == 1


def test_the_stops_of_python_and_of_ray_are_known() -> None:
    for fault in (Stopped(signal.SIGTERM), KeyboardInterrupt(), SystemExit(int(signal.SIGTERM))):
        assert as_stopped(fault) is not None
    for fault in (SystemExit(1), SystemExit(None), ValueError()):
        assert as_stopped(fault) is None


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    program = (
        "import numpy, sys; from jobs.cli import _show; from pathlib import Path\n"
        "_show({'rows': numpy.int64(3), 'share': numpy.float32(0.5), 'path': Path('x')}, True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"rows": 3, "share": 0.5, "path": "x"}
