"""Imitations on loopback of Google Cloud Storage and Azure Blob Storage, as far as this project's clients use them.

What they keep to: a put on a condition is refused where there is an object, also where many come at once; an upload in
parts is not seen before its end; a copy is whole; listings have pages; a request without credentials is refused.
Signatures are not checked. Google's has the XML interface, which `obstore` speaks, and of the JSON one what pyarrow
reads by. The contract suite and a whole run were also held against Azurite (npm's `azurite`), which is no imitation of
ours: started by hand with `azurite-blob --blobPort PORT --skipApiVersionCheck`, it is taken instead of Azure's where
`SLOTCAR_TEST_AZURITE` has its host:port.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import obstore
import pyarrow.fs as pafs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster.core.locations import parse_location
from cluster.runtime.storage.object_store import connect
from tests.fakes.faulty_servers import Answer, Fault, Faults, FaultyHandler, serving

BUCKET = "nightly"
ACCOUNT = "devstoreaccount1"  # Azurite's own, whose key is in its documentation
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURITE = os.environ.get("SLOTCAR_TEST_AZURITE", "")
PAGE = 20  # entries of a listing: few, so that a run has several pages
CONTROL = "/-/faults"
TOKENS = "/token"  # where a service account's signed claim becomes a token
Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Kept:
    """An object."""

    content: bytes
    number: int  # of the put that made it
    stamp: str  # when, as HTTP writes it

    @property
    def tag(self) -> str:
        return f'"{md5(self.content).hexdigest()}-{self.number}"'


@dataclass
class Bucket(Faults):
    """The objects of a server, and the faults that it has in store."""

    objects: dict[str, Kept] = field(default_factory=dict)
    parts: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (upload or name, part) -> content
    puts: int = 0
    change: threading.Lock = field(default_factory=threading.Lock)

    def put(self, name: str, content: bytes, *, absent: bool) -> Kept | None:
        """None where there must be no such object, and is one."""
        with self.change:
            if absent and name in self.objects:
                return None
            self.puts += 1
            self.objects[name] = Kept(content, self.puts, formatdate(usegmt=True))
            return self.objects[name]

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[tuple[str, Kept | None]], str]:
        """Objects, and prefixes with None, behind `after`; and what the next page is behind, or ""."""
        found: dict[str, Kept | None] = {}
        for name, kept in sorted(self.objects.items()):
            if name.startswith(prefix):
                head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                found.setdefault(prefix + head + cut if cut else name, None if cut else kept)
        left = [entry for entry in found.items() if entry[0] > after]
        return left[:PAGE], left[PAGE - 1][0] if len(left) > PAGE else ""


class _Handler(FaultyHandler):
    """What both have in common."""

    faults: Bucket

    def answer(self, body: bytes) -> Answer:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == CONTROL:
            return self._control(body)
        if url.path == TOKENS:
            return _as_json({"access_token": "ey-night", "token_type": "Bearer", "expires_in": 3600})
        if not self.headers.get("Authorization", "").startswith(("Bearer ey", f"SharedKey {ACCOUNT}:")):
            return _error(403, "AuthenticationFailed")
        answer = self.asked(url.path.lstrip("/"), body)
        return self._without_body(answer) if self.command == "HEAD" and answer.status >= 400 else answer

    def _without_body(self, answer: Answer) -> Answer:
        """Azure's client would read the XML that such an answer speaks of, and does not have."""
        return Answer(answer.status, headers=[one for one in answer.headers if one[0] != "Content-Type"])

    def _control(self, body: bytes) -> Answer:
        """Plans a fault, or forgets them all; tells which have struck."""
        if body:
            told = json.loads(body)
            self.faults.fail(Fault[told.pop("fault")], **told) if told else self.faults.calm()
        return _as_json([one.fault.name for one in self.faults.struck])

    def asked(self, path: str, body: bytes) -> Answer:
        raise NotImplementedError

    def get(self, name: str, more: Callable[[Kept], Headers]) -> Answer:
        """The object, or the range of it that is asked for."""
        kept = self.faults.objects.get(name)
        if kept is None:
            return _error(404, "NoSuchKey")
        headers = [("ETag", kept.tag), ("Last-Modified", kept.stamp), ("Accept-Ranges", "bytes"), *more(kept)]
        wanted = self.headers.get("x-ms-range") or self.headers.get("Range")
        if self.command == "HEAD" or wanted is None:
            return Answer(200, kept.content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(kept.content) - int(last))
        stop = min(int(last) + 1, len(kept.content)) if first and last else len(kept.content)
        if start >= len(kept.content):
            return _error(416, "InvalidRange")
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{len(kept.content)}"))
        return Answer(206, kept.content[start:stop], headers)

    def remove(self, name: str, status: int) -> Answer:
        with self.faults.change:
            return Answer(status) if self.faults.objects.pop(name, None) else _error(404, "NoSuchKey")


