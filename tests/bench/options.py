"""What the command lines of the benchmarks that run Slotcar have in common."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the common options, for `python -m MODULE`."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("--repeat", type=int, default=3, help="runs of each, alternating")
    made.add_argument("--replicas", type=int, default=2, help="of slotcar, and actors of Ray Data; 2 unless told")
    made.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "slotcar-bench"))
    return made


def parsed(made: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """The options; the cache's folder is there."""
    options = made.parse_args(arguments)
    options.cache = options.cache.absolute()
    options.cache.mkdir(parents=True, exist_ok=True)
    return options
