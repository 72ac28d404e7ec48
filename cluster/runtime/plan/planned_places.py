"""Whether the files that a kept plan names are those of the input that this run was asked for.

A plan lies in the output, where others may write: a file elsewhere in it would be read with the rights of whoever
resumes the run, and its rows would be scored into the output. Files of Iceberg tables may lie anywhere but on a host of
the plan's own choice.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence

from cluster.core.locations import NotALocation, host_of, is_inside, normalized
from cluster.core.plan.shard_plan import PlanHead
from cluster.core.settings import InputSettings
from cluster.run_errors import RunFailed
from cluster.runtime.listing.input_names import before_magic


def check_places(head: PlanHead, settings: InputSettings) -> None:
    """Raises RunFailed where a planned file is none of the input."""
    folders = [_folder(path) for path in settings.path]
    tables = bool(head.partitions and head.partitions.tables)
    for file in head.input_files:
        if not _is_known(file.path, folders) and not (tables and _is_on_known_host(file.path, folders, settings)):
            raise RunFailed(
                f"The plan of this output names {file.path}, which is no part of input.path "
                f"({', '.join(settings.path)}): see who else may write to the output; score into another one, or again "
                "with output.overwrite = true."
            )


def _folder(path: str) -> str:
    return before_magic(path)[0] if glob.has_magic(path) else path


def _is_known(path: str, folders: Sequence[str]) -> bool:
    try:
        return normalized(path, "/") == path and any(is_inside(path, folder) for folder in folders)
    except NotALocation:
        return False


def _is_on_known_host(path: str, folders: Sequence[str], settings: InputSettings) -> bool:
    try:
        hosts = {host_of(folder, settings.storage) for folder in folders}
        return host_of(path, settings.storage) in {None, *hosts}
    except NotALocation:
        return False
