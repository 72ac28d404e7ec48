"""The rules of the house that a tool can check, so that nobody has to remember them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("jobs", "lstm_core", "cluster")
LINES_MAX = 500
ACTOR_FILES = {  # they import Keras in functions, not at the top
    "cluster/runtime/audit/rescore_actor.py",
    "cluster/runtime/replica/replica_actor.py",
    "cluster/runtime/training/training_actor.py",
}
KERAS_NAMES = (
    "proof/chunk_proof",
    "proof/reference",
    "step/compiled_function",
    "step/fused_cells",
    "step/rebatch",
    "step/saved_model",
    "step/slot_states",
    "step/stateful_replica",
    "step/step_groups",
    "step/tensorflow_setup",
    "step/timestep_loop",
    "training/callbacks",
    "training/losses",
    "training/model_builder",
    "training/stateful_trainer",
    "training/training_metrics",
)
KERAS_FILES = {f"lstm_core/{name}.py" for name in KERAS_NAMES}
GLOSSARY = ["run", "entity", "row", "shard", "replica", "slot", "chunk", "step", "attempt", "fragment", "commit"]
GLOSSARY += ["carry-over", "quarantine"]

# Who may import whom; the longest prefix of a module's path decides.
DIRECTIONS = {
    "lstm_core": ("lstm_core",),
    "cluster": ("cluster", "lstm_core"),
    "cluster/core": ("cluster.core", "cluster.run_errors", "lstm_core"),
    "jobs": ("jobs", "cluster", "lstm_core"),
}
# What must never be imported where; `cluster/core` has no clock, no file and no chance.
BANNED = {
    "lstm_core": {"ray", "pyarrow"},
    "cluster/core": {"ray", "time", "random", "os", "pathlib", "shutil", "tempfile", "threading", "subprocess"},
    "jobs": set(),
    "cluster": set(),
}


def _listed() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return sorted({ROOT / name for name in names if name and (ROOT / name).is_file()})


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES = _listed()
MODULES = [path for path in FILES if path.suffix == ".py" and _name(path).startswith(PACKAGES)]
TESTS = [path for path in FILES if path.suffix == ".py" and _name(path).startswith("tests/")]

every_module = pytest.mark.parametrize("path", MODULES, ids=_name)
every_test = pytest.mark.parametrize("path", TESTS, ids=_name)
every_python_file = pytest.mark.parametrize("path", MODULES + TESTS, ids=_name)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        yield from _modules(node)


def _modules(node: ast.AST) -> Iterator[str]:
    """The modules, and the names in them, that an import statement brings in; nothing for another node."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rule(path: Path, table: dict[str, object]) -> str:
    return max((prefix for prefix in table if _name(path).startswith(f"{prefix}/")), key=len)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@every_module
def test_imports_point_downwards(path: Path) -> None:
    allowed = DIRECTIONS[_rule(path, dict(DIRECTIONS))]
    ours = [module for module in _imports(path) if module.split(".")[0] in (*PACKAGES, "tests")]
    assert [module for module in ours if not _within(module, allowed)] == []


@every_module
def test_pure_files_import_nothing_that_acts(path: Path) -> None:
    banned = BANNED[_rule(path, dict(BANNED))]
    assert [module for module in _imports(path) if module.split(".")[0] in banned] == []


@every_module
def test_only_the_replica_side_imports_tensorflow(path: Path) -> None:
    engines = [module for module in _imports(path) if _within(module, ("tensorflow", "keras"))]
    assert engines == [] or _name(path) in KERAS_FILES | ACTOR_FILES


@every_module
def test_tensorflow_comes_in_late(path: Path) -> None:
    heavy = ("tensorflow", "keras", *(name.removesuffix(".py").replace("/", ".") for name in KERAS_FILES))
    at_once = [module for node in _tree(path).body for module in _modules(node) if _within(module, heavy)]
    assert at_once == [] or _name(path) in KERAS_FILES


@every_module
def test_only_the_runtime_imports_ray(path: Path) -> None:
    engines = [module for module in _imports(path) if module.split(".")[0] == "ray"]
    assert engines == [] or _name(path).startswith("cluster/runtime/")


@every_module
def test_only_ray_errors_names_the_exceptions_of_ray(path: Path) -> None:
    named = [module for module in _imports(path) if module.startswith("ray.exceptions")]
    named += re.findall(r"\bray\.exceptions\.\w+", path.read_text(encoding="utf-8"))
    assert named == [] or _name(path) == "cluster/runtime/fleet/ray_errors.py"


@every_python_file
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@every_python_file
def test_modules_open_with_what_they_decide(path: Path) -> None:
    assert ast.get_docstring(_tree(path))


@every_python_file
def test_init_files_hold_a_docstring_only(path: Path) -> None:
    assert path.name != "__init__.py" or len(_tree(path).body) == 1


@every_python_file
def test_names_say_what_a_thing_is(path: Path) -> None:
    vague = re.compile(r"Manager|Helper|Utils?$|Processor|Data$")
    classes = [node.name for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if vague.search(name)] == []
    assert path.stem not in ("utils", "util", "helpers", "helper", "manager", "data", "process", "common", "misc")


@every_test
def test_tests_are_never_skipped_and_never_sleep(path: Path) -> None:
    names = [node.attr for node in ast.walk(_tree(path)) if isinstance(node, ast.Attribute)]
    names += [node.id for node in ast.walk(_tree(path)) if isinstance(node, ast.Name)]
    assert {"skip", "skipif", "xfail", "importorskip", "skipTest", "sleep"}.isdisjoint(names)


@every_test
def test_tests_mock_nothing(path: Path) -> None:
    assert [module for module in _imports(path) if "mock" in module.split(".")] == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "test_tidy.py" and path.suffix != ".gz"], ids=_name
)
def test_text_names_no_place_outside_the_project(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    places = re.findall(r"(?<![\w.])/(?:work|root|home|opt|Users)/\w+", text)
    tickets = re.findall(r"(?<![\w&/])#\d{1,4}\b(?![\w-])|\bissues? \d+\b", text)
    indexes = re.findall(r"https?://[^\s\"')]*(?:pypi|simple/)[^\s\"')]*|index[-]url", text)
    assert places + tickets + indexes == []


def test_the_lock_holds_pins_only() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.]*", line)] == []
    assert pins == sorted(pins, key=str.upper)


def test_the_glossary_explains_every_word() -> None:
    glossary = (ROOT / "jobs" / "guides" / "glossary.md").read_text(encoding="utf-8")
    assert [word for word in GLOSSARY if f"**{word}**" not in glossary] == []
