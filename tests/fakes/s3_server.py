"""A real S3 server on loopback for tests, and a proxy before it that fails on purpose.

The server is SeaweedFS, one process, which enforces conditional puts also where many come at once. The proxy hands
requests through byte for byte, but for those that a fault was planned for. Nothing leaves this machine.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pyarrow.fs as pafs
from obstore.store import S3Store

from tests.fakes.faulty_servers import Answer, Faults, FaultyHandler, serving

ACCESS, SECRET = "SLOTCARACCESSKEY0001", "a-secret-that-must-never-be-seen"
BUCKET = "nightly"
START_S = 60.0
_OF_THE_HOP = ("transfer-encoding", "connection", "content-length")
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass
class S3(Faults):
    """A server's address, and the faults that its proxy has in store."""

    direct: str  # host:port of the server itself
    proxied: str = ""

    def options(self, **more: Any) -> dict[str, Any]:
        """[storage] for the proxy."""
        return {"endpoint_override": self.proxied, "scheme": "http", "region": "us-east-1", **more}

    def client(self) -> Any:
        """Behind the proxy's back."""
        config: Any = {"access_key_id": ACCESS, "secret_access_key": SECRET, "region": "us-east-1"}
        config["endpoint"] = f"http://{self.direct}"
        return S3Store(BUCKET, config=config, client_options={"allow_http": True})

    def names(self, prefix: str) -> list[str]:
        """Keys below a prefix."""
        return sorted(entry["path"] for batch in obstore.list(self.client(), prefix) for entry in batch)


class _Proxy(FaultyHandler):
    """Hands requests through byte for byte."""

    faults: S3

    def answer(self, body: bytes) -> Answer:
        upstream = http.client.HTTPConnection(self.faults.direct)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)  # the host as the client has signed it
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return Answer(answer.status, answer.read(), self._kept(answer), answer.reason)
        finally:
            upstream.close()

    def _kept(self, answer: http.client.HTTPResponse) -> list[tuple[str, str]]:
        dropped = ("transfer-encoding", "connection") if self.command == "HEAD" else _OF_THE_HOP
        return [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """A server with one empty bucket, and its proxy."""
    with _seaweed(folder) as direct:
        s3 = S3(direct)
        keys = {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1", "scheme": "http"}
        pafs.S3FileSystem(endpoint_override=direct, allow_bucket_creation=True, **keys).create_dir(BUCKET)
        with serving(_Proxy, s3) as s3.proxied:
            yield s3


@contextmanager
def _seaweed(folder: Path) -> Iterator[str]:
    ports = _free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    options = [f"dir={folder}", "ip=127.0.0.1", "ip.bind=127.0.0.1", "filer", "s3", "s3.iam=false"]
    options += ["s3.autoCreateBucket=false", "s3.port.iceberg=0", "s3.port.lance=0"]
    options += ["volume.max=20", "master.volumeSizeLimitMB=64"]
    options += ["master.telemetry=false", *(f"{name}={port}" for name, port in zip(names, ports, strict=True))]
    command = [str(Path(sys.executable).with_name("weed")), "server", *(f"-{option}" for option in options)]
    environment = {**os.environ, **ENVIRONMENT}
    log = folder / "log"
    with log.open("wb") as said:
        server = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
    address = f"127.0.0.1:{ports[6]}"
    try:
        _wait_for(f"http://{address}/status", server, log)
        yield address
    finally:
        server.kill()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    begin, pause = time.monotonic(), threading.Event()
    while True:
        assert server.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() - begin < START_S, log.read_text()[-2000:]
        with suppress(OSError), urllib.request.urlopen(url):
            return
        pause.wait(0.05)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
