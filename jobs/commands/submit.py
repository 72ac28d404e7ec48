"""`slotcar submit CONFIG`: hands a run to a Ray cluster through its job API, waits, and ends with the run's own code.

What it decides: the job's name, from the run's name and the number of the attempt, so that a scheduler's repeated call
joins the job that is under way instead of starting a second one. An attempt that has ended, in whatever way, is
followed by the next one: it resumes a broken run and does nothing on a finished one. A connection that is lost is taken
up again where the log broke off, for as long as `PATIENCE_S`. Ctrl-C asks whether to stop the job or to leave it. From
Python, a job that failed raises what its run would have raised here, with the sentence that its log ends with.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

from rich.console import RenderableType

from cluster.run_errors import JobStopped, RunFailed, StoreFault, TooManyBadRows, first_line
from cluster.runtime.commit.commit import RUN
from cluster.runtime.fleet.job_server import Job, JobServer, JobView, RayJobServer, ServerLost
from cluster.runtime.storage.open_store import StoreSpec, open_store
from jobs.commands.score import request_of
from jobs.config.configuration import Config
from jobs.job_package import CONFIG, package_job
from jobs.terminal.stop_signals import Stopped
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.exit_codes import EXIT_DONE, EXIT_QUARANTINE, EXIT_STOPPED, EXIT_USAGE
from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.shown_text import shown_lines

POLL_S = 2.0
PATIENCE_S = 600.0  # without an answer
Answer = TypeVar("Answer")
ENTRYPOINT = f"python -m jobs score {CONFIG}"
SAYS = "slotcar: "  # before the sentence that a command fails with, the last line of its log
FAULTS: dict[int, type[SlotcarError]] = {
    EXIT_USAGE: UsageError,
    EXIT_QUARANTINE: TooManyBadRows,
    EXIT_STOPPED: JobStopped,
}


@dataclass(frozen=True)
class Submitted:
    """What has become of the job."""

    submission_id: str
    run_id: str
    output: str
    status: str  # Ray's word
    exit_code: int | None  # None while it is under way
    joined: bool  # it was there already
    message: str = ""

    def as_dict(self) -> JsonObject:
        """As plain values, for JSON."""
        return dict(vars(self))

    def render(self) -> RenderableType:
        """In one line."""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"{self.submission_id}: {self.status.lower()}{code}; output {self.output}"


@dataclass(frozen=True)
class Terms:
    """How a job is handed over and watched."""

    runtime_env: JsonObject
    cpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    wait: bool = True
    say: Callable[[str], None] = lambda text: print(shown_lines(text), end="", file=sys.stderr, flush=True)
    pause: Callable[[float], None] = time.sleep
    ask: Callable[[], bool] = lambda: _ask_whether_to_stop()


def run(config: Config, server: JobServer, terms: Terms) -> Submitted:
    """Submits the run of `config` or joins it; waits for its end unless told otherwise.

    Raises `UsageError` where nothing was submitted, `ServerLost` where the cluster stays silent.
    """
    run_id = config.run_id or request_of(config).run_id
    with tempfile.TemporaryDirectory(prefix="slotcar-") as folder:
        package_job(config, run_id, Path(folder))
        job_id, joined = _start(server, run_id, folder, terms)
    terms.say(f"{'joined' if joined else 'submitted'} {job_id}\n")
    if terms.wait:
        _watch_unless_told_to_stop(server, job_id, terms)
    view = _patiently(lambda: server.find(job_id), terms)
    assert view is not None, "a job that was found does not vanish"
    code = view.exit_code if view.ended else None
    return Submitted(job_id, run_id, config.output.path, view.status, code, joined, view.message)


def record_of(config: Config, done: Submitted) -> JsonObject:
    """The run.json of a job that was waited for. Raises its fault where it failed, or where the output is not seen."""
    if done.exit_code != EXIT_DONE:
        raise _fault_of(done)
    try:
        content = open_store(StoreSpec(config.output.path, config.document.storage)).find(RUN)
    except StoreFault as fault:
        raise _unseen(done, first_line(fault)) from fault
    if content is None:
        raise _unseen(done, "there is none")
    return dict(json.loads(content))


def _fault_of(done: Submitted) -> SlotcarError:
    _, said, sentence = done.message.rpartition(SAYS)
    text = f"Job {done.submission_id} has ended with exit code {done.exit_code}: {sentence if said else done.message}"
    return FAULTS.get(done.exit_code or 0, RunFailed)(f"{text.rstrip(': .')}.")


def _unseen(done: Submitted, why: str) -> RunFailed:
    return RunFailed(
        f"Job {done.submission_id} is done, but {RUN} of its output {done.output} cannot be read from here ({why}): "
        "mount the output at the same path, use a remote store, or say `slotcar submit`, which does not read it."
    )


def open_server(address: str | None, config: Config) -> JobServer:
    """The job API at `address`, else at cluster.address where that is one, else where Ray's own settings say."""
    configured = config.cluster.address if config.cluster.address.startswith(("http://", "https://")) else None
    return RayJobServer(address or configured)


