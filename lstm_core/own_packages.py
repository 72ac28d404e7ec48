"""Where modules are found: Slotcar's own packages before any other of their names, and a user's own as he names them.

Python looks for a module in the working folder, in the folders of PYTHONPATH and in a job's working_dir before it looks
among what is installed, and any of them may hold a `cluster.py` or a `jobs/`. What it decides: that none of these
stands for a package of ours; and that of a folder with a user's own modules only those that he names come before what
is installed, whatever else lies there. What Python itself puts first, `own_process.py` leaves out.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from lstm_core.errors import UsageError

PACKAGES = ("lstm_core", "cluster", "jobs")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder that holds them


class _Found:
    """The first that Python asks where a package or module lies: it answers for these names only."""

    def __init__(self, names: Sequence[str], folders: Sequence[str]) -> None:
        self.names, self.folders = frozenset(names), tuple(folders)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name not in self.names:
            return None
        found = PathFinder.find_spec(name, self.folders)
        return found if found is not None and found.loader is not None else None  # a bare folder is found as ever


def find_own_first() -> None:
    """From here on our packages are ours. Raises `UsageError` where another of the name is imported already."""
    for name in PACKAGES:
        place = _place(sys.modules.get(name))
        if place is not None and not _same(place, os.path.join(ROOT, name)):
            raise UsageError(
                f"A module {name!r} was imported from {place} before Slotcar, which has a package of this name; give "
                "yours another name, or run Slotcar as a command, in a process of its own."
            )
    _look(_Found(PACKAGES, [ROOT]))


def find_named(module: str, folders: Sequence[str], *, setting: str) -> None:
    """From here on `module` is looked for in `folders` first; what lies beside it there, after all that is installed.

    Raises `UsageError` for a name that is one of ours or Python's own: whoever wants that one would get the other.
    """
    top = module.partition(".")[0]
    if top in PACKAGES:
        raise UsageError(f"{setting}: {top!r} is a package of Slotcar itself; give the module {module!r} another name.")
    if top in sys.stdlib_module_names:
        raise UsageError(f"{setting}: {top!r} is a module of Python itself; give the module {module!r} another name.")
    _look(_Found([top], folders))
    sys.path.extend(folder for folder in dict.fromkeys(folders) if folder not in sys.path)


def workers_path() -> list[str]:
    """What a process that is started with this one's environment, and knows no working folder, must look at first.

    Empty where it finds our packages anyhow, which is where they are installed.
    """
    spelt = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [os.path.abspath(place) for place in spelt if place] + site.getsitepackages() + [_user_site()]
    specs = [PathFinder.find_spec(name, places) for name in PACKAGES]
    ours = (os.path.join(ROOT, name, "__init__.py") for name in PACKAGES)
    found = all(
        spec is not None and spec.origin is not None and _same(spec.origin, own)
        for spec, own in zip(specs, ours, strict=True)
    )
    return [] if found else [ROOT]


def _place(module: ModuleType | None) -> str | None:
    """The folder of a package, or the file of what is none."""
    if module is None:
        return None
    folders = list(getattr(module, "__path__", ()))
    return folders[0] if folders else str(getattr(module, "__file__", None) or "an unknown place")


def _same(place: str, other: str) -> bool:
    return os.path.realpath(place) == os.path.realpath(other)


def _look(finder: _Found) -> None:
    known = [one for one in sys.meta_path if isinstance(one, _Found)]
    if not any((one.names, one.folders) == (finder.names, finder.folders) for one in known):
        sys.meta_path.insert(0, finder)


def _user_site() -> str:
    return site.getusersitepackages() if site.ENABLE_USER_SITE else ROOT
