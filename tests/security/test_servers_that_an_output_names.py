"""An output names servers: `verify` gives none of them a request, let alone credentials, unless its caller does too."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.commands.verify import trusted
from jobs.config.configuration import load_config
from tests.harness.commands import command
from tests.harness.stranger import Victim

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAVICTIM",
    "AWS_SECRET_ACCESS_KEY": "VICTIMSECRET",
    "AWS_SESSION_TOKEN": "VICTIMSESSION",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AZURE_STORAGE_SAS_KEY": "sv=2024&sig=VICTIMSAS",
}


class Listener:
    """A server on loopback that refuses everything, and what it was asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Refusing(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(f"{self.command} {self.path} {self.headers}")
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """The host that the output names; the credentials of whoever verifies it are in the environment."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever)
    thread.start()
    yield listener
    listener.server.shutdown()
    thread.join()
    listener.server.server_close()


@pytest.fixture
def listened(victim: Victim, stranger: Listener) -> tuple[Victim, Listener]:
    """Both."""
    return victim, stranger


def options(scheme: str, address: str) -> dict[str, object]:
    if scheme == "abfs":
        return {"account_name": "victim", "blob_storage_authority": address, "blob_storage_scheme": "http"}
    return {"endpoint_override": address, "scheme": "http", **({"region": "us-east-1"} if scheme == "s3" else {})}


def plan_elsewhere(victim: Victim, scheme: str) -> None:
    def move(plan: dict[str, list[dict[str, str]]]) -> None:
        for file in plan["files"]:
            file["path"] = f"{scheme}://bucket/in.parquet"

    victim.edit("plan/plan.json", move)


PLACES: dict[str, Callable[[Victim, str], None]] = {
    "an input": plan_elsewhere,
    "what was read": lambda victim, scheme: victim.edit(
        "request.json", lambda stored: stored["state"].update(read=f"{scheme}://bucket/state")
    ),
    "what was written": lambda victim, scheme: victim.edit(
        "request.json", lambda stored: stored["state"].update(write=f"{scheme}://bucket/state")
    ),
}


@pytest.mark.parametrize("rescore", [(), ("--rescore", "1")], ids=["plain", "rescore"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs"])
@pytest.mark.parametrize("name_it", PLACES.values(), ids=PLACES.keys())
def test_verify_asks_no_server_that_only_the_output_names(
    listened: tuple[Victim, Listener],
    name_it: Callable[[Victim, str], None],
    scheme: str,
    rescore: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    victim, stranger = listened
    reached = options(scheme, stranger.address)
    victim.edit("request.json", lambda stored: stored["input"].update(storage=reached))
    victim.edit("request.json", lambda stored: stored["output"].update(storage=reached))
    name_it(victim, scheme)
    assert command("verify", str(victim.output), *rescore) == 2
    said = capsys.readouterr().err.strip()
    assert f"--input '{scheme}://bucket'" in said
    assert "--config" in said
    assert len(said.splitlines()) == 1
    assert stranger.seen == []


@pytest.mark.parametrize("look", ["status", "report"])
def test_other_commands_ask_none_either(victim: Victim, stranger: Listener, look: str) -> None:
    plan_elsewhere(victim, "s3")
    reached = options("s3", stranger.address)
    victim.edit("request.json", lambda stored: stored["input"].update(storage=reached))
    assert command(look, str(victim.output)) == 0
    assert stranger.seen == []


def test_an_endpoint_of_the_output_is_not_the_endpoint_of_a_place_that_is_trusted(
    victim: Victim, stranger: Listener
) -> None:
    """The caller trusts the bucket, and says where it is; the output says otherwise."""
    plan_elsewhere(victim, "s3")
    victim.edit("request.json", lambda stored: stored["input"].update(storage=options("s3", stranger.address)))
    named = Listener()
    thread = threading.Thread(target=named.server.serve_forever)
    thread.start()
    try:
        place = f"s3://bucket?endpoint_override={named.address}&scheme=http&region=us-east-1"
        assert command("verify", str(victim.output), "--input", place) == 1
    finally:
        named.server.shutdown()
        thread.join()
        named.server.server_close()
    assert stranger.seen == []
    assert named.seen


def test_what_a_configuration_names_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"")
    config = load_config(
        {
            "model": {"path": str(tmp_path / "m.keras")},
            "input": {"path": "s3://lake/in", "entity": ["e"], "time": ["t"], "features": ["f"]},
            "output": {"path": str(tmp_path / "out")},
            "state": {"read": "gs://states/1"},
            "storage": {"region": "eu-central-1"},
        }
    )
    trust = trusted(config=config)
    assert trust.places == {"s3://lake", "gs://states"}
    assert trust.storage == {"region": "eu-central-1"}


def test_the_output_s_own_place_needs_no_name() -> None:
    assert trusted(inputs=["s3://lake/scores?region=eu"]).places == {"s3://lake"}


def test_request_without_places_stays_as_it_is(victim: Victim) -> None:
    assert json.loads(victim.place("request.json").read_text())["input"]["storage"] == {}
    assert command("verify", str(victim.output)) == 0
