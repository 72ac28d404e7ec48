"""The benchmark runs, end to end, and its peers agree with Slotcar: so that it can neither rot nor cheat.

In a process of its own, as it is run: other tests want other threads of TensorFlow.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.ray


def said_by(module: str, *arguments: str) -> str:
    """What a benchmark prints; it ends well."""
    ended = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_every_peer_gives_the_scores_of_slotcar(tmp_path: Path) -> None:
    said = said_by("tests.bench", "--smoke", "--replicas", "1", "--cache", str(tmp_path))
    for peer in ("stateful", "stateless", "map_batches", "map_groups", "copy"):
        assert f"| SKEW | {peer} |" in said
    assert re.search(r"^scores of SKEW: [0-9a-f]{12}$", said, re.MULTILINE)


@pytest.mark.soak
def test_a_small_run_is_timed_beside_its_floor(tmp_path: Path) -> None:
    said = said_by("tests.bench.startup", "--repeat", "1", "--replicas", "1", "--cache", str(tmp_path))
    assert re.search(r"^the floor is \d+\.\d\d s; the run takes -?\d+\.\d\d s more$", said, re.MULTILINE)