def read_runtime_env(path: str | None) -> JsonObject:
    """A runtime environment from a TOML file."""
    if path is None:
        return {}
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UsageError(f"--runtime-env {path} cannot be read as TOML: {str(fault).rstrip('.')}.") from None
    return checked_env(found, f"--runtime-env {path}")


def checked_env(found: Mapping[str, JsonValue], name: str) -> JsonObject:
    """A runtime environment that leaves to `submit` what is its own."""
    if "working_dir" in found:
        raise UsageError(
            f"{name} sets working_dir, which submit makes itself: it holds the configuration, the model and its "
            "modules; bring other code in as py_modules or in the image."
        )
    return dict(found)


def read_resources(given: Sequence[str]) -> dict[str, float]:
    """Resources of the entrypoint, each given as NAME=AMOUNT. Raises UsageError."""
    found = {}
    for text in given:
        name, _, amount = text.rpartition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            name = ""
        if not name or not 0 < found[name] < math.inf:
            raise UsageError(
                f"--entrypoint-resource {text!r} is no NAME=AMOUNT: name a resource of Ray's and how much of it the "
                "driver takes, as in head=0.01."
            )
    return found


def _start(server: JobServer, run_id: str, folder: str, terms: Terms) -> tuple[str, bool]:
    """The id of the job that is under way now, and whether it was there before."""
    for number in count(1):
        job_id = f"slotcar-{run_id}-{number}"
        view = _patiently(partial(server.find, job_id), terms)
        if view is not None and view.ended:
            continue
        if view is not None:
            return job_id, True
        metadata = {"run_id": run_id, "attempt": str(number)}
        job = Job(job_id, ENTRYPOINT, folder, terms.runtime_env, metadata, terms.cpus, terms.resources)
        return job_id, not _patiently(partial(server.submit, job), terms)
    raise AssertionError("numbers have no end")


def _watch_unless_told_to_stop(server: JobServer, job_id: str, terms: Terms) -> None:
    try:
        _watch(server, job_id, terms)
    except Stopped:
        if terms.ask():
            _patiently(lambda: server.stop(job_id), terms)
            _watch(server, job_id, terms)
        else:
            terms.say(f"{job_id} goes on; the same command joins it again\n")
            raise


def _watch(server: JobServer, job_id: str, terms: Terms) -> None:
    """Hands the log on until the job has ended, whatever becomes of the connection."""
    seen, silent_s = 0, 0.0
    while True:
        try:
            for text in server.follow(job_id, seen):
                seen, silent_s = seen + len(text), 0.0
                terms.say(text)
            if _ended(server.find(job_id)):
                return
            silent_s = 0.0
        except ServerLost as lost:
            if silent_s >= PATIENCE_S:
                raise _given_up(lost) from lost
            silent_s += POLL_S
        terms.pause(POLL_S)


def _ended(view: JobView | None) -> bool:
    return view is not None and view.ended


def _patiently(call: Callable[[], Answer], terms: Terms) -> Answer:
    """Asks again while the cluster is silent; a call that has landed is found by its id."""
    for silent in count():
        try:
            return call()
        except ServerLost as lost:
            if silent * POLL_S >= PATIENCE_S:
                raise _given_up(lost) from lost
            if not silent:
                terms.say(f"the cluster does not answer ({lost}); asking again\n")
            terms.pause(POLL_S)
    raise AssertionError("numbers have no end")


def _given_up(lost: ServerLost) -> ServerLost:
    text = str(lost).rstrip(".")
    return ServerLost(
        f"The cluster's job API has not answered for {PATIENCE_S:.0f} s: {text}; a job goes on by itself, and the same "
        "command joins it."
    )


def _ask_whether_to_stop() -> bool:
    """Asks a person; whoever is no person leaves the job alone."""
    if not sys.stdin.isatty():
        return False
    print("\nStop the job on the cluster? Else it goes on without you. [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in ("y", "yes")
    except (EOFError, Stopped):
        return False
