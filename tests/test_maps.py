"""The README of each top folder, held against the tree: its map, its roads, its commands, its size.

A path in backticks is relative to the README's folder. In a bullet of the map that opens with a folder, a name without
a slash is a file of that folder. Every module of the product is on its map, and every folder of `tests` is; `X/**` is
for all folders below X. `__init__.py` files stand on none. `FILE.py: NAME, NAME` says that functions are in a file; it
may be called by the end of its path, where no other file of the product ends so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

PRODUCT = ("lstm_core", "cluster", "jobs")
FOLDERS = (*PRODUCT, "tests")
LINES_MAX = COLUMNS_MAX = 120
STEPS_MAX = 10
ROADS = ("The road of a row", "The road of a fragment to its commit", "The road of a death to its recovery")
PATH = re.compile(r"[\w.*/-]+(?:/|/\*\*|\.py)")
CALL = re.compile(r"([\w/]+\.py): ([\w.]+(?:, [\w.]+)*)")

every_folder = pytest.mark.parametrize("folder", FOLDERS)


def text_of(folder: str) -> str:
    return (ROOT / folder / "README.md").read_text(encoding="utf-8")


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```$", "", text))


def section(folder: str, title: str) -> str:
    found = text_of(folder).partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"{folder}/README.md has no section {title!r}"
    return found


def bullets(text: str) -> list[str]:
    return re.findall(r"(?m)^- .*(?:\n  .*)*", text)


def named(folder: str) -> Iterator[str]:
    """What the bullets of a map name, relative to the project."""
    for bullet in bullets(section(folder, "Map")):
        paths = [found for found in quoted(bullet) if PATH.fullmatch(found)]
        room = paths[0] if paths and paths[0].endswith("/") else ""
        yield from (f"{folder}/{path if '/' in path else room + path}".removesuffix("/") for path in paths)


def modules_in(folder: str) -> list[str]:
    found = (path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


MODULES = [name for folder in PRODUCT for name in modules_in(folder)]


def calls_in(folder: str) -> list[tuple[str, str]]:
    """The files and the functions in them that a README speaks of."""
    found = (CALL.fullmatch(text) for text in quoted(text_of(folder)))
    return [(match[1], name) for match in found if match for name in match[2].split(", ")]


def files_called(name: str) -> list[str]:
    return [path for path in MODULES if path == name or path.endswith(f"/{name}")]


def defined_in(path: Path) -> set[str]:
    """The functions and classes of a file, and the methods as Class.method."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


@every_folder
def test_a_readme_fits_on_a_page(folder: str) -> None:
    lines = text_of(folder).splitlines()
    assert len(lines) <= LINES_MAX
    assert [line for line in lines if len(line) > COLUMNS_MAX] == []


@every_folder
def test_a_map_names_only_what_is_there(folder: str) -> None:
    paths = [path.removesuffix("/**") for path in named(folder)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_folder
def test_a_map_names_nothing_twice(folder: str) -> None:
    paths = list(named(folder))
    assert sorted(paths) == sorted(set(paths))


@every_folder
def test_every_folder_with_a_module_is_on_the_map(folder: str) -> None:
    known = set(named(folder))
    below = tuple(path.removesuffix("**") for path in known if path.endswith("/**"))
    holding = {path.rpartition("/")[0] for path in modules_in(folder)} - {folder}
    assert sorted(path for path in holding if path not in known and not path.startswith(below)) == []


@pytest.mark.parametrize("folder", PRODUCT)
def test_every_module_is_on_the_map(folder: str) -> None:
    assert sorted(set(modules_in(folder)) - set(named(folder))) == []


@every_folder
def test_every_path_in_a_readme_is_there(folder: str) -> None:
    beside = text_of(folder).replace(section(folder, "Map"), "")
    paths = [found for found in quoted(beside) if PATH.fullmatch(found) and "NAME" not in found]
    assert [path for path in paths if not is_there(folder, path.rstrip("/"))] == []


def is_there(folder: str, path: str) -> bool:
    """Beside the map a path may also be relative to the project, or the end of a file's path."""
    places = (f"{folder}/{path}", path)
    return any((ROOT / place).exists() for place in places) or bool(files_called(path))


@every_folder
def test_a_function_of_a_readme_is_in_the_file_beside_it(folder: str) -> None:
    for file, name in calls_in(folder):
        assert len(files_called(file)) == 1, f"{file} is {files_called(file)}"
        assert name in defined_in(ROOT / files_called(file)[0]), f"{file} has no {name}"


@pytest.mark.parametrize("title", ROADS)
def test_a_road_has_few_steps_and_each_names_a_function(title: str) -> None:
    steps = re.findall(r"(?m)^(\d+)\. (.*(?:\n   .*)*)", section("cluster", title))
    assert [number for number, _ in steps] == [str(number) for number in range(1, len(steps) + 1)]
    assert 1 < len(steps) <= STEPS_MAX
    assert [step for _, step in steps if not any(CALL.fullmatch(found) for found in quoted(step))] == []


@every_folder
def test_a_command_of_a_readme_is_a_module(folder: str) -> None:
    modules = re.findall(r"python -m ((?:tests|jobs|lstm_core|cluster)[\w.]*)", text_of(folder))
    places = {name: ROOT / name.replace(".", "/") for name in modules}
    assert [name for name, place in places.items() if not runs(place)] == []


def runs(place: Path) -> bool:
    return (place / "__main__.py").is_file() or place.with_suffix(".py").is_file()