class _Google(_Handler):
    """Paths are /BUCKET/NAME in XML, and /storage/v1/b/BUCKET/o/NAME in JSON, with the name's slashes escaped."""

    def asked(self, path: str, body: bytes) -> Answer:
        if path.startswith("storage/v1/") or path.startswith("download/storage/v1/"):
            _, _, name = path.partition(f"/b/{BUCKET}/o")
            return self._json(unquote(name.lstrip("/")))
        name = unquote(path.removeprefix(BUCKET).lstrip("/"))
        if self.command == "GET" and not name:
            return self._list()
        asked = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "POST": self._post, "DELETE": self._delete}
        return asked[self.command](name, body)

    def _get(self, name: str, body: bytes) -> Answer:
        return self.get(name, lambda kept: [("x-goog-generation", str(kept.number))])

    def _delete(self, name: str, body: bytes) -> Answer:
        return Answer(204) if "uploadId" in self.query else self.remove(name, 204)

    def _put(self, name: str, body: bytes) -> Answer:
        if "uploadId" in self.query:
            self.faults.parts[self.query["uploadId"], self.query["partNumber"].zfill(5)] = body
            return Answer(200, headers=[("ETag", f'"{md5(body).hexdigest()}"')])
        source = self.headers.get("x-goog-copy-source")
        if source is None:
            return self._keep(name, body, Answer(200))
        kept = self.faults.objects.get(unquote(source).removeprefix(f"{BUCKET}/"))
        return _error(404, "NoSuchKey") if kept is None else self._keep(name, kept.content, Answer(200))

    def _keep(self, name: str, content: bytes, answer: Answer) -> Answer:
        kept = self.faults.put(name, content, absent=self.headers.get("x-goog-if-generation-match") == "0")
        if kept is None:
            return _error(412, "PreconditionFailed")
        return Answer(answer.status, answer.content, [("ETag", kept.tag), ("x-goog-generation", str(kept.number))])

    def _post(self, name: str, body: bytes) -> Answer:
        if "uploads" in self.query:
            number = f"upload-{len(self.faults.seen)}"
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{number}</UploadId>")
        upload = self.query["uploadId"]
        asked = [part.text or "" for part in ElementTree.fromstring(body).iter() if part.tag.endswith("PartNumber")]
        content = b"".join(self.faults.parts[upload, number.zfill(5)] for number in asked)
        kept = self._keep(name, content, Answer(200))
        told = f"<Bucket>{BUCKET}</Bucket><Key>{escape(name)}</Key><ETag>done</ETag>"
        return _xml("CompleteMultipartUploadResult", told) if kept.status == 200 else kept

    def _list(self) -> Answer:
        asked = [self.query.get(name, "") for name in ("prefix", "delimiter", "continuation-token")]
        found, after = self.faults.page(*asked)
        told = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
        for name, kept in found:
            told += (
                f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                if kept is None
                else f"<Contents><Key>{escape(name)}</Key><Size>{len(kept.content)}</Size>"
                f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{kept.number}</ETag></Contents>"
            )
        return _xml("ListBucketResult", told)

    def _json(self, name: str) -> Answer:
        if name and self.query.get("alt") == "media":
            return self._get(name, b"")
        if name:
            kept = self.faults.objects.get(name)
            return _error(404, "notFound") if kept is None else _as_json(_told(name, kept))
        asked = [self.query.get(key, "") for key in ("prefix", "delimiter", "pageToken")]
        found, after = self.faults.page(*asked)
        items = [_told(name, kept) for name, kept in found if kept is not None]
        prefixes = [name for name, kept in found if kept is None]
        more = {"nextPageToken": after} if after else {}
        return _as_json({"kind": "storage#objects", "items": items, "prefixes": prefixes, **more})


