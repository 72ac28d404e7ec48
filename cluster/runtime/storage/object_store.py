"""A store in an object store: S3 and what speaks like it, Google Cloud Storage, Azure.

Writing goes through `obstore`, the Python side of Rust's `object_store`, since pyarrow.fs has no conditional put: its
put mode "create" is one on all three (`If-None-Match: *`, or a generation that must be 0), and its copies are made by
the server. It has no dependencies, reads credentials from the environment, and `object_store` is what Delta Lake's own
library stands on. Large files are read through pyarrow.fs, as the input is.

There is no rename: `publish` copies and deletes, and may stop between the two. A file under way is spooled on local
disk and sent when it is closed, in parts where it is large; nothing is seen of it before the last part is acknowledged.

What is known of a failure: a refusal (4xx), or a connection that was never made, has
changed nothing. Of everything else, a 500, a timeout, a connection that
broke, nobody knows. Calls that are the same when done twice are repeated, a few times and for `REPEAT_S` at most, which
is less than a lock takes to go stale; `put_if_absent` is sent once, since a repeated one would meet itself.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, TYPE_CHECKING, TypeAlias, TypedDict

import obstore
import pyarrow as pa
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from cluster.core.locations import Location, Options, options_for
from cluster.run_errors import MayHaveLanded, NotLanded, StoreFault, first_line
from cluster.runtime.storage.aws_profile import profile_keys
from cluster.runtime.storage.endpoint_check import check_endpoint
from cluster.runtime.storage.filesystems import open_file
from cluster.runtime.storage.store import Output
from lstm_core.json_types import JsonObject

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

WHOLE_BYTES = 1 << 31  # records, plans and snapshots; scores and states are read through pyarrow.fs

Client: TypeAlias = S3Store | GCSStore | AzureStore

REFUSALS = (
    InvalidPathError,
    FileNotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
REPEATS = 3
REPEAT_S = 10
_REFUSED = r"status code: 4(?!08)\d\d|kind: Connect\b"
_CONNECTION = {"Connect": "nobody answers", "Timeout": "no answer in time", "Request": "the connection broke"}
SPOOL_BYTES = 16 << 20  # a file under way that is smaller stays in memory


class ObjectStore:
    """Implements `Store` below a prefix of a bucket."""

    def __init__(self, place: Location, options: Options) -> None:
        self._place, self._options = place, options
        try:
            check_endpoint(place, options)
        except OSError as error:
            raise StoreFault(f"{place.url} cannot be opened: {error}.") from None
        with _faults(StoreFault, place.url, "opened"):
            self._repeating = connect(place, options, repeats=REPEATS)
            self._once = connect(place, options, repeats=0)

    @property
    def root(self) -> str:
        return self._place.url

    @property
    def manner(self) -> str:
        return "by conditional puts and server-side copies of an object store"

    def path(self, name: str) -> str:
        return self._place.below(name)

    def exists(self, name: str) -> bool:
        with _faults(StoreFault, self.path(name), "looked for"):
            try:
                obstore.head(self._repeating, name)
            except FileNotFoundError:
                found = obstore.list_with_delimiter(self._repeating, name)
                return bool(found["objects"] or found["common_prefixes"])
        return True

    def list(self, folder: str) -> list[str]:
        with _faults(StoreFault, self.path(folder), "listed"), suppress(FileNotFoundError):
            found = obstore.list_with_delimiter(self._repeating, folder or None)["objects"]
            below = f"{folder}/" if folder else ""
            names = (entry["path"].removeprefix(below) for entry in found)
            return sorted(name for name in names if name not in ("", folder))  # some stores keep the folder itself
        return []

    def read(self, name: str) -> bytes:
        with _faults(StoreFault, self.path(name), "read"):
            return self._whole(name)

    def find(self, name: str) -> bytes | None:
        with _faults(StoreFault, self.path(name), "read"), suppress(FileNotFoundError):
            return self._whole(name)
        return None

    def _whole(self, name: str) -> bytes:
        """A file as it comes: no room is made for what a server only says that it will send."""
        found = obstore.get(self._repeating, name)
        if found.meta["size"] > WHOLE_BYTES:
            raise GenericError(f"it has {found.meta['size']:,} bytes, and no record of a run has")
        return b"".join(bytes(piece) for piece in found.stream(min_chunk_size=1 << 20))

    def modified_s(self, name: str) -> float:
        with _faults(StoreFault, self.path(name), "looked at"):
            return obstore.head(self._repeating, name)["last_modified"].timestamp()

    def write(self, name: str, content: bytes) -> None:
        with _faults(MayHaveLanded, self.path(name), "written"):
            obstore.put(self._repeating, name, content, use_multipart=False)

    def put_if_absent(self, name: str, content: bytes) -> bool:
        with _faults(MayHaveLanded, self.path(name), "written"):
            try:
                obstore.put(self._once, name, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def open_output(self, name: str) -> Output:
        return _SpooledOutput(self, name)

    def open_input(self, name: str) -> pa.NativeFile:
        try:
            return open_file(self.path(name), self._options)
        except OSError as error:
            raise StoreFault(f"{self.path(name)} could not be read ({first_line(error)}).") from error

    def publish(self, source: str, target: str) -> None:
        with _faults(MayHaveLanded, self.path(target), "published"):
            try:
                obstore.copy(self._repeating, source, target)
            except FileNotFoundError:
                # Done before: by whoever read the record first, or by a call whose answer was lost.
                if not self.exists(target):
                    raise NotLanded(
                        f"{self.path(target)} is committed, but neither it nor {self.path(source)} is there: somebody "
                        "has removed it; score again with output.overwrite = true."
                    ) from None
        self.remove(source)

    def remove(self, name: str) -> None:
        with _faults(MayHaveLanded, self.path(name), "removed"), suppress(FileNotFoundError):
            obstore.delete(self._repeating, name)

    def make_folder(self, folder: str) -> None:
        """There are no folders."""

    def drop_folder(self, folder: str) -> None:
        """There are no folders."""

    def sweep(self, folder: str) -> None:
        """A put is whole or not there; the parts of an upload that was cut off are for the bucket's lifecycle rule."""

    def send(self, name: str, file: IO[bytes]) -> None:
        """Sends a whole local file, in parts where it is large."""
        with _faults(MayHaveLanded, self.path(name), "written"):
            obstore.put(self._repeating, name, file)


