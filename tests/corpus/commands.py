"""The commands of the program and the scores of Keras, for a process of their own.

Replicas and audits live in that process too, by `tests.harness.inprocess` and its like.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from typer.main import get_command

from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.run.run import score
from jobs import cli
from jobs.commands import score as score_job
from jobs.commands import verify as verify_job
from lstm_core.step.tensorflow_setup import configure_compiler, configure_devices
from tests.corpus.tiny_model import TinyModel
from tests.harness.commands import command
from tests.harness.inprocess import in_process

# As in a replica with one CPU; it must come before the first operation of this process.
configure_devices(threads=1, gpu=False)
configure_compiler()
_REFERENCES: dict[bytes, Any] = {}


class RememberingActor(AuditActor):
    """The real actor; the model is loaded once for all entries."""

    def _load(self) -> Any:
        if self._model not in _REFERENCES:
            _REFERENCES[self._model] = super()._load()
        return _REFERENCES[self._model]


@contextlib.contextmanager
def _rescore_here(spec: AuditSpec, archive: bytes) -> Iterator[Rescore]:
    yield RememberingActor(spec, archive).rescore


@contextlib.contextmanager
def _here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", get_command(cli.app))  # made once, not at every command
        patch.setattr(score_job, "score", partial(score, open_cluster=in_process))
        patch.setattr(verify_job, "run", partial(verify_job.run, open_rescore=_rescore_here))
        yield


_HERE = contextlib.ExitStack()  # for as long as the process lives
_HERE.enter_context(_here())


def answer(asked: str, *given: Any) -> Any:
    """What `tests.harness.watched` is asked: "say" a command, the "scores" of a series, the "saved" model."""
    return {"say": _say, "scores": _scores, "saved": _saved}[asked](*given)


def _say(*arguments: str) -> tuple[int, str, str]:
    """A command's code, and what it says on stdout and stderr; a traceback is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(*arguments)
    return code, out.getvalue(), err.getvalue()


@functools.cache
def _model(codes: bool) -> TinyModel:
    return TinyModel(codes=codes)


def _scores(codes: bool, series: list[tuple[Any, Any]]) -> list[float]:
    return _model(codes).scores(series)


def _saved(codes: bool) -> bytes:
    return _model(codes).saved