class _Azure(_Handler):
    """Paths are /ACCOUNT/CONTAINER/NAME."""

    def asked(self, path: str, body: bytes) -> Answer:
        name = unquote(path.removeprefix(f"{ACCOUNT}/{BUCKET}").lstrip("/"))
        if self.query.get("comp") == "list":
            return self._list()
        if self.query.get("comp") == "batch":
            return self._batch(body.decode())
        if not name:  # whether the account has folders, as a data lake has
            return Answer(400, headers=[("x-ms-error-code", "HierarchicalNamespaceNotEnabled")])
        if self.command == "PUT":
            return self._put(name, body)
        return self.remove(name, 202) if self.command == "DELETE" else self.get(name, self._about)

    def _batch(self, body: str) -> Answer:
        """Several removals in one request, each answered for itself."""
        told = ""
        for number, line in enumerate(line for line in body.splitlines() if line.startswith("DELETE ")):
            name = unquote(urlsplit(line.split(" ")[1]).path).partition(f"/{BUCKET}/")[2]
            done = self.remove(name, 202)
            code = "" if done.status == 202 else "x-ms-error-code: BlobNotFound\r\n"
            told += f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            told += f"HTTP/1.1 {done.status} told\r\n{code}Content-Length: 0\r\n\r\n\r\n"
        return Answer(202, f"{told}--batch--\r\n".encode(), [("Content-Type", "multipart/mixed; boundary=batch")])

    def _about(self, kept: Kept) -> Headers:
        own = {"blob-type": "BlockBlob", "creation-time": kept.stamp, "server-encrypted": "true"}
        return [("Content-Type", "application/octet-stream"), *((f"x-ms-{name}", text) for name, text in own.items())]

    def _put(self, name: str, body: bytes) -> Answer:
        if self.query.get("comp") == "block":
            self.faults.parts[name, self.query["blockid"]] = body
            return Answer(201)
        if self.query.get("comp") == "blocklist":
            blocks = [one.text or "" for one in ElementTree.fromstring(body)]
            return self._keep(name, b"".join(self.faults.parts[name, block] for block in blocks))
        source = self.headers.get("x-ms-copy-source")
        if source is None:
            return self._keep(name, body)
        kept = self.faults.objects.get(unquote(urlsplit(source).path).removeprefix(f"/{ACCOUNT}/{BUCKET}/"))
        return _error(404, "BlobNotFound") if kept is None else self._keep(name, kept.content, copied=True)

    def _keep(self, name: str, content: bytes, *, copied: bool = False) -> Answer:
        kept = self.faults.put(name, content, absent=self.headers.get("If-None-Match") == "*")
        if kept is None:
            return _error(409, "BlobAlreadyExists")
        headers = [("ETag", kept.tag), ("Last-Modified", kept.stamp)]
        return Answer(202, b"", [*headers, ("x-ms-copy-status", "success")]) if copied else Answer(201, b"", headers)

    def _list(self) -> Answer:
        asked = [self.query.get(name, "") for name in ("prefix", "delimiter", "marker")]
        found, after = self.faults.page(*asked)
        told = "".join(
            f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
            if kept is None
            else f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{kept.stamp}</Last-Modified>"
            f"<Etag>{kept.number}</Etag><Content-Length>{len(kept.content)}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name, kept in found
        )
        head = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in zip(("Prefix",), asked, strict=False))
        return _xml("EnumerationResults", f"{head}<Blobs>{told}</Blobs><NextMarker>{escape(after)}</NextMarker>")


def _told(name: str, kept: Kept) -> dict[str, str]:
    own = {"name": name, "bucket": BUCKET, "size": str(len(kept.content)), "generation": str(kept.number)}
    moment = "2026-01-01T00:00:00.000Z"
    return {"kind": "storage#object", "metageneration": "1", "timeCreated": moment, "updated": moment, **own}


