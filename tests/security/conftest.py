"""One pair of finished nights for all attacks of a file; each attack has a copy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.stranger import Victim, copied, make_victim


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """Two nights that nobody has touched."""
    return make_victim(tmp_path_factory.mktemp("victim"))


@pytest.fixture
def victim(made: Victim, tmp_path: Path) -> Victim:
    """A copy that a test may damage."""
    return copied(made, tmp_path / "victim")
