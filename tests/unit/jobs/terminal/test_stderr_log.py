"""Where the log goes, and how much of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = (
    "import logging; from jobs.terminal.stderr_log import log_to_stderr\n"
    "log_to_stderr(); log_to_stderr()\n"
    "logging.getLogger('slotcar').info('shard 3'); logging.getLogger('slotcar').warning('replica 1 is lost')\n"
)


@pytest.mark.parametrize(("level", "lines"), [("", 2), ("warning", 1), ("ERROR", 0), ("nonsense", 2)])
def test_each_line_is_said_once_with_its_time_on_stderr(level: str, lines: int) -> None:
    environment = {"SLOTCAR_LOG": level, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == ""
    assert done.stderr.count("\n") == lines
    if lines:
        assert done.stderr.splitlines()[-1].endswith(" WARNING replica 1 is lost")


def test_what_a_library_writes_to_the_process_is_dropped_and_nothing_after_it() -> None:
    program = (
        "import os, sys; from jobs.terminal.stderr_log import native_log_dropped\n"
        "try:\n"
        "    with native_log_dropped(): os.write(2, b'chatter'); raise ValueError\n"
        "except ValueError: print('raised', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "raised\n"
