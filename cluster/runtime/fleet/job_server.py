"""A Ray cluster's job API: hand a job over, see what became of it, read its log, stop it.

What it decides: what the API's answers mean. A submission id is an idempotency key: one that is taken is refused, so of
two callers exactly one starts the job. Whether a call that broke off has landed is found out by asking again. Anything
that goes away by itself, a connection or a cluster that is not ready yet, is `ServerLost`; the job does not care.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, cast

import aiohttp
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.run_errors import ClusterRefused, RunFailed, first_line
from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from lstm_core.json_types import JsonValue


class ServerLost(RunFailed):
    """The job API does not answer, or not now; the job goes on."""


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


class RayJobServer:
    """Implements `JobServer`; `address` is the dashboard's, http://HEAD:8265, or None for Ray's own settings."""

    def __init__(self, address: str | None) -> None:
        try:
            self._client = JobSubmissionClient(address)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ClusterRefused(
                f"No job API of Ray answers at {address or 'RAY_API_SERVER_ADDRESS'}: {first_line(error)}; give the "
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
            if "already exists" in str(lost):
                return False
            if "runtime_env" in str(lost) or "exceeds the maximum size" in str(lost):
                raise ClusterRefused(f"The cluster refuses the job: {lost}.") from lost
            raise
        return True

    def find(self, job_id: str) -> JobView | None:
        try:
            with _answered():
                info = self._client.get_job_info(job_id)
        except ServerLost as lost:
            if "does not exist" in str(lost):
                return None
            raise
        ended = info.status.is_terminal()
        code = info.driver_exit_code
        return JobView(str(info.status.value), ended, _code(info.status, code), " ".join((info.message or "").split()))

    def follow(self, job_id: str, seen: int) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        chunks = cast(AsyncGenerator[str, None], self._client.tail_job_logs(job_id))  # as it is, and can be closed
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
    except (RuntimeError, OSError, requests.RequestException, aiohttp.ClientError) as error:
        if isinstance(error, StopAsyncIteration):
            raise
        raise ServerLost(" ".join(str(error).split()) or type(error).__name__) from error
