"""The examples for Airflow, Dagster and Prefect call the command: the keys of a night, and nothing of ours imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import CodeType

import pytest

from jobs.config.night_keys import night_overrides
from lstm_core.own_packages import PACKAGES
from tests.paths import ROOT

EXAMPLES = [ROOT / "jobs" / "examples" / name for name in ("airflow_dag.py", "dagster_asset.py", "prefect_flow.py")]
by_name = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def command_of(example: Path) -> Callable[[date], list[str]]:
    """The example's function of this name, without the library that the example is for."""
    tree = ast.parse(example.read_text())
    foreign = {"airflow", "dagster", "prefect"}
    kept = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name == "command_of")
        or (isinstance(node, ast.Import | ast.ImportFrom) and not foreign & set(imported(node)))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("SLOTCAR", "CONFIG", "FIRST"))
    ]
    code: CodeType = compile(ast.Module(kept, []), str(example), "exec")
    names: dict[str, Callable[[date], list[str]]] = {}
    exec(code, names)
    return names["command_of"]


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return [alias.name.partition(".")[0] for alias in node.names] if isinstance(node, ast.Import) else []


@by_name
@pytest.mark.parametrize("day", [date(2026, 11, 1), date(2026, 11, 2), date(2027, 3, 1)])
def test_the_commands_keys_are_those_of_pythons_night(example: Path, day: date) -> None:
    command = command_of(example)(day)
    assert command[1:4] == ["score", "nightly.toml", "--json"]
    assert command[4::2] == ["--set"] * len(command[5::2])
    assert sorted(command[5::2]) == sorted(night_overrides(day, first=date(2026, 11, 1)))


@by_name
def test_an_example_imports_its_scheduler_and_pythons_own_modules_only(example: Path) -> None:
    names = {name for node in ast.walk(ast.parse(example.read_text())) for name in imported(node)}
    assert not names & set(PACKAGES)
    assert len(names - sys.stdlib_module_names) == 1
