"""The benchmark runs, end to end, and its peers agree with Slotcar: so that it can neither rot nor cheat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench import startup
from tests.bench.__main__ import main
from tests.bench.engine import tensorflow

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # Ray Data warns of settings that it reads itself
]


def test_every_peer_gives_the_scores_of_slotcar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensorflow(threads=1).zeros(1)  # the threads of other tests in this process, before a subject asks for more
    assert main(["--smoke", "--replicas", "1", "--cache", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for peer in ("stateful", "stateless", "map_batches", "map_groups", "copy"):
        assert f"| SKEW | {peer} |" in said
    assert re.search(r"^scores of SKEW: [0-9a-f]{12}$", said, re.MULTILINE)


@pytest.mark.soak
def test_a_small_run_is_timed_beside_its_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert startup.main(["--repeat", "1", "--replicas", "1", "--cache", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^the floor is \d+\.\d\d s; the run takes -?\d+\.\d\d s more$", said, re.MULTILINE)
