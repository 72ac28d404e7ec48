"""An output names modules: nobody imports them, unless the caller of `verify` names them too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.runtime.audit.trust import Trust
from jobs import api
from jobs.commands.verify import run as verify
from jobs.commands.verify import trusted
from lstm_core.contract.custom_code import CustomCode
from lstm_core.errors import ModelRefused
from tests.harness.commands import command
from tests.harness.stranger import Victim, make_victim, rescore_here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """Two nights of a model with custom layers."""
    return make_victim(tmp_path_factory.mktemp("victim"), "custom_layers_of_two_kinds")


@pytest.fixture
def mark(victim: Victim, tmp_path: Path) -> Path:
    """A file that is there once the module has run that the output names."""
    mark, folder = tmp_path / "mark", victim.place("plugin")
    folder.mkdir()
    (folder / "nice_layers.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    victim.edit("request.json", lambda stored: stored["code"].update(modules=["nice_layers"], folders=[str(folder)]))
    return mark


def test_verify_rescore_imports_no_module_that_the_output_names(
    victim: Victim, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = list(sys.path)
    assert command("verify", str(victim.output), "--rescore", "1") == 2
    said = capsys.readouterr().err.strip()
    assert "--module nice_layers" in said
    assert "--config" in said
    assert len(said.splitlines()) == 1
    assert not mark.exists()
    assert sys.path == path


@pytest.mark.parametrize("look", ["status", "verify", "report"])
def test_no_other_command_imports_one_either(victim: Victim, mark: Path, look: str) -> None:
    assert command(look, str(victim.output)) == 0
    assert not mark.exists()


def test_folders_of_an_output_are_never_searched(victim: Victim, mark: Path) -> None:
    """The caller names the module; where it is looked for is the caller's business as well."""
    with pytest.raises(ModelRefused, match="--module"):
        api.verify(victim.output, rescore=1)
    found = verify(victim.output, 1, rescore_here, trusted(["nice_layers"]))
    assert [check.name for check in found.checks if not check.holds] == ["scores"]
    assert not mark.exists()


def test_modules_that_the_caller_names_are_imported(victim: Victim) -> None:
    trust = Trust(CustomCode(("tests.models.custom_layers",)))
    assert verify(victim.output, 2, rescore_here, trust).holds
