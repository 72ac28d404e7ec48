"""Input files by their names: the one place that opens them, on this machine or in a remote store.

A file is named by its absolute path or its URL, everywhere. Reading goes through pyarrow.fs, which has its own bounded
retries; a filesystem is made once per process for a scheme, an account and options, and shared. Credentials are found
in the environment by the libraries themselves.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import cast

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.core.locations import Location, Option, Options, is_url, options_for, parse_location
from cluster.runtime.storage.endpoint_check import check_endpoint
from lstm_core.json_types import JsonObject


@dataclass(frozen=True)
class FileStat:
    """What a store tells of a file without opening it."""

    path: str
    size_bytes: int
    modified_ns: int


def open_file(path: str, options: Options) -> pa.NativeFile:
    """A file that seeks. Raises OSError."""
    filesystem, name = filesystem_of(path, options)
    return filesystem.open_input_file(as_bytes(name))


def stat_file(path: str, options: Options) -> FileStat:
    """Size and age of a file. Raises OSError."""
    if not is_url(path):
        try:
            local = os.stat(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no file {path}") from None
        return FileStat(path, local.st_size, local.st_mtime_ns)
    filesystem, name = filesystem_of(path, options)
    found = filesystem.get_file_info(name)
    if found.type == pafs.FileType.NotFound:
        raise FileNotFoundError(f"there is no file {path}")
    return FileStat(path, found.size or 0, found.mtime_ns or 0)


def filesystem_of(path: str, options: Options) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem that has a path, and how it names it. Raises OSError."""
    if not is_url(path):
        return _local(), path
    place = parse_location(path)
    return remote(place, options), place.fs_path


def as_bytes(path: str) -> str:
    """A path as pyarrow takes it, also one whose name is not UTF-8: in Python such a byte is half a character."""
    return path if path.isascii() else cast(str, os.fsencode(path))  # bytes are taken as they are


def remote(place: Location, options: Options) -> pafs.FileSystem:
    """The pyarrow filesystem of a place. Raises OSError."""
    check_endpoint(place, options)
    of = place.authority if place.scheme in ("hdfs", "abfs") else ""
    return _remote(place.scheme, of, tuple(sorted(options_for(place.scheme, options).items())))


@cache
def _local() -> pafs.LocalFileSystem:
    return pafs.LocalFileSystem()


@cache
def _remote(scheme: str, authority: str, options: tuple[tuple[str, Option], ...]) -> pafs.FileSystem:
    given: JsonObject = dict(options)
    if scheme == "s3":
        return pafs.S3FileSystem(**given)
    if scheme == "gs":
        return pafs.GcsFileSystem(**given)
    if scheme == "abfs":
        account = given.pop("account_name", None) or Location(scheme, authority, "").account
        if "blob_storage_authority" in given:  # pyarrow asks there whether folders are real, before it lists them
            given["dfs_storage_authority"] = str(given["blob_storage_authority"]).replace(".blob.", ".dfs.", 1)
        if "blob_storage_scheme" in given:
            given["dfs_storage_scheme"] = given["blob_storage_scheme"]
        return pafs.AzureFileSystem(
            account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""),
            account_key=os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
            sas_token=os.environ.get("AZURE_STORAGE_SAS_KEY"),
            **given,
        )
    host, _, port = authority.partition(":")
    return pafs.HadoopFileSystem(host or "default", int(port or 0), **given)
