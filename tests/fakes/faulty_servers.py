"""Servers on loopback that fail on purpose.

A fault is planned for the next request that fits it, and strikes once for each time it was planned. What a request
means, and what is answered where none strikes, is for the servers themselves. Nothing leaves this machine.
"""

from __future__ import annotations

import socket
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


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
    part: str  # of the path, unescaped
    times: int = 1


@dataclass(kw_only=True)
class Faults:
    """Those that a server has in store, and what it has seen."""

    planned: list[Planned] = field(default_factory=list)
    struck: list[Planned] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)  # method and path of each request
    closing: threading.Event = field(default_factory=threading.Event)
    mutex: threading.Lock = field(default_factory=threading.Lock)

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


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int
    content: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    reason: str | None = None


class FaultyHandler(BaseHTTPRequestHandler):
    """Plays the faults; a server derives from it, with `faults` of its own."""

    protocol_version = "HTTP/1.1"
    faults: Faults

    @abstractmethod
    def answer(self, body: bytes) -> Answer:
        """What is answered where no fault strikes. To a HEAD, the headers name the length."""

    def _any(self) -> None:
        with suppress(OSError):  # a client that was tired of waiting
            self._play()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _play(self) -> None:
        fate = self.faults.fate(self.command, unquote(self.path))
        length = int(self.headers.get("Content-Length", 0))
        if fate is Fault.CUT:
            self.rfile.read(length // 2)
            return self._break()
        body = self.rfile.read(length)
        if fate is Fault.SILENT:
            self.faults.closing.wait(30)
            return self._break()
        if fate is not None and fate is not Fault.LANDED:
            return self._send(_refusal(fate))
        answer = self.answer(body)
        if fate is Fault.LANDED:
            return self._break()
        return self._send(answer)

    def _send(self, answer: Answer) -> None:
        head = self.command == "HEAD"
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers:
            self.send_header(name, value)
        if not head or not any(name.lower() == "content-length" for name, _ in answer.headers):
            self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if not head:
            self.wfile.write(answer.content)

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _refusal(fate: Fault) -> Answer:
    code = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}[fate.value]
    content = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
    return Answer(fate.value, content, [("Content-Type", "application/xml")])


@contextmanager
def serving(handler: type[FaultyHandler], faults: Faults) -> Iterator[str]:
    """Serves until the block ends; host:port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"faults": faults}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        faults.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
