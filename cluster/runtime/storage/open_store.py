"""Which store a place is in: the one place that decides it.

A path is a `LocalStore` and hdfs:// an `HdfsStore`, which finish a file by a rename; s3://, gs:// and abfs:// are an
`ObjectStore`, which finishes it by a copy on the server's side and a delete. A `StoreSpec` is what a driver hands to
its replicas: a place and options, never a secret. Every process opens its own store from it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cluster.core.locations import NotALocation, Options, is_url, normalized, parse_location, split_options
from cluster.core.settings import OutputSettings
from cluster.runtime.storage.hdfs_store import HdfsStore
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.object_store import ObjectStore
from cluster.runtime.storage.store import Store
from lstm_core.errors import UsageError


@dataclass(frozen=True)
class StoreSpec:
    """A folder in some storage."""

    url: str  # an absolute path, or scheme://...
    options: Options = field(default_factory=dict)  # of [storage]

    @staticmethod
    def of(output: OutputSettings) -> StoreSpec:
        """Where a run writes."""
        return StoreSpec(output.path, output.storage)

    @staticmethod
    def named(text: str | StoreSpec) -> StoreSpec:
        """What a user calls an output: a path, or a URL that may carry options. Raises `UsageError`."""
        if isinstance(text, StoreSpec):
            return text
        try:
            url, options = split_options(text)
            return StoreSpec(normalized(url, os.getcwd()) if is_url(url) else url, options)
        except NotALocation as refusal:
            raise UsageError(f"OUTPUT {refusal}.") from None


def open_store(spec: StoreSpec) -> Store:
    """The store that a description means. Raises `StoreFault` where no client can be made for it."""
    if not is_url(spec.url):
        return LocalStore(spec.url)
    place = parse_location(spec.url)
    return (HdfsStore if place.scheme == "hdfs" else ObjectStore)(place, spec.options)
