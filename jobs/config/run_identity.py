"""The name of a run, where the user gave none.

The name is a digest of all that decides the bytes of the output, and of where they go: the model's fingerprint, the
input's files as listed, and the settings. Settings that only say where and how fast it runs, or how much may go wrong,
are left out, so that the same command with more replicas or a higher limit resumes the same run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jobs.config.configuration import Config


class ListedFile(Protocol):
    """One file of the input; a file that was written again is another one."""

    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def modified_ns(self) -> int: ...


def derive_run_id(
    config: Config, fingerprint: str, input_listing: Iterable[ListedFile], carried: str | None = None
) -> str:
    """ "run-" and 16 hex digits; the order of `input_listing` does not matter. `carried`: the digest of state.read."""
    files = sorted((file.path, file.size_bytes, file.modified_ns) for file in input_listing)
    parts: dict[str, object] = {"model": fingerprint, "files": files, "settings": config.identity()}
    if carried is not None:
        parts["carried"] = carried
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"run-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
