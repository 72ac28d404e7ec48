"""A Ray cluster's job API: hand a job over, see what became of it, read its log, stop it.

What it decides: what the API's answers mean. A submission id is an idempotency key: one that is taken is refused, so of
two callers exactly one starts the job. Whether a call that broke off has landed is found out by asking again. Anything
that goes away by itself, a connection or a cluster that is not ready yet, is `ServerLost`; the job does not care. What
would stay, a token that is refused or an address that sends on to another, is `ClusterRefused`: a token and a run's
files go to the host that they were meant for, and to no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.run_errors import ClusterRefused, RunFailed
from lstm_core.errors import SlotcarError
from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from lstm_core.json_types import JsonObject, JsonValue

CONNECT_S, ANSWER_S = 30.0, 120.0
ANSWER_BYTES = 1 << 24  # the longest answer is what a job was given and what it said last
SAID_MAX = 400  # letters of an answer that are shown


class ServerLost(RunFailed):
    """The job API does not answer, or not now; the job goes on."""

    whole = ""  # what it said, where the sentence has only the beginning


@dataclass(frozen=True)
class Job:
    """What is handed over."""

    id: str
    entrypoint: str
    folder: str  # sent along; the entrypoint runs in it
    runtime_env: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    cpus: float = 0.0  # of the entrypoint; above 0 it may run on any node that has them
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JobView:
    """What has become of a job."""

    status: str  # Ray's: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED
    ended: bool
    exit_code: int  # the driver's own where it ended and Ray knows it
    message: str


class JobServer(Protocol):
    """A job API. Every call may raise `ServerLost`."""

    def submit(self, job: Job) -> bool:
        """Starts a job; False where its id is taken already."""

    def find(self, job_id: str) -> JobView | None:
        """What has become of a job; None where there is none of this id."""

    def follow(self, job_id: str, seen: int) -> Iterator[str]:
        """The job's log as it comes, without its first `seen` characters, to the job's end."""

    def stop(self, job_id: str) -> None:
        """Asks a job to stop: SIGTERM, and after some seconds SIGKILL."""


class _Client(JobSubmissionClient):
    """Ray's client, which follows a redirect with all its headers and reads whatever is sent to it; this one does not.

    What Ray's own calls make of an answer stays as it is.
    """

    def _do_request(  # type: ignore[no-untyped-def]  # as Ray leaves it
        self, method: str, endpoint: str, *, data: bytes | None = None, json_data: JsonObject | None = None, **options
    ) -> requests.Response:
        answer = requests.request(
            method,
            self._address + endpoint,
            cookies=self._cookies,
            data=data,
            json=json_data,
            headers=self._headers,
            verify=self._verify,
            allow_redirects=False,
            timeout=(CONNECT_S, ANSWER_S),
            stream=True,
            **options,
        )
        with answer:
            _check_answer(answer.status_code, answer.headers.get("Location"))
            answer._content = _bounded(answer)
        return answer

    async def tail_job_logs(self, job_id: str) -> AsyncGenerator[str, None]:
        """As Ray's."""
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        url = f"{self._address}/api/jobs/{job_id}/logs/tail"
        async with (
            aiohttp.ClientSession(cookies=self._cookies, headers=self._headers, trace_configs=[trace]) as session,
            session.ws_connect(url, ssl=True if self._ssl_context is None else self._ssl_context) as socket,
        ):
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    yield message.data
            if socket.close_code not in (None, aiohttp.WSCloseCode.OK):
                raise ConnectionError(f"the log of job {job_id} broke off with code {socket.close_code}")


async def _refuse_redirect(session: object, context: object, told: aiohttp.TraceRequestRedirectParams) -> None:
    _check_answer(told.response.status, told.response.headers.get("Location"))


def _check_answer(status: int, location: str | None) -> None:
    """Raises `ClusterRefused` for an answer that asking again would not change."""
    if status in (401, 403):
        raise ClusterRefused(
            f"The cluster's job API refuses the call ({status}): set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the "
            "cluster's token."
        )
    if 300 <= status < 400:
        host = urlsplit(location or "").netloc or "another path"
        raise ClusterRefused(
            f"The cluster's job API sends the call on to {host} ({status}), and what it carries is for nobody else;"
            " give the address of the dashboard itself as --address."
        )


