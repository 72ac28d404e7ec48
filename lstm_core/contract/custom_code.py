"""A user's own code: which modules are imported before a model is loaded, and where they are looked for.

A custom layer, cell or function is known to Keras once the module that registers it is imported. It decides where such
a module is looked for, and turns whatever goes wrong in it into one sentence. What the code does is proved in
`chunk_proof`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from lstm_core.errors import UsageError
from lstm_core.own_packages import find_named
from lstm_core.secret_text import masked


@dataclass(frozen=True)
class CustomCode:
    """Modules with custom layers; plain names, so that a replica on another node can import them too."""

    modules: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # where modules are looked for first

    def load(self) -> None:
        """Imports the modules. Raises `UsageError`."""
        for name in self.modules:
            import_module(name, self.folders, setting="model.modules")


NO_CODE = CustomCode()


def import_module(name: str, folders: Sequence[str], *, setting: str) -> ModuleType:
    """The module, looked for in `folders` first; `setting` is what errors say asked for it. Raises `UsageError`."""
    find_named(name, folders, setting=setting)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        places = " and ".join(dict.fromkeys(folders))
        raise UsageError(
            f"{setting}: module {name!r} cannot be imported ({first_sentence(error)}); it is looked for "
            f"{f'in {places}, and ' if places else ''}among the installed packages."
        ) from error


def first_sentence(error: BaseException) -> str:
    """What a foreign exception says, on one line."""
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {masked(first)}"
