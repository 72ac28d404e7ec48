"""Delta Lake and Iceberg tables as input: a version of the table -> the Parquet files that it consists of.

What it decides: that a folder with a `_delta_log` is a Delta table, and one with `metadata/*.metadata.json`, or such a
file itself, an Iceberg table; which version is meant; and what cannot be read as plain files and is refused: rows that
are deleted by a list beside their file, and columns that are called otherwise in a file than in the table. From here on
the rest of a run sees files. The tables' own libraries are extras, imported only where there is such a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.core.locations import Options, is_url, normalized, parse_location
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused, first_line
from cluster.runtime.input.hive_partitions import HivePartitions
from cluster.runtime.storage.filesystems import filesystem_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyiceberg.table import FileScanTask, StaticTable

DELTA_LOG, METADATA = "_delta_log", ".metadata.json"


def table_files(path: str, settings: InputSettings) -> list[str] | None:
    """The data files of the table at a path, as paths or URLs; None where it is no table. Raises InputRefused."""
    filesystem, name = filesystem_of(path, settings.storage)
    if _is_folder(filesystem, f"{name}/{DELTA_LOG}"):
        return _delta_files(path, settings)
    metadata = path if path.endswith(METADATA) else _newest_metadata(filesystem, name, path)
    if metadata is not None:
        return _iceberg_files(path, metadata, settings)
    if settings.version is not None:
        raise InputRefused(
            f"input.version is {settings.version}, but {path} is neither a Delta nor an Iceberg table: leave it out."
        )
    return None


# ---- Delta Lake


def delta_options(path: str, storage: Options) -> dict[str, str]:
    """[storage] under the names of Delta Lake's library."""
    if not is_url(path):
        return {}
    names = {"region": "region", "anonymous": "skip_signature", "account_name": "account_name"}
    found = {names[name]: str(value) for name, value in storage.items() if name in names}
    endpoint, scheme = storage.get("endpoint_override"), storage.get("scheme", "https")
    if endpoint is not None:
        key = "base_url" if parse_location(path).scheme == "gs" else "endpoint"
        found[key] = str(endpoint) if "://" in str(endpoint) else f"{scheme}://{endpoint}"
    return {**found, "allow_http": str(scheme == "http").lower()}


def _delta_files(path: str, settings: InputSettings) -> list[str]:
    with _refusals(path, "delta", settings.version):
        from deltalake import DeltaTable

        table = DeltaTable(path, version=settings.version, storage_options=delta_options(path, settings.storage))
        _check_delta(path, table)
        actions = pa.table(table.get_add_actions())
        partitions = actions.column("partition").to_pylist() if "partition" in actions.column_names else []
        names = cast(list[str], actions.column("path").to_pylist())
        # A name in the log is a URI, encoded once more than the file's own name.
        files = [f"{path.rstrip('/')}/{unquote(name)}" for name in names]
    for file, values in zip(files, partitions, strict=False):
        _check_partition(path, file, values)
    return files


def _check_delta(path: str, table: DeltaTable) -> None:
    features = table.protocol().reader_features or []
    if "deletionVectors" in features and pa.table(table.deletion_vectors()).num_rows:
        raise InputRefused(
            f"input.path: the Delta table {path} has deletion vectors, rows that are deleted but still in their files: "
            "run OPTIMIZE or REORG ... APPLY (PURGE) on it, or read another input.version."
        )
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        raise InputRefused(
            f"input.path: the Delta table {path} has column mapping {mapping!r}, so that its files name their columns "
            "otherwise: write it to a table without, and read that."
        )


def _check_partition(path: str, file: str, values: dict[str, str | None] | None) -> None:
    """The table's partition values must be those of the folders' names, from which they are read."""
    named = {name: value.as_py() for name, value in HivePartitions.of([file]).values(file).items()}
    for column, value in (values or {}).items():
        if column not in named or str(named[column]) != str(value):
            raise InputRefused(
                f"input.path: the Delta table {path} says {column} = {value} of {file}, but its folders' names do not: "
                "write the table anew with one folder for each partition."
            )


