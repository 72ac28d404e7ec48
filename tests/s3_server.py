"""A real S3 server on loopback for tests, and a proxy before it that fails on purpose.

The server is SeaweedFS, one process, which enforces conditional puts also where many come at once. The proxy hands
requests through byte for byte; a fault is planned for the next request that fits it, and strikes once for each time it
was planned. Nothing leaves this machine.
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
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pyarrow.fs as pafs
from obstore.store import S3Store

ACCESS, SECRET = "SLOTCARACCESSKEY0001", "a-secret-that-must-never-be-seen"
BUCKET = "nightly"
START_S = 60.0
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}


class Fault(Enum):
    """What happens to a request."""

    INTERNAL = 500  # answered without being done
    SLOW_DOWN = 503
    FORBIDDEN = 403
    CUT = 0  # the connection breaks in the middle of the request
    LANDED = 1  # done, and the connection breaks instead of an answer
    SILENT = 2  # not done, and never answered


@dataclass
class Planned:
    """A fault for requests that fit, `times` of them."""

    fault: Fault
    method: str
    part: str  # of the path
    times: int = 1


@dataclass
class S3:
    """A server's address, and the faults that its proxy has in store."""

    direct: str  # host:port of the server itself
    proxied: str = ""
    planned: list[Planned] = field(default_factory=list)
    struck: list[Planned] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)  # method and path of each request
    closing: threading.Event = field(default_factory=threading.Event)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def options(self, **more: Any) -> dict[str, Any]:
        """[storage] for the proxy."""
        return {"endpoint_override": self.proxied, "scheme": "http", "region": "us-east-1", **more}

    def fail(self, fault: Fault, method: str, part: str, times: int = 1) -> None:
        """Plans a fault."""
        with self.mutex:
            self.planned.append(Planned(fault, method, part, times))

    def fate(self, method: str, path: str) -> Fault | None:
        """What becomes of a request."""
        with self.mutex:
            self.seen.append(f"{method} {path}")
            for one in self.planned:
                if one.times and one.method == method and one.part in path:
                    one.times -= 1
                    self.struck.append(one)
                    return one.fault
        return None

    def calm(self) -> None:
        """No fault is left, and no history."""
        with self.mutex:
            self.planned, self.struck, self.seen = [], [], []

    def client(self) -> Any:
        """Behind the proxy's back."""
        config: Any = {"access_key_id": ACCESS, "secret_access_key": SECRET, "region": "us-east-1"}
        config["endpoint"] = f"http://{self.direct}"
        return S3Store(BUCKET, config=config, client_options={"allow_http": True})

    def names(self, prefix: str) -> list[str]:
        """Keys below a prefix."""
        return sorted(entry["path"] for batch in obstore.list(self.client(), prefix) for entry in batch)


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3

    def _any(self) -> None:
        with suppress(OSError):  # a client that was tired of waiting
            self._answer()

    def _answer(self) -> None:
        fate = self.s3.fate(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if fate is Fault.CUT:
            self.rfile.read(length // 2)
            return self._break()
        body = self.rfile.read(length)
        if fate is Fault.SILENT:
            self.s3.closing.wait(30)
            return self._break()
        if fate is not None and fate is not Fault.LANDED:
            return self._refuse(fate)
        answer, content = self._forward(body)
        if fate is Fault.LANDED:
            return self._break()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        head = self.command == "HEAD"
        self.send_header("Content-Length", answer.getheader("Content-Length", "0") if head else str(len(content)))
        self.end_headers()
        if not head:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _forward(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        upstream = http.client.HTTPConnection(self.s3.direct)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)  # the host as the client has signed it
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer, answer.read()
        finally:
            upstream.close()

    def _refuse(self, fate: Fault) -> None:
        code = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}[fate.value]
        content = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
        self.send_response_only(fate.value)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """A server with one empty bucket, and its proxy."""
    with _seaweed(folder) as direct:
        s3 = S3(direct)
        keys = {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1", "scheme": "http"}
        pafs.S3FileSystem(endpoint_override=direct, allow_bucket_creation=True, **keys).create_dir(BUCKET)
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"s3": s3}))
        proxy.daemon_threads = True
        s3.proxied = f"127.0.0.1:{proxy.server_address[1]}"
        serving = threading.Thread(target=proxy.serve_forever, daemon=True)
        serving.start()
        try:
            yield s3
        finally:
            s3.closing.set()
            proxy.shutdown()
            proxy.server_close()
            serving.join()


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