class _SpooledOutput(Output):
    """A file on this machine until it is closed."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name = store, name
        # Never left open: `close` and `abort` end it, and one of them always comes.
        self._file = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            raise NotLanded(
                f"{self._store.path(self._name)} could not be spooled in {tempfile.gettempdir()} ({error.strerror}): "
                "make room there, or point TMPDIR to where there is; the same command resumes the run."
            ) from error

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.seek(0)
            self._store.send(self._name, self._file)
        finally:
            self.abort()

    def abort(self) -> None:
        self.closed = True
        self._file.close()


class _Common(TypedDict):
    """What all clients are made with."""

    prefix: str | None
    client_options: ClientConfig
    retry_config: RetryConfig


def connect(place: Location, options: Options, *, repeats: int) -> Client:
    """An obstore client for a place; `options` are those of pyarrow.fs."""
    given: JsonObject = options_for(place.scheme, options)
    timeouts = {name: timedelta(seconds=float(given.pop(f"{name}_timeout", 30))) for name in ("request", "connect")}
    settings: _Common = {
        "prefix": place.key or None,
        "client_options": {
            "timeout": timeouts["request"],
            "connect_timeout": min(timeouts.values()),
            "allow_http": "http" in (given.get("scheme"), given.get("blob_storage_scheme")),
        },
        "retry_config": {"max_retries": repeats, "retry_timeout": timedelta(seconds=REPEAT_S)},
    }
    endpoint = given.get("endpoint_override")
    if endpoint is not None and "://" not in str(endpoint):
        endpoint = f"{given.get('scheme', 'https')}://{endpoint}"
    return {"s3": _s3, "gs": _gs, "abfs": _abfs}[place.scheme](place, given, endpoint, settings)


def _s3(place: Location, given: JsonObject, endpoint: str | None, settings: _Common) -> Client:
    config: S3Config = {"disable_bulk_delete": True}  # not everything that speaks S3 knows it
    config |= {"region": given["region"]} if "region" in given else {}
    config |= {"endpoint": endpoint} if endpoint else {}
    config |= {"skip_signature": True} if given.get("anonymous") else {}
    config |= {"virtual_hosted_style_request": True} if given.get("force_virtual_addressing") else {}
    keys = None if given.get("anonymous") else profile_keys()
    return S3Store(place.bucket, config=config, credential_provider=keys, **settings)


def _gs(place: Location, given: JsonObject, endpoint: str | None, settings: _Common) -> Client:
    config: GCSConfig = {"base_url": endpoint} if endpoint else {}
    config |= {"skip_signature": True} if given.get("anonymous") else {}
    return GCSStore(place.bucket, config=config, **settings)


def _abfs(place: Location, given: JsonObject, endpoint: str | None, settings: _Common) -> Client:
    account = given.get("account_name") or place.account
    config: AzureConfig = {"account_name": account} if account else {}
    if "blob_storage_authority" in given:
        scheme, authority = given.get("blob_storage_scheme", "https"), given["blob_storage_authority"]
        # pyarrow puts the account before an authority with a leading dot, and behind any other.
        config["endpoint"] = (
            f"{scheme}://{account}{authority}" if authority[0] == "." else f"{scheme}://{authority}/{account}"
        )
    return AzureStore(place.bucket, config=config, **settings)


@contextmanager
def _faults(kind: type[StoreFault], url: str, done: str) -> Iterator[None]:
    """Translates what obstore says: of a write to `NotLanded` where the store has refused it, else to `kind`."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if kind is MayHaveLanded and _is_refusal(error):
            kind = NotLanded
        raise kind(
            f"{url} could not be {done} ({_said(error)}): mend the storage (permissions, bucket, connection) or wait "
            "for it; what is committed stays, and the same command resumes the run."
        ) from OSError(_said(error))  # the client's own text goes on for a page


def _is_refusal(error: Exception) -> bool:
    """True where the store has answered that it did nothing."""
    return isinstance(error, REFUSALS) or re.search(_REFUSED, str(error)) is not None


def _said(error: Exception) -> str:
    """What the server answered, or how the connection failed."""
    text = str(error)
    code, message = re.search(r"<Code>([^<]*)", text), re.search(r"<Message>([^<]*)", text)
    if code:
        return f"{code[1]}: {message[1].rstrip('.')}" if message and message[1] else code[1]
    kind = re.search(r"kind: (Connect|Timeout|Request)\b", text)
    if kind:
        return _CONNECTION[kind[1]]
    return first_line(error).rpartition(" - ")[2].rstrip(": ")
