"""Locations: absolute paths and URLs, and the options by which a remote store is reached.

Decides which schemes there are, what a URL may hold, and which options of `[storage]` each scheme takes: those names of
pyarrow.fs that reading and writing both know. A key is taken as it stands, never percent-decoded. What holds a secret
is refused, in an option as in a URL, and not repeated: secrets come from the environment, where each scheme's libraries
look for them. Leaves files and connections alone.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from lstm_core.secret_text import holds_secret

Option = str | bool | int | float
Options = Mapping[str, Option]

SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "abfs": "abfs",
    "abfss": "abfs",
    "hdfs": "hdfs",
    "file": "file",
}
OPTIONS: dict[str, dict[str, type[Option]]] = {
    "s3": {
        "endpoint_override": str,
        "region": str,
        "scheme": str,
        "anonymous": bool,
        "force_virtual_addressing": bool,
        "request_timeout": float,
        "connect_timeout": float,
    },
    "gs": {"endpoint_override": str, "scheme": str, "anonymous": bool, "project_id": str},
    "abfs": {"account_name": str, "blob_storage_authority": str, "blob_storage_scheme": str},
    "hdfs": {"user": str, "replication": int, "kerb_ticket": str},
}
# Names under which somebody may try to give a secret -> under which one the environment gives it, in words.
SECRETS = {
    **dict.fromkeys(("access_key", "access_key_id", "aws_access_key_id"), "as AWS_ACCESS_KEY_ID"),
    **dict.fromkeys(("secret_key", "secret_access_key", "aws_secret_access_key"), "as AWS_SECRET_ACCESS_KEY"),
    **dict.fromkeys(("session_token", "aws_session_token"), "as AWS_SESSION_TOKEN"),
    **dict.fromkeys(("access_token", "service_account", "service_account_key"), "as GOOGLE_APPLICATION_CREDENTIALS"),
    **dict.fromkeys(("account_key", "azure_storage_account_key"), "as AZURE_STORAGE_ACCOUNT_KEY"),
    **dict.fromkeys(("sas_token", "sas_key"), "as AZURE_STORAGE_SAS_KEY"),
    **dict.fromkeys(("client_secret", "azure_client_secret"), "as AZURE_CLIENT_SECRET"),
    **dict.fromkeys(("password", "token", "secret"), "under the name that the store's own library reads"),
}


class NotALocation(ValueError):
    """A URL or an option that cannot be used; its text goes on from the key's name: "must be ..."."""


@dataclass(frozen=True)
class Location:
    """A URL, taken apart."""

    scheme: str  # one of the values of SCHEMES
    authority: str  # as it stands: a bucket, container@account..., or host:port
    key: str  # without a slash at either end

    @property
    def bucket(self) -> str:
        """The bucket or container."""
        return self.authority.partition("@")[0]

    @property
    def account(self) -> str | None:
        """The account of Azure's long form, or None."""
        return self.authority.partition("@")[2].partition(".")[0] or None

    @property
    def fs_path(self) -> str:
        """How pyarrow.fs names it."""
        if self.scheme == "hdfs":
            return f"/{self.key}"
        return f"{self.bucket}/{self.key}".rstrip("/")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}/{self.key}".rstrip("/")

    def below(self, name: str) -> str:
        """The URL of a name in it; of itself where the name is empty."""
        return f"{self.url}/{name}" if name else self.url

    def named(self, fs_path: str) -> str:
        """The URL of what pyarrow.fs names `fs_path`, in the same bucket or on the same host."""
        key = fs_path.lstrip("/") if self.scheme == "hdfs" else fs_path.partition("/")[2]
        return f"{self.scheme}://{self.authority}/{key}"


def is_url(path: str) -> bool:
    """True for what is no local path."""
    return "://" in path


def parse_location(url: str) -> Location:
    """A URL taken apart. Raises NotALocation."""
    written, _, rest = url.partition("://")
    scheme = SCHEMES.get(written.lower())
    if scheme is None or scheme == "file":
        raise NotALocation(
            f"must be a local path or start with s3://, gs://, abfs:// or hdfs://, but starts with {written!r}"
        )
    authority, _, key = rest.partition("/")
    if (":" in authority and scheme != "hdfs") or ("@" in authority and scheme != "abfs"):
        raise NotALocation(
            f"must not hold credentials or a port between {written}:// and the path: secrets come from the "
            "environment, an endpoint from [storage]"
        )
    if not authority:
        raise NotALocation(f"must name a bucket, as in {written}://bucket/folder")
    if "" in key.strip("/").split("/")[1:] or {".", ".."} & set(key.split("/")):
        raise NotALocation(f"must have no empty, '.' or '..' part in its path, but is {url!r}")
    return Location(scheme, authority, key.strip("/"))


def normalized(path: str, folder: str) -> str:
    """A URL in its plain form, or a path made absolute from `folder`. Raises NotALocation."""
    if path.lower().startswith("file:/"):  # Hadoop writes one slash
        path = "/" + path[len("file:") :].lstrip("/")
    if not is_url(path):
        return posixpath.normpath(posixpath.join(folder, path))
    return parse_location(path).url


def split_options(url: str) -> tuple[str, dict[str, Option]]:
    """A URL with options behind a question mark, as pyarrow.fs takes it -> the URL and its options.

    Raises NotALocation.
    """
    if not is_url(url):
        return url, {}
    if holds_secret(url):
        raise NotALocation("must not hold credentials, a signature or a token: secrets come from the environment")
    bare, _, query = url.partition("?")
    found = {name: _as_option(name, text) for name, text in parse_qsl(query)}
    for name in found:
        if name in SECRETS:
            raise NotALocation(f"must not hold {name}: secrets come from the environment, {SECRETS[name]}")
    return bare, found


def options_for(scheme: str, options: Options) -> dict[str, Option]:
    """The options that a scheme takes."""
    return {name: value for name, value in options.items() if name in OPTIONS.get(scheme, {})}


def is_inside(path: str, folder: str) -> bool:
    """True where a normal path or URL is a folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def host_of(path: str, options: Options) -> str | None:
    """The host that a URL itself names, and whose choice decides who is given the user's credentials.

    None for a local path, and where `options` or the scheme decide instead. Raises NotALocation.
    """
    if not is_url(path):
        return None
    place = parse_location(path)
    if place.scheme == "hdfs":
        return f"hdfs://{place.authority}"
    if place.scheme == "abfs" and place.account is not None and "account_name" not in options:
        return f"abfs://{place.authority.partition('@')[2]}"
    return None


def _as_option(name: str, text: str) -> Option:
    kind = next((known[name] for known in OPTIONS.values() if name in known), str)
    try:
        return text.lower() in ("true", "1") if kind is bool else kind(text)
    except ValueError:
        raise NotALocation(f"must hold a number for {name}, not {text!r}") from None
