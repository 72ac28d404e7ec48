"""Which store a place is in: the one place that decides it.

A `StoreSpec` is what a driver hands to its replicas: a place and options, never a secret. Every process opens its own
store from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.core.settings import OutputSettings
from cluster.runtime.local_store import LocalStore
from cluster.runtime.store import Store


@dataclass(frozen=True)
class StoreSpec:
    """A folder in some storage."""

    url: str  # an absolute path, or scheme://...
    options: Mapping[str, Any] = field(default_factory=dict)  # of [storage]

    @staticmethod
    def of(output: OutputSettings) -> StoreSpec:
        """Where a run writes."""
        return StoreSpec(output.path)


def open_store(spec: StoreSpec) -> Store:
    """The store that a description means."""
    return LocalStore(spec.url)
