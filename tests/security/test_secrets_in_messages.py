"""Secrets in what libraries and servers say: none reaches stderr, run.json, the report or the timeline."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.run_errors import InputDamaged, NotLanded, RunFailed, first_line, told
from cluster.runtime.fleet.ray_errors import describe_event
from jobs.config.configuration import load_config
from jobs.terminal.stderr_log import log_to_stderr
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.secret_text import holds_secret, masked
from lstm_core.shown_text import shown, shown_lines
from tests.fakes.clouds import Cloud
from tests.harness.commands import command
from tests.harness.stranger import Victim

SECRET = "V1CT1M.secret-+/x="
QUOTED = "V1CT1M.secret-%2B%2Fx%3D"
FOREIGN = {
    "an Azure SAS": f"403: https://a.blob.core.windows.net/c/x?sv=2024-11-04&ss=b&sig={QUOTED}&se=2027 refused",
    "a SAS alone": f"the token ?sv=2024-11-04&sig={QUOTED} has expired",
    "a signed URL of S3": f"GET https://b.s3.amazonaws.com/k?X-Amz-Credential={QUOTED}&X-Amz-Signature={QUOTED}: 403",
    "its session": f"https://b.s3.amazonaws.com/k?X-Amz-Security-Token={QUOTED}&x=1",
    "a signed URL of GCS": f"https://storage.googleapis.com/b/k?X-Goog-Signature={QUOTED}&GoogleAccessId={QUOTED}",
    "an old signed URL": f"https://b.s3.amazonaws.com/k?AWSAccessKeyId={QUOTED}&Signature={QUOTED}",
    "a user with a password": f"cannot reach https://user:{QUOTED}@proxy.internal:3128/x",
    "a password with signs": "cannot reach https://user:V1CT1M.sec:ret@@proxy.internal:3128/x",
    "a bearer token": f"sent Authorization: Bearer {SECRET} to host",
    "a bearer token alone": f"Bearer {SECRET} is expired",
    "basic authorization": f"authorization: Basic {SECRET}",
    "a shared key": f"Authorization: SharedKey account:{SECRET}",
    "AWS's header": f"AWS4-HMAC-SHA256 Credential=V1CT1M/2026/s3, SignedHeaders=host, Signature={SECRET}",
    "a header of a session": f"x-amz-security-token: {SECRET}",
    "JSON of a token server": f'{{"access_token": "{SECRET}", "client_secret": "{SECRET}"}}',
    "a connection string": f"AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
    "a field of a form": f"grant_type=refresh_token&client_secret={QUOTED}&refresh_token={QUOTED}",
    "a URL within a URL": f"https://login?next=https%3A%2F%2Fa%2Fc%3Fsig%3D{QUOTED}",
}
INNOCENT = [
    "Column 'password' has 3 nulls in s3://lake/token=5/part-0.parquet",
    "abfs://container@account.dfs.core.windows.net/folder/x.parquet is not there",
    "the bearer of bad news; basic usage: see the guide; Basic authentication is off",
    "entity user:7@plant has 3 rows; a = 5, b: 7; https://host:8080/x?region=eu&scheme=http",
    "slotcar verify 's3://lake?endpoint_override=minio.internal:9000&region=eu-central-1'",
]
every_text = pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())


@every_text
def test_a_secret_is_masked_and_the_rest_stays(text: str) -> None:
    assert "V1CT1M" not in masked(text)
    assert "***" in masked(text)
    assert masked(masked(text)) == masked(text)
    assert holds_secret(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


@every_text
def test_no_sentence_holds_one_wherever_it_is_made(text: str) -> None:
    foreign = OSError(text)
    sentences = [first_line(foreign), told(foreign), describe_event(foreign), shown(text), shown_lines(text)]
    for kind in (SlotcarError, UsageError, RunFailed, NotLanded, InputDamaged):
        fault = kind(f"it failed ({foreign}): try again.")
        sentences += [str(fault), str(pickle.loads(pickle.dumps(fault))), repr(fault), describe_event(fault)]
    assert [sentence for sentence in sentences if "V1CT1M" in sentence] == []


@every_text
def test_no_line_of_the_log_holds_one(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("slotcar")
    kept = list(log.handlers), log.propagate, log.level
    try:
        log_to_stderr()
        log.error("the server says: %s", text)
    finally:
        log.handlers[:], log.propagate = kept[:2]
        log.setLevel(kept[2])
    assert "***" in (said := capsys.readouterr().err)
    assert "V1CT1M" not in said


@every_text
def test_a_run_that_fails_over_one_keeps_none(victim: Victim, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    victim.break_off()
    part = next(victim.output.glob("*.parquet"))
    victim.place("snapshots").mkdir(exist_ok=True)

    def fail(*_: object) -> None:
        raise OSError(text)

    monkeypatch.setattr("cluster.runtime.run.run.publish_unowned", fail)
    with pytest.raises(RunFailed):
        victim.first_night()
    assert part.exists()
    assert "***" in json.loads(victim.place("run.json").read_text())["error"]
    command("report", str(victim.output))
    kept = [path for path in victim.folder.rglob("*") if path.is_file() and b"V1CT1M" in path.read_bytes()]
    assert kept == []


CONFIGURED = {
    "input.path": [f"abfs://c@a.dfs.core.windows.net/x?sv=1&sig={QUOTED}", f"s3://key:{QUOTED}@bucket/x"],
    "output.path": [f"https://b.s3.amazonaws.com/k?X-Amz-Signature={QUOTED}"],
    "state.read": [f"s3://u:{QUOTED}@bucket/x"],
    "model.path": [f"https://user:{QUOTED}@host/m.keras"],
    "storage.endpoint_override": [f"https://user:{QUOTED}@host", f"user:{QUOTED}@host:9000", f"h?token={QUOTED}"],
    "storage.blob_storage_authority": [f"user:{QUOTED}@host:9000", f"host/?sig={QUOTED}"],
    "cluster.address": [f"ray://user:{QUOTED}@host:10001"],
}


@pytest.mark.parametrize("key", CONFIGURED)
def test_a_configuration_with_a_secret_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    (tmp_path / "m.keras").write_bytes(b"")
    (tmp_path / "c.toml").write_text(
        '[model]\npath = "m.keras"\n[input]\npath = "in"\nentity = ["e"]\ntime = ["t"]\nfeatures = ["f"]\n'
        '[output]\npath = "out"\n'
    )
    for value in CONFIGURED[key]:
        with pytest.raises(UsageError, match=key) as refused:
            load_config(str(tmp_path / "c.toml"), [f"{key}={value}"])
        assert "V1CT1M" not in str(refused.value)
        assert "environment" in str(refused.value)


@pytest.mark.parametrize("look", ["status", "verify", "report"])
def test_an_output_s_name_with_a_secret_is_refused_and_not_repeated(
    look: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(look, f"abfs://c@a.dfs.core.windows.net/x?sv=1&sig={QUOTED}") == 2
    assert "V1CT1M" not in capsys.readouterr().err


@pytest.fixture
def expired(abfs: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an Azure whose SAS has expired: it refuses everything."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("x-ms-error-code", "AuthenticationFailed")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", f"?sv=2024-11-04&ss=b&sig={QUOTED}")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_sas_that_has_expired_is_not_told(expired: str, victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    """pyarrow's own message has the whole URL, with its signature."""
    config = victim.folder / "c.toml"
    config.write_text(
        f'[model]\npath = "{victim.model}"\n[input]\npath = "abfs://nightly/in.parquet"\nentity = ["entity"]\n'
        'time = ["time"]\nfeatures = ["f0", "f1", "f2"]\n[output]\npath = "out"\n[storage]\n'
        f'account_name = "devstoreaccount1"\nblob_storage_authority = "{expired}"\nblob_storage_scheme = "http"\n'
    )
    assert command("plan", str(config)) != 0
    said = capsys.readouterr().err
    assert "403" in said or "refuse" in said.lower() or "AuthenticationFailed" in said
    assert "V1CT1M" not in said
