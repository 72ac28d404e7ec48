"""run.json and what stands beside it, as files that anybody may have written: objects with the types that runs give.

Decides what is a record of a run, and what is said of one that is none. Whatever a foreign file sets off in a command
that only looks becomes one sentence here. Damage, another version and malice look alike here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.run_errors import OVER_VALUES, RunFailed, first_line, told
from cluster.runtime.storage.store import Store
from lstm_core.json_types import JsonObject

_TEXTS = ("run_id", "identity", "status", "kernel", "model_fingerprint")
_TEXTS_OR_NONE = ("started_at", "finished_at", "error")
_TABLES = ("stage_s", "versions")


def read_object(store: Store, name: str) -> JsonObject | None:
    """A JSON object, None where there is no file. Raises `RunFailed` where it is something else."""
    content = store.find(name)
    if content is None:
        return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunFailed(f"{store.path(name)} cannot be read as JSON: {first_line(error)}; put the file back.") from None
    if not isinstance(found, dict):
        raise RunFailed(f"{store.path(name)} is no record of a run: expected a JSON object; put the file back.")
    return found


def read_run_json(store: Store, name: str) -> JsonObject | None:
    """The same, with the types that a run gives its figures; what an earlier version lacks is no fault."""
    record = read_object(store, name)
    for key, value in (record or {}).items():
        fits = (
            (isinstance(value, str) or key not in _TEXTS)
            and (isinstance(value, str | None) or key not in _TEXTS_OR_NONE)
            and (isinstance(value, dict) or key not in _TABLES)
        )
        if not fits:
            raise RunFailed(
                f"{store.path(name)} is no record of a run: {key} is {json.dumps(value)[:40]}; put the file back."
            )
    return record


@contextmanager
def only_looking(place: str) -> Iterator[None]:
    """Whatever a foreign file sets off in a command that only looks is raised as `RunFailed`, in one sentence."""
    try:
        yield
    except (*OVER_VALUES, AttributeError, OSError, MemoryError, RecursionError) as error:
        raise RunFailed(
            f"{place} holds what no run of this version has written ({told(error)}): it is damaged, of another version "
            "or somebody else's; put its files back as they were, or ask the version that has written it."
        ) from error
