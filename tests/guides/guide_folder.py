"""The folder in which a guide is followed: what the program of the first guide writes, and no more."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.guides.blocks import blocks_of
from tests.paths import ROOT

GUIDE = ROOT / "jobs" / "guides" / "first-hour.md"
PROGRAM = "# example.py"  # how the block begins that the guide calls so


def prepare(folder: Path) -> None:
    """Lays everything into `folder`."""
    for name, content in _written().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def example_program() -> str:
    """The program that writes the files of all examples, as the guide shows it."""
    [found] = [block for block in blocks_of(GUIDE.read_text(encoding="utf-8")) if block.text.startswith(PROGRAM)]
    return found.text


@cache
def _written() -> dict[str, bytes]:
    """Relative path -> content, of every file that the program writes."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(example_program(), GUIDE.name, "exec"), {"__name__": "__main__"})
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
