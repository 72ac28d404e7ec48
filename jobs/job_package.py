"""The folder that goes to a cluster with a job: all that a run needs beside its input.

What it decides: the configuration is written anew, with overrides in it and paths that are whole, so that it means the
same in another place; the model, vocabularies and modules with custom layers go along, input and output do not: they
are where every node reaches them, a mounted folder or a remote store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from jobs.config.configuration import Config
from jobs.config.toml_text import put
from lstm_core.errors import UsageError

CONFIG = "job.toml"
MODEL = "model.keras"


def package_job(config: Config, run_id: str, folder: Path) -> None:
    """Writes the job of `config` into an empty folder. Raises UsageError where a file cannot be read."""
    raw = deepcopy(dict(config.raw))
    document = config.document
    places: dict[tuple[str, str], str | list[str]] = {
        ("model", "path"): _copied(config.model.path, folder / MODEL),
        ("input", "path"): list(config.input.path),
        ("output", "path"): config.output.path,
        ("cluster", "address"): "auto",
    }
    for key in ("read", "write"):
        if getattr(document.state, key) is not None:
            places["state", key] = getattr(document.state, key)
    for index, (column, words) in enumerate(config.input.vocabulary.items()):
        if isinstance(words, str):
            raw["input"]["vocabulary"][column] = _copied(words, folder / f"vocabulary-{index}.txt")
    for place, value in places.items():
        put(raw, place, value, option="submit")
    raw["run_id"] = run_id
    for module in config.model.modules:
        _copy_module(config.folder, module.partition(".")[0], folder)
    (folder / CONFIG).write_text(as_toml(raw), encoding="utf-8")


def _copied(source: str, target: Path) -> str:
    """The file's name in the folder."""
    try:
        shutil.copyfile(source, target)
    except OSError as fault:
        raise UsageError(f"{source} cannot be read: {fault.strerror}; it goes to the cluster with the job.") from None
    return target.name


def _copy_module(home: str, name: str, folder: Path) -> None:
    """A module that lies beside the configuration; any other one is installed on the cluster."""
    if os.path.isdir(os.path.join(home, name)):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(os.path.join(home, name), folder / name, ignore=ignored)
    elif os.path.isfile(os.path.join(home, f"{name}.py")):
        shutil.copyfile(os.path.join(home, f"{name}.py"), folder / f"{name}.py")


def as_toml(values: Mapping[str, object]) -> str:
    """A nested dict as TOML: one line per value, a section per table."""
    top = [f"{_text(key)} = {_value(value)}\n" for key, value in values.items() if not isinstance(value, Mapping)]
    for key, table in values.items():
        if isinstance(table, Mapping):
            lines = "".join(f"{_text(name)} = {_value(value)}\n" for name, value in table.items())
            top.append(f"\n[{_text(key)}]\n{lines}")
    return "".join(top)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value) if isinstance(value, bool | int | float) else _text(str(value))


def _text(text: str) -> str:
    """TOML's basic strings are JSON's, but for the one control character that JSON lets through."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