def _bounded(answer: requests.Response) -> bytes:
    """The body, as long as one of Ray's may be, within the time that it may take."""
    deadline, body = time.monotonic() + ANSWER_S, bytearray()
    for piece in answer.iter_content(1 << 16):
        body += piece
        if len(body) > ANSWER_BYTES or time.monotonic() > deadline:
            raise ConnectionError("its answer does not end")
    return bytes(body)


class RayJobServer:
    """Implements `JobServer`; `address` is the dashboard's, http://HEAD:8265, or None for Ray's own settings."""

    def __init__(self, address: str | None) -> None:
        try:
            self._client = _Client(address)
        except SlotcarError:
            raise
        except Exception as error:  # Ray's client raises what it meets in an answer that is not as Ray's are
            if isinstance(error, requests.HTTPError):  # a server of errors may be another one soon
                raise ServerLost(f"{_shortened(error)}; the same command tries again") from error
            raise ClusterRefused(
                f"No job API of Ray answers at {address or 'RAY_API_SERVER_ADDRESS'}: {_shortened(error)}; give the "
                "dashboard's address, as in --address http://head:8265, and RAY_AUTH_MODE=token where it wants one."
            ) from None

    def submit(self, job: Job) -> bool:
        env = {**job.runtime_env, "working_dir": job.folder}
        try:
            with _answered():
                self._client.submit_job(
                    entrypoint=job.entrypoint,
                    submission_id=job.id,
                    runtime_env=env,
                    metadata=dict(job.metadata),
                    entrypoint_num_cpus=job.cpus,
                    entrypoint_resources=dict(job.resources) or None,
                )
        except ServerLost as lost:
            if "already exists" in lost.whole:
                return False
            if "runtime_env" in lost.whole or "exceeds the maximum size" in lost.whole:
                raise ClusterRefused(f"The cluster refuses the job: {lost}.") from lost
            raise
        return True

    def find(self, job_id: str) -> JobView | None:
        try:
            with _answered():
                info = self._client.get_job_info(job_id)
        except ServerLost as lost:
            if "does not exist" in lost.whole:
                return None
            raise
        ended = info.status.is_terminal()
        code = info.driver_exit_code
        return JobView(str(info.status.value), ended, _code(info.status, code), " ".join((info.message or "").split()))

    def follow(self, job_id: str, seen: int) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        chunks = self._client.tail_job_logs(job_id)
        try:
            while True:
                try:
                    with _answered():
                        text = loop.run_until_complete(anext(chunks))
                except StopAsyncIteration:
                    return
                if seen < len(text):
                    yield text[seen:]
                seen = max(seen - len(text), 0)
        finally:
            loop.run_until_complete(chunks.aclose())
            loop.close()

    def stop(self, job_id: str) -> None:
        with _answered():
            self._client.stop_job(job_id)


def _code(status: JobStatus, code: int | None) -> int:
    """The run's own code; what a signal ended is no success, whatever Ray's client makes of it."""
    if status == JobStatus.STOPPED:
        return EXIT_STOPPED
    if status == JobStatus.SUCCEEDED:
        return EXIT_DONE
    # Python's code for a process that a signal has ended is negative; Ray has none where it never started.
    return code if code is not None and code > 0 else EXIT_FAILED


@contextmanager
def _answered() -> Iterator[None]:
    """Translates what Ray's client raises: it tells kinds of failure apart by their text alone."""
    try:
        yield
    except (SlotcarError, StopAsyncIteration):
        raise
    except Exception as error:  # of an answer that is not as Ray's are it raises anything
        if isinstance(error, aiohttp.WSServerHandshakeError):
            _check_answer(error.status, None)
        lost = ServerLost(_shortened(error))
        lost.whole = str(error)
        raise lost from error


def _shortened(error: Exception) -> str:
    """What it says, in one line; it may hold a whole answer."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= SAID_MAX else f"{said[:SAID_MAX]} ..."