def _as_json(told: Any) -> Answer:
    return Answer(200, json.dumps(told).encode(), [("Content-Type", "application/json")])


def _xml(root: str, told: str) -> Answer:
    content = f'<?xml version="1.0" encoding="utf-8"?><{root}>{told}</{root}>'
    return Answer(200, content.encode(), [("Content-Type", "application/xml")])


def _error(status: int, code: str) -> Answer:
    content = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    return Answer(status, content, [("Content-Type", "application/xml"), ("x-ms-error-code", code)])


@dataclass(frozen=True)
class Cloud:
    """A server with one bucket, in a process of its own: pyarrow asks Google's holding this one's interpreter lock."""

    scheme: str
    address: str
    secret: str  # what must never be seen

    @property
    def url(self) -> str:
        return f"{self.scheme}://{BUCKET}"

    def options(self, **more: Any) -> dict[str, Any]:
        """[storage]"""
        if self.scheme == "gs":
            return {"endpoint_override": self.address, "scheme": "http", **more}
        return {"account_name": ACCOUNT, "blob_storage_authority": self.address, "blob_storage_scheme": "http", **more}

    def client(self) -> Any:
        """A client of the bucket, that of a store of its own."""
        return connect(parse_location(self.url), self.options(), repeats=0)

    def names(self, prefix: str) -> list[str]:
        """Keys below a prefix."""
        return sorted(entry["path"] for batch in obstore.list(self.client(), prefix) for entry in batch)

    def fail(self, fault: Fault, method: str, part: str, times: int = 1) -> None:
        """Plans a fault."""
        self._control({"fault": fault.name, "method": method, "part": part, "times": times})

    def calm(self) -> None:
        """No fault is left, and no history."""
        self._control({})

    @property
    def struck(self) -> list[str]:
        """The faults that have struck."""
        return self._control(None)

    def _control(self, told: dict[str, Any] | None) -> Any:
        if self.address == AZURITE:
            assert not told, "Azurite does not fail on purpose"
            return []
        body = None if told is None else json.dumps(told).encode()
        with urllib.request.urlopen(f"http://{self.address}{CONTROL}", body) as answer:
            return json.load(answer)


@contextmanager
def google(folder: Path) -> Iterator[tuple[Cloud, dict[str, str]]]:
    """A bucket, and the environment by which clients reach it: a service account with a key of its own."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with _running("gs") as address:
        account = {"type": "service_account", "client_email": "night@slotcar.test", "private_key_id": "1"}
        more = {"private_key": key.decode(), "client_id": "1", "token_uri": f"http://{address}{TOKENS}"}
        (folder / "account.json").write_text(json.dumps(account | more))
        cloud = Cloud("gs", address, secret=key.decode().splitlines()[3])
        yield cloud, {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json")}


@contextmanager
def azure() -> Iterator[tuple[Cloud, dict[str, str]]]:
    """A container, and the environment by which clients reach it."""
    with contextlib.nullcontext(AZURITE) if AZURITE else _running("abfs") as address:
        if AZURITE:
            more = {"dfs_storage_authority": AZURITE, "dfs_storage_scheme": "http"}
            options = {**Cloud("abfs", AZURITE, KEY).options(), **more, "account_key": KEY}
            pafs.AzureFileSystem(**options).create_dir(BUCKET)
        yield Cloud("abfs", address, secret=KEY), {"AZURE_STORAGE_ACCOUNT_KEY": KEY}


@contextmanager
def _running(scheme: str) -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-m", "tests.fakes.clouds", scheme], stdin=PIPE, stdout=PIPE)
    assert server.stdout is not None, "it was asked for"
    try:
        yield server.stdout.readline().decode().strip()
    finally:
        server.communicate()  # its input ends, and it with it


if __name__ == "__main__":
    with serving({"gs": _Google, "abfs": _Azure}[sys.argv[1]], Bucket()) as place:
        print(place, flush=True)
        sys.stdin.read()
