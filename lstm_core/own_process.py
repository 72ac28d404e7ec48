"""A process of ours: the entry point of `slotcar`, and the program that runs one of our modules in a new process.

`python -m` puts the working folder before all that is installed, so that whatever lies there under the name of a module
is run. What it decides: that no process of ours is started so. This file is run by its path and with `-P`, which leaves
the working folder out, and finds our packages before anything of theirs is imported.
"""

from __future__ import annotations

import os
import runpy
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command_of(module: str) -> list[str]:
    """The command that runs a module of ours as `python -m` does, but without the working folder."""
    return [sys.executable, "-P", os.path.abspath(__file__), module]


def without_home() -> dict[str, str]:
    """What the environment of a process with Keras lacks where its user has no home that can be written.

    Keras would read its settings from a folder there that everybody can write.
    """
    home = os.access(os.path.expanduser("~"), os.W_OK)
    return {} if home or "KERAS_HOME" in os.environ else {"KERAS_HOME": os.devnull}


def main() -> None:
    """The entry point of `slotcar`."""
    os.environ.update(without_home())
    run("jobs")


def run(module: str) -> None:
    """Runs a module of ours as the program."""
    sys.path.insert(0, ROOT)
    from lstm_core.own_packages import find_own_first  # late: with whatever else was on the path it might be another

    sys.path.remove(ROOT)
    find_own_first()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    del sys.argv[0]
    run(sys.argv[0])
