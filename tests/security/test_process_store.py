"""A store that talks nonsense, declares what it does not send, or sends elsewhere: one sentence, no secret follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest

from cluster.core.locations import Options
from cluster.run_errors import StoreFault
from cluster.runtime.storage.filesystems import open_file, stat_file
from cluster.runtime.storage.object_store import WHOLE_BYTES
from cluster.runtime.storage.open_store import StoreSpec, open_store
from tests.fakes.faulty_servers import Answer, Faults, FaultyHandler, serving

SECRET = "a-secret-that-is-for-one-host"


class AnyStore(FaultyHandler):
    """Gives one answer to everything."""

    said: ClassVar[Answer]
    heard: ClassVar[list[str]]

    def answer(self, body: bytes) -> Answer:
        self.heard.append(f"{self.command} {self.path}\n{self.headers}")
        return self.said


@contextmanager
def store_that_says(said: Answer) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it hears."""
    heard: list[str] = []
    with serving(type("Store", (AnyStore,), {"said": said, "heard": heard}), Faults()) as address:
        yield address, heard


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", f"sv=2024&sig={SECRET}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def place(kind: str, address: str) -> tuple[str, dict[str, Any]]:
    if kind == "abfs":
        options = {"account_name": "account", "blob_storage_authority": address, "blob_storage_scheme": "http"}
        return "abfs://container@account/out", options
    return f"{kind}://bucket/out", {"endpoint_override": address, "scheme": "http", "region": "us-east-1"} if (
        kind == "s3"
    ) else {"endpoint_override": address, "scheme": "http", "anonymous": True}


CALLS: dict[str, Callable[[str, Options], object]] = {
    "find": lambda url, options: open_store(StoreSpec(url, options)).find("run.json"),
    "list": lambda url, options: list(open_store(StoreSpec(url, options)).list("")),
    "write": lambda url, options: open_store(StoreSpec(url, options)).write("run.json", b"{}"),
    "stat": lambda url, options: stat_file(f"{url}/f.parquet", options),
    "open": lambda url, options: open_file(f"{url}/f.parquet", options),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["s3", "abfs", "gs"])
@pytest.mark.parametrize("status", [301, 307])
def test_no_credentials_follow_a_redirect_to_another_host(status: int, kind: str, call: str) -> None:
    with ExitStack() as around:
        elsewhere, overheard = around.enter_context(store_that_says(Answer(200, b"x")))
        away = Answer(status, headers=[("Location", f"http://{elsewhere}/stolen")])
        address, heard = around.enter_context(store_that_says(away))
        with pytest.raises((StoreFault, OSError), match=rf"sends on to {elsewhere}") as refused:
            CALLS[call](*place(kind, address))
        assert "\n" not in str(refused.value)
        assert overheard == []
        assert not any(SECRET in request for request in heard)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00 no XML <", b"<ListBucketResult>" * 1000, b""])
def test_a_list_that_is_none_is_one_sentence(content: bytes) -> None:
    with store_that_says(Answer(200, content)) as (address, _):
        url, options = place("s3", address)
        with pytest.raises(StoreFault, match=r"could not be listed .*: mend the storage") as refused:
            list(open_store(StoreSpec(url, options)).list(""))
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


class Endless(FaultyHandler):
    """Declares more than any machine has, and breaks off."""

    def answer(self, body: bytes) -> Answer:
        raise AssertionError("it is played here")

    def _play(self) -> None:
        self.send_response_only(200)
        for name, value in (
            ("Content-Length", str(1 << 50)),
            ("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT"),
            ("ETag", '"x"'),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"{" * 4096)
        self._break()


def test_no_room_is_made_for_what_a_store_only_says_that_it_will_send() -> None:
    assert WHOLE_BYTES < 1 << 50
    with serving(Endless, Faults()) as address:
        url, options = place("s3", address)
        with pytest.raises(StoreFault, match=r"it has 1,125,899,906,842,624 bytes, and no record of a run has"):
            open_store(StoreSpec(url, options)).find("run.json")
