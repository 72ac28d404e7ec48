"""What the README and the guides tell a reader to type: every block is followed, in order, in a fresh folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide_folder import prepare
from tests.guide_reader import ROOT, Reader, jobs_in_this_process

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "jobs" / "guides").glob("*.md"))


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    with jobs_in_this_process():
        yield


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_a_guide_may_be_followed_from_its_first_block_to_its_last(path: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    Reader(tmp_path).follow(path.read_text(encoding="utf-8"), path.name)


@pytest.mark.ray
def test_the_readme_may_be_followed_as_a_user_would(tmp_path: Path) -> None:
    prepare(tmp_path)
    reader = Reader(tmp_path, as_processes=True)
    reader.follow(README.read_text(encoding="utf-8"), README.name)
    assert [command for command in reader.commands if command.startswith("slotcar score ")]