# ---- Iceberg


def _iceberg_files(path: str, metadata: str, settings: InputSettings) -> list[str]:
    with _refusals(path, "iceberg", settings.version):
        from pyiceberg.table import StaticTable

        table = StaticTable.from_metadata(metadata, _iceberg_properties(path, settings.storage))
        if settings.version is not None and table.metadata.snapshot_by_id(settings.version) is None:
            known = ", ".join(str(snapshot.snapshot_id) for snapshot in table.metadata.snapshots[-5:])
            raise InputRefused(
                f"input.version: the Iceberg table {path} has no snapshot {settings.version}; its newest are {known}."
            )
        _check_names(path, table)
        return list(plain_files(path, table.scan(snapshot_id=settings.version).plan_files()))


def plain_files(path: str, tasks: Iterable[FileScanTask]) -> Iterator[str]:
    """The data files of an Iceberg scan. Raises InputRefused where a file alone does not tell its rows."""
    for task in tasks:
        if task.delete_files:
            raise InputRefused(
                f"input.path: the Iceberg table {path} has rows that are deleted by a file beside "
                f"{task.file.file_path}: rewrite its data files (rewrite_data_files), or read another input.version."
            )
        if task.file.file_format.value.upper() != "PARQUET":
            raise InputRefused(f"input.path: {task.file.file_path} of the Iceberg table {path} is no Parquet file.")
        yield normalized(task.file.file_path, "/")


def _check_names(path: str, table: StaticTable) -> None:
    """A column that was renamed has its old name in old files."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for schema in table.metadata.schemas:
        for field in schema.fields:
            known = names.setdefault(field.field_id, field.name), numbers.setdefault(field.name, field.field_id)
            if known != (field.name, field.field_id):
                raise InputRefused(
                    f"input.path: a column of the Iceberg table {path} was renamed ({known[0]} and {field.name}), and "
                    "its files do not all say so: rewrite it to a new table."
                )


def _iceberg_properties(path: str, storage: Options) -> dict[str, str]:
    found = {"s3.region": str(storage["region"])} if "region" in storage else {}
    endpoint = storage.get("endpoint_override")
    if endpoint is not None:
        scheme = storage.get("scheme", "https")
        found["s3.endpoint"] = str(endpoint) if "://" in str(endpoint) else f"{scheme}://{endpoint}"
    return found


def _newest_metadata(filesystem: pafs.FileSystem, name: str, path: str) -> str | None:
    """The metadata file with the highest number in a table's folder."""
    selector = pafs.FileSelector(f"{name}/metadata", allow_not_found=True)
    names = [found.base_name for found in filesystem.get_file_info(selector) if found.base_name.endswith(METADATA)]
    numbered = [(int(match[1]), found) for found in names if (match := re.match(r"v?(\d+)", found))]
    return f"{path.rstrip('/')}/metadata/{max(numbered)[1]}" if numbered else None


# ---- both


def _is_folder(filesystem: pafs.FileSystem, name: str) -> bool:
    return bool(filesystem.get_file_info(name).type == pafs.FileType.Directory)


@contextmanager
def _refusals(path: str, extra: str, version: int | None) -> Iterator[None]:
    """Turns what a table's library says into a sentence."""
    kind = {"delta": "Delta Lake", "iceberg": "Iceberg"}[extra]
    try:
        yield
    except InputRefused:
        raise
    except ImportError:
        raise InputRefused(f"input.path: {path} is a {kind} table: install slotcar[{extra}] to read it.") from None
    except Exception as error:  # these libraries have no common class of their own
        at = "" if version is None else f" at version {version}"
        raise InputRefused(f"input.path: the {kind} table {path} cannot be read{at}: {first_line(error)}.") from None
