"""Somebody who follows a guide: writes its files, runs its programs and commands, block by block, in one folder.

Commands are the program's own, run in this process; where a run would start Ray, its replicas live in this process as
well, by `tests.harness.inprocess` and its like, unless the reader is told to run every command as a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run.run import score
from jobs.commands import inspect as inspect_job
from jobs.commands import score as score_job
from jobs.commands import train as train_job
from jobs.commands import verify as verify_job
from lstm_core.proof.chunk_proof import prove
from tests.guides.blocks import Block, blocks_of, commands_of
from tests.harness.commands import command
from tests.harness.inprocess import in_process
from tests.integration.test_train import in_this_process
from tests.paths import ROOT

PLAIN = ("cat", "cp", "ls", "mkdir", "mv", "rm")  # programs that are run as they are
RUN = ("python", "sh")
WRITTEN = (*RUN, "toml")


@dataclass
class Reader:
    """Follows one guide in one folder."""

    folder: Path
    as_processes: bool = False  # every command as the user would run it, Ray included
    commands: list[str] = field(default_factory=list)  # that were run

    def follow(self, text: str, name: str) -> None:
        """Every block of a Markdown text that is not marked as not run; `name` is what failures call it."""
        with contextlib.chdir(self.folder), _modules_forgotten(self.folder):
            for block in blocks_of(text):
                if block.not_run is None and block.language in WRITTEN:
                    self._take(block, f"{name}, line {block.line}")

    def _take(self, block: Block, where: str) -> None:
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._run_program(block, where)
        elif block.language == "sh":
            for words in commands_of(block.text):
                self._run_command(words, where)

    def _run_program(self, block: Block, where: str) -> None:
        lines = "\n" * block.line  # so that a traceback has the guide's own lines
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(lines + block.text, where.partition(",")[0], "exec"), {"__name__": "__main__"})

    def _run_command(self, words: list[str], where: str) -> None:
        self.commands.append(shlex.join(words))
        if words[0] in PLAIN:
            subprocess.run(words, check=True, capture_output=True)
            return
        arguments = words[1:] if words[0] == "slotcar" else words[3:]
        assert words[0] == "slotcar" or words[:3] == ["python", "-m", "jobs"], f"{where}: who runs {words[0]}?"
        code, said = self._process(arguments) if self.as_processes else self._here(arguments)
        assert code == 0, f"{where}: {shlex.join(words)} ended with code {code}: {said}"

    def _process(self, arguments: Sequence[str]) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "jobs", *arguments]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stderr

    def _here(self, arguments: Sequence[str]) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = command(*arguments)
        return code, said.getvalue()


@contextlib.contextmanager
def jobs_in_this_process() -> Iterator[None]:
    """Replicas, trainers, audits and proofs in this process, with the same classes that Ray's actors have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_job, "score", partial(score, open_cluster=in_process))
        patch.setattr(train_job, "run", partial(train_job.run, open_trainer=in_this_process))
        patch.setattr(verify_job, "run", partial(verify_job.run, open_rescore=_rescore_here))
        patch.setattr(inspect_job, "run", partial(inspect_job.run, prove=prove))
        yield


@contextlib.contextmanager
def _rescore_here(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    yield AuditActor(spec, model).rescore


@contextlib.contextmanager
def _modules_forgotten(folder: Path) -> Iterator[None]:
    """Another guide's folder has modules of the same names."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
        if any(place.startswith(str(folder)) for place in places):
            del sys.modules[name]
