"""A job API that refuses, fails, talks without end or sends elsewhere: one sentence, and no secret for another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from cluster.run_errors import ClusterRefused
from cluster.runtime.fleet import job_server
from cluster.runtime.fleet.job_server import Job, RayJobServer, ServerLost
from cluster.runtime.fleet.ray_private import renew_token
from lstm_core.errors import SlotcarError
from tests.fakes.faulty_servers import Answer, Faults, FaultyHandler, serving
from tests.harness.commands import command
from tests.inputs.configs import IN_AND_OUT

SECRET = "a-secret-that-is-for-one-host"
VERSION = Answer(200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "x"}).encode())


class JobApi(FaultyHandler):
    """Says its version, and to all else one answer."""

    said: ClassVar[Answer] = VERSION
    version: ClassVar[Answer] = VERSION
    heard: ClassVar[list[str]] = []

    def answer(self, body: bytes) -> Answer:
        self.heard.append(f"{self.path}\n{self.headers}")
        return self.version if self.path.startswith("/api/version") else self.said


@contextmanager
def job_api(said: Answer, version: Answer = VERSION) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it hears."""
    heard: list[str] = []
    handler = type("Api", (JobApi,), {"said": said, "version": version, "heard": heard})
    with serving(handler, Faults()) as address:
        yield f"http://{address}", heard


@pytest.fixture(autouse=True)
def a_token() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", SECRET)
        patch.setattr(job_server, "ANSWER_BYTES", 1 << 16)
        renew_token()
        yield
    renew_token()


ANSWERS = {
    "401": (Answer(401, b"who are you"), ClusterRefused, "refuses the call .401.: set RAY_AUTH_MODE=token"),
    "403": (Answer(403, b"not you"), ClusterRefused, "refuses the call .403.: set RAY_AUTH_MODE=token"),
    "500": (Answer(500, b"<html>\n" + b"x" * 9000), ServerLost, "500"),
    "503": (Answer(503, b""), ServerLost, "503"),
    "garbage": (Answer(200, b"\xff\x00 no JSON \x1b[2J"), SlotcarError, None),
    "list": (Answer(200, b"[1, 2]"), SlotcarError, None),
    "nothing": (Answer(200, b"{}"), SlotcarError, None),
    "endless": (Answer(200, b"[" * (1 << 20)), SlotcarError, "does not end"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_of_a_job_api_is_one_sentence(name: str, tmp_path: Path) -> None:
    said, kind, text = ANSWERS[name]
    job = Job("slotcar-x-1", "python -m jobs score c.toml", str(tmp_path))
    with job_api(said) as (address, _):
        server = RayJobServer(address)
        for call in (lambda: server.find("x"), lambda: server.submit(job), lambda: list(server.follow("x", 0))):
            with pytest.raises(SlotcarError) as refused:
                call()
            assert "\n" not in str(refused.value)
            assert len(str(refused.value)) < 1000
            assert SECRET not in str(refused.value)
        with pytest.raises(kind, match=text):
            server.find("x")


def test_an_id_that_is_taken_is_known_from_an_answer_of_any_length(tmp_path: Path) -> None:
    """Ray answers with a traceback, whose last line says so."""
    text = f"{'File x, line 1 ' * 100}ValueError: Job with submission_id x already exists."
    with job_api(Answer(500, text.encode())) as (address, _):
        assert not RayJobServer(address).submit(Job("x", "true", str(tmp_path)))


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_to_the_first_question_is_one_sentence(name: str) -> None:
    said, _, text = ANSWERS[name]
    with job_api(VERSION, version=said) as (address, _), pytest.raises(SlotcarError, match=text) as refused:
        RayJobServer(address)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("at_once", [True, False], ids=["the version", "the rest"])
def test_no_header_follows_a_redirect(status: int, at_once: bool, tmp_path: Path) -> None:
    """Neither of a call nor of the log's, which is another connection."""
    with ExitStack() as around:
        elsewhere, overheard = around.enter_context(job_api(VERSION))
        away = Answer(status, headers=[("Location", f"{elsewhere}/api/jobs/x")])
        address, heard = around.enter_context(job_api(away, version=away if at_once else VERSION))
        with pytest.raises(ClusterRefused, match=rf"sends the call on to 127\.0\.0\.1:\d+ \({status}\)"):
            RayJobServer(address).find("x")
        if not at_once:
            server = RayJobServer(address)
            with pytest.raises(ClusterRefused, match="sends the call on"):
                server.submit(Job("x", "true", str(tmp_path)))
            with pytest.raises(ClusterRefused, match="sends the call on"):
                list(server.follow("x", 0))
        assert any(SECRET in request for request in heard)
        assert overheard == []


def test_submit_to_a_job_api_that_refuses_ends_with_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.keras").write_bytes(b"")
    (tmp_path / "c.toml").write_text(f'run_id = "x"\n[model]\npath = "m.keras"\n{IN_AND_OUT}')
    with job_api(Answer(403), version=Answer(403)) as (address, _):
        assert command("submit", str(tmp_path / "c.toml"), "--address", address) == 2
    said = capfd.readouterr().err
    assert said.startswith("slotcar: The cluster's job API refuses the call (403)")
    assert SECRET not in said
