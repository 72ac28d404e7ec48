"""`slotcar submit` against a simulated job API: one job for one run, and its own code whatever becomes of the line."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.run_errors import JobStopped, RunFailed, TooManyBadRows
from cluster.runtime.commit.commit import RUN
from cluster.runtime.fleet.job_server import Job, JobView, ServerLost
from jobs import api
from jobs.commands import submit as submit_job
from jobs.commands.submit import PATIENCE_S, POLL_S, Submitted, Terms, read_resources, read_runtime_env, run
from jobs.config.configuration import Config, load_config
from jobs.job_package import CONFIG, as_toml, package_job
from jobs.terminal.stop_signals import Stopped
from lstm_core.errors import SlotcarError, UsageError
from tests.harness.reporting import Laid, lay_run

LOG = ["planning\n", "shard 1\n", "shard 2\n", "done\n"]


@dataclass
class SimServer:
    """Implements `JobServer`. A job ends when its log has been read to the end, or when it is stopped."""

    codes: list[tuple[str, int]] = field(default_factory=lambda: [("SUCCEEDED", 0)])  # per job, in order
    breaks: list[int] = field(default_factory=list)  # the log breaks off after so many chunks, each time once
    silent: int = 0  # so many calls fail first
    rival: bool = False  # somebody else submits between our look and our call
    lose_answer: bool = False  # the first submission lands, and its answer is lost
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)
    content: dict[str, dict[str, Any]] = field(default_factory=dict)  # job -> its configuration
    interrupt: bool = False
    message: str = ""  # of jobs that have ended

    def submit(self, job: Job) -> bool:
        self._answer()
        if self.rival or job.id in self.jobs:
            self.rival = False
            self.jobs.setdefault(job.id, job)
            return False
        self.jobs[job.id] = job
        self.content[job.id] = tomllib.loads(Path(job.folder, CONFIG).read_text())
        if self.lose_answer:
            self.lose_answer = False
            raise ServerLost("Connection reset by peer")
        return True

    def find(self, job_id: str) -> JobView | None:
        self._answer()
        if job_id not in self.jobs:
            return None
        status, code = self.ended.get(job_id, ("RUNNING", 1))
        return JobView(status, job_id in self.ended, code, self.message if job_id in self.ended else "")

    def follow(self, job_id: str, seen: int) -> Iterator[str]:
        self._answer()
        if self.interrupt:
            self.interrupt = False
            raise Stopped(signal.SIGINT)
        text, limit = "".join(LOG), self.breaks.pop(0) if self.breaks else len(LOG)
        yield text[seen : len("".join(LOG[:limit]))]
        if limit < len(LOG):
            raise ServerLost("the stream broke off")
        if job_id not in self.ended:
            self.ended[job_id] = self.codes[len(self.ended)]

    def stop(self, job_id: str) -> None:
        self.ended[job_id] = ("STOPPED", 143)

    def _answer(self) -> None:
        if self.silent:
            self.silent -= 1
            raise ServerLost("no route")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "delays.keras").write_bytes(b"a model")
    (tmp_path / "words.txt").write_text("AA\nUA\n")
    (tmp_path / "layers.py").write_text("")
    (tmp_path / "night.toml").write_text(
        'run_id = "night"\n[model]\npath = "delays.keras"\nmodules = ["layers"]\n[output]\npath = "out"\n[input]\n'
        'path = "in"\nentity = "tail"\ntime = "t"\nsince = 2026-11-20\nfeatures = {x = ["a"], c = ["carrier"]}\n'
        '[input.fill]\na = "previous"\n[input.vocabulary]\ncarrier = "words.txt"\n'
    )
    return load_config(str(tmp_path / "night.toml"), ["model.slots=8"])


@dataclass
class Watch:
    """What a person sees, and how long they wait."""

    said: str = ""
    waited_s: float = 0.0

    def terms(self, **changes: Any) -> Terms:
        return replace(Terms({}, say=self._say, pause=self._pause), **changes)

    def _say(self, text: str) -> None:
        self.said += text

    def _pause(self, seconds: float) -> None:
        self.waited_s += seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


Run = Callable[..., Submitted]


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("FAILED", 3), ("STOPPED", 143)])
def test_the_runs_own_code_is_handed_on_with_its_log(config: Config, watch: Watch, status: str, code: int) -> None:
    server = SimServer(codes=[(status, code)])
    done = run(config, server, watch.terms(runtime_env={"pip": ["x"]}, cpus=1.0, resources={"head": 0.5}))
    assert (done.submission_id, done.status, done.exit_code, done.joined) == ("slotcar-night-1", status, code, False)
    assert watch.said == "submitted slotcar-night-1\n" + "".join(LOG)
    job = server.jobs["slotcar-night-1"]
    assert (job.entrypoint, job.runtime_env, job.cpus) == (f"python -m jobs score {CONFIG}", {"pip": ["x"]}, 1.0)
    assert job.resources == {"head": 0.5}
    assert job.metadata == {"run_id": "night", "attempt": "1"}
    assert not os.path.exists(job.folder)


def test_a_repeated_call_joins_the_job_that_is_under_way(config: Config, watch: Watch) -> None:
    server = SimServer()
    first = run(config, server, watch.terms(wait=False))
    second = run(config, server, watch.terms())
    assert (first.exit_code, first.status, first.joined) == (None, "RUNNING", False)
    assert (second.submission_id, second.exit_code, second.joined) == (first.submission_id, 0, True)
    assert len(server.jobs) == 1


def test_of_two_calls_at_the_same_time_one_submits_and_the_other_joins(config: Config, watch: Watch) -> None:
    server = SimServer(rival=True)
    done = run(config, server, watch.terms())
    assert (done.submission_id, done.exit_code, done.joined) == ("slotcar-night-1", 0, True)


def test_an_attempt_that_has_ended_is_followed_by_the_next(config: Config, watch: Watch) -> None:
    server = SimServer(codes=[("FAILED", 1), ("SUCCEEDED", 0)])
    codes = [run(config, server, watch.terms()).exit_code for _ in range(2)]
    assert codes == [1, 0]
    assert list(server.jobs) == ["slotcar-night-1", "slotcar-night-2"]


def test_a_submission_whose_answer_is_lost_is_found_by_its_id(config: Config, watch: Watch) -> None:
    server = SimServer(lose_answer=True)
    assert run(config, server, watch.terms()).exit_code == 0
    assert list(server.jobs) == ["slotcar-night-1"]


@given(st.lists(st.integers(0, len(LOG) - 1), max_size=5))
def test_a_log_that_breaks_off_is_said_once_and_whole(breaks: list[int]) -> None:
    server, watch = SimServer(breaks=list(breaks)), Watch()
    server.jobs["slotcar-night-1"] = Job("slotcar-night-1", "", "")
    done = run(_joined_config(), server, watch.terms())
    assert done.exit_code == 0
    assert watch.said == "joined slotcar-night-1\n" + "".join(LOG)


def _joined_config() -> Config:
    """A configuration whose files are this file: nothing of it is read once the job is there."""
    keys = {"path": __file__, "entity": "e", "time": "t", "features": ["x"]}
    raw = {"run_id": "night", "model": {"path": __file__}, "input": keys, "output": {"path": "out"}}
    return load_config(raw)


def test_a_cluster_that_is_silent_for_a_while_is_waited_for(config: Config, watch: Watch) -> None:
    assert run(config, SimServer(silent=7), watch.terms()).exit_code == 0
    assert watch.waited_s == 7 * POLL_S


def test_a_cluster_that_stays_silent_is_given_up(config: Config, watch: Watch) -> None:
    with pytest.raises(ServerLost, match="has not answered for 600 s: no route; a job goes on by itself"):
        run(config, SimServer(silent=10**6), watch.terms())
    assert watch.waited_s == pytest.approx(PATIENCE_S)


def test_a_person_who_interrupts_may_stop_the_job(config: Config, watch: Watch) -> None:
    done = run(config, SimServer(interrupt=True), watch.terms(ask=lambda: True))
    assert (done.status, done.exit_code) == ("STOPPED", 143)


def test_or_leave_it(config: Config, watch: Watch) -> None:
    server = SimServer(interrupt=True)
    with pytest.raises(Stopped):
        run(config, server, watch.terms(ask=lambda: False))
    assert server.ended == {}
    assert watch.said.endswith("slotcar-night-1 goes on; the same command joins it again\n")


def test_resources_of_the_driver_are_named_with_their_amount() -> None:
    assert read_resources(["head=0.5", "a=b=2"]) == {"head": 0.5, "a=b": 2.0}


@pytest.mark.parametrize("text", ["head", "=1", "head=", "head=much", "head=0", "head=-1", "head=inf", "head=nan"])
def test_a_resource_without_an_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--entrypoint-resource .* is no NAME=AMOUNT"):
        read_resources([text])


# ---- from Python


def submit_to(server: SimServer, monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> api.RunSummary:
    """`jobs.api.submit`, where this server answers."""
    monkeypatch.setattr(submit_job, "open_server", lambda address, config: server)
    return api.submit(folder / "night.toml", overrides=["model.slots=8"], **changes)


def test_from_python_a_job_gives_the_figures_of_its_run(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lay_run(tmp_path / "out", Laid())
    server = SimServer()
    asked = {"entrypoint_cpus": 1.0, "entrypoint_resources": {"head": 0.5}}
    summary = submit_to(server, monkeypatch, tmp_path, runtime_env={"pip": ["x"]}, **asked)
    assert (summary.run_id, summary.rows_in, summary.output) == ("night", 100, str(tmp_path / "out"))
    assert summary.record == json.loads((tmp_path / "out" / RUN).read_text())
    (job,) = server.jobs.values()
    assert (job.runtime_env, job.cpus, job.resources) == ({"pip": ["x"]}, 1.0, {"head": 0.5})
    assert server.content[job.id]["model"]["slots"] == 8


@pytest.mark.parametrize(
    ("code", "kind"), [(1, RunFailed), (2, UsageError), (3, TooManyBadRows), (143, JobStopped), (9, RunFailed)]
)
def test_from_python_a_job_that_failed_raises_what_its_run_said(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, kind: type[SlotcarError]
) -> None:
    lay_run(tmp_path / "out", Laid())  # what an earlier attempt has left is no result
    said = (
        f"Job entrypoint command failed with exit code {code}, last available logs: run x: y slotcar: The disk is full."
    )
    server = SimServer(codes=[("FAILED", code)], message=said)
    with pytest.raises(SlotcarError) as fault:
        submit_to(server, monkeypatch, tmp_path)
    assert type(fault.value) is kind
    assert str(fault.value) == f"Job slotcar-night-1 has ended with exit code {code}: The disk is full."
    assert fault.value.exit_code == (code if code != 9 else 1)


def test_from_python_a_job_that_said_nothing_is_told_in_rays_words(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = SimServer(codes=[("STOPPED", 143)], message="Job was intentionally stopped.")
    with pytest.raises(
        JobStopped, match=r"^Job slotcar-night-1 has ended with exit code 143: Job was inten\w+ stopped\.$"
    ):
        submit_to(server, monkeypatch, tmp_path)


def test_from_python_an_output_that_only_the_cluster_sees_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        RunFailed, match=r"^Job slotcar-night-1 is done, but _slotcar/run\.json of its output .*/out cannot"
    ):
        submit_to(SimServer(), monkeypatch, tmp_path)


def test_from_python_a_working_directory_is_refused_as_well(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = SimServer()
    with pytest.raises(UsageError, match=r"^runtime_env sets working_dir, which submit makes itself"):
        submit_to(server, monkeypatch, tmp_path, runtime_env={"working_dir": "."})
    assert server.jobs == {}


# ---- what goes along


def test_the_staged_configuration_means_the_same_elsewhere(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "staged"
    folder.mkdir()
    package_job(config, "night", folder)
    again = load_config(str(folder / CONFIG))
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, "layers.py", "model.keras", "vocabulary-0.txt"]
    assert (again.input.path, again.output.path) == (config.input.path, config.output.path)
    assert (again.model.slots, again.cluster.address, again.run_id) == (8, "auto", "night")
    assert (again.input.since, again.input.fill, again.input.features) == (
        date(2026, 11, 20).isoformat(),
        config.input.fill,
        config.input.features,
    )
    assert again.identity() == config.identity()
    assert again.model_bytes() == config.model_bytes()


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.integers(-(2**60), 2**60) | st.booleans()
VALUES = PLAIN | st.floats(allow_nan=False, allow_infinity=False) | st.lists(PLAIN, max_size=3)
TABLES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), VALUES, max_size=4)


@given(st.dictionaries(st.text('abcé "\\\n\x7f', min_size=1, max_size=6), VALUES | TABLES, max_size=5))
def test_toml_is_read_back_as_it_was(values: dict[str, Any]) -> None:
    assert tomllib.loads(as_toml(values)) == values


def test_a_runtime_environment_is_toml_without_a_working_directory(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text('pip = ["x"]\n[env_vars]\nA = "1"\n')
    (tmp_path / "bad.toml").write_text('working_dir = "."\n')
    assert read_runtime_env(None) == {}
    assert read_runtime_env(str(tmp_path / "env.toml")) == {"pip": ["x"], "env_vars": {"A": "1"}}
    with pytest.raises(UsageError, match="sets working_dir, which submit makes itself"):
        read_runtime_env(str(tmp_path / "bad.toml"))
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        read_runtime_env(str(tmp_path / "none.toml"))
