"""Delta Lake and Iceberg tables as input: a version of the table -> the Parquet files that it consists of.

What it decides: which version is meant; what the table says of each file's partition columns, in the types of its own
schema, whatever the folders of the file are called; and what cannot be read as plain files and is refused: rows that
are deleted by a list beside their file, columns that are called otherwise in a file than in the table, and files of a
Delta table that lie elsewhere. From here on the rest of a run sees files. The tables' own libraries are extras,
imported only where there is such a table. Which folder is a table is the business of `table_roots`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.core.arrow_types import ArrowArray
from cluster.core.locations import NotALocation, Options, is_inside, is_url, normalized, parse_location
from cluster.core.plan.file_list import TableValues
from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused, first_line
from cluster.runtime.listing.iceberg_metadata import check_host, open_table
from cluster.runtime.listing.table_roots import DELTA, ICEBERG, VERSION
from cluster.runtime.storage.filesystems import filesystem_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, StaticTable

AS_PLAIN = "write its rows as they are now to plain Parquet, or to a Delta Lake or Iceberg table, and name that"
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:/")


@dataclass(frozen=True)
class TableFiles:
    """A version of a table."""

    files: list[str]  # paths or URLs
    values: TableValues


def is_metadata(path: str) -> bool:
    """Whether a path names a file of an Iceberg table's metadata, and so the table."""
    return path.removesuffix(".gz").endswith(".metadata.json")


def table_files(path: str, kind: str, settings: InputSettings) -> TableFiles:
    """The data files of the table at a path. Raises InputRefused."""
    if kind in (DELTA, ICEBERG):
        found = _delta_files(path, settings) if kind == DELTA else _iceberg_files(path, settings)
        _check_there(path, kind, found.files)
        return found
    raise InputRefused(f"input.path: {path} is a {kind} table, which Slotcar does not read: {AS_PLAIN}.")


def _check_there(path: str, kind: str, files: list[str]) -> None:
    """Of files on this machine, which are quickly looked at; a remote one is missed by who opens it."""
    gone = next((file for file in files if not is_url(file) and not os.path.lexists(file)), None)
    if gone is not None:
        raise InputRefused(
            f"input.path: the {kind} table {path} names {gone}, which is not there: VACUUM or another clean-up has "
            "removed it; read a newer input.version, or put the file back."
        )


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


def _delta_files(path: str, settings: InputSettings) -> TableFiles:
    with _refusals(path, "delta", settings.version):
        from deltalake import DeltaTable

        table = DeltaTable(path, version=settings.version, storage_options=delta_options(path, settings.storage))
        _check_delta(path, table)
        actions = pa.table(table.get_add_actions())
        files = [_delta_file(path, name) for name in cast(list[str], actions.column("path").to_pylist())]
        return TableFiles(files, _needed_values(files, _delta_values(actions), settings))


def _delta_values(actions: pa.Table) -> dict[str, ArrowArray]:
    """The values of each partition column, which the library gives in the types of the table's schema."""
    if "partition" not in actions.column_names:
        return {}
    values = cast("pa.StructArray", actions.column("partition").combine_chunks())
    return {field.name: column for field, column in zip(values.type, values.flatten(), strict=True)}


def _needed_values(files: list[str], columns: dict[str, ArrowArray], settings: InputSettings) -> TableValues:
    needed = settings.needed_columns
    return TableValues.of(files, {name: values for name, values in columns.items() if name in needed})


def _delta_file(table: str, name: str) -> str:
    """A file of a table by its name in the log, which is a URI: encoded once more than the file's own name."""
    root, plain = table.rstrip("/"), unquote(name)
    try:
        file = normalized(plain if _ABSOLUTE.match(name) else f"{root}/{plain}", "/")
    except NotALocation:
        file = plain
    if not _is_inside(file, root):
        raise InputRefused(
            f"input.path: the Delta table {table} names {plain}, a file outside of its own folder, as a shallow clone "
            "does: name the table that it was cloned from, or make it a deep clone."
        )
    return file


def _is_inside(file: str, root: str) -> bool:
    """Also where the table is reached by a link, or a container is named with its account or without."""
    if is_url(file) and is_url(root):
        one, other = parse_location(file), parse_location(root)
        same = (one.scheme, one.bucket) == (other.scheme, other.bucket)
        return same and len({one.account, other.account} - {None}) <= 1 and is_inside(one.key, other.key)
    local = not is_url(file) and not is_url(root)
    return is_inside(file, root) or (local and is_inside(os.path.realpath(file), os.path.realpath(root)))


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


# ---- Iceberg


def _iceberg_files(path: str, settings: InputSettings) -> TableFiles:
    with _refusals(path, "iceberg", settings.version):
        metadata = path if is_metadata(path) else _newest_metadata(path, settings.storage)
        table = open_table(metadata, _iceberg_properties(path, settings.storage), settings.storage)
        if settings.version is not None and table.metadata.snapshot_by_id(settings.version) is None:
            known = ", ".join(str(snapshot.snapshot_id) for snapshot in table.metadata.snapshots[-5:])
            raise InputRefused(
                f"input.version: the Iceberg table {path} has no snapshot {settings.version}; its newest are {known}."
            )
        _check_names(path, table)
        found = list(plain_files(path, _planned(path, table, settings.version)))
        for file in found:
            check_host(file.file_path, path, settings.storage)
        files = [normalized(file.file_path, "/") for file in found]
        return TableFiles(files, _needed_values(files, _iceberg_values(table, found), settings))


def _planned(path: str, table: StaticTable, version: int | None) -> list[FileScanTask]:
    try:
        return list(table.scan(snapshot_id=version).plan_files())
    except FileNotFoundError as error:
        raise InputRefused(
            f"input.path: the Iceberg table {path} names a file that is not there ({first_line(error)}): it says that "
            f"it lies in {table.location()}; if it was moved, read it there, or have its paths rewritten."
        ) from None


def _iceberg_values(table: StaticTable, files: list[DataFile]) -> dict[str, ArrowArray]:
    """The values of columns by which files are partitioned as they stand; others are in the files alone.

    A file that an earlier partitioning has written may have no value of such a column, and has the column itself.
    """
    types = table.schema().as_arrow()
    names = {field.field_id: field.name for field in table.schema().fields}
    columns: dict[str, list[object]] = {}
    for place, file in enumerate(files):
        for position, field in enumerate(table.specs()[file.spec_id].fields):
            name = names.get(field.source_id)
            if name is not None and str(field.transform) == "identity":
                columns.setdefault(name, [None] * len(files))[place] = file.partition[position]
    return {name: _iceberg_array(values, types.field(name).type) for name, values in columns.items()}


def _iceberg_array(values: list[object], kind: pa.DataType) -> ArrowArray:
    """Values as manifests hold them: moments and dates are whole numbers, a UUID is one or its bytes."""
    if not isinstance(kind, pa.BaseExtensionType):
        return pa.array(values, kind)
    raw = [getattr(value, "bytes", value) for value in values]
    return pa.ExtensionArray.from_storage(kind, pa.array(raw, kind.storage_type))


def plain_files(path: str, tasks: Iterable[FileScanTask]) -> Iterator[DataFile]:
    """The data files of an Iceberg scan. Raises InputRefused where a file alone does not tell its rows."""
    for task in tasks:
        if task.delete_files:
            raise InputRefused(
                f"input.path: the Iceberg table {path} has rows that are deleted by a file beside "
                f"{task.file.file_path}: rewrite its data files (rewrite_data_files), or read another input.version."
            )
        if task.file.file_format.value.upper() != "PARQUET":
            raise InputRefused(f"input.path: {task.file.file_path} of the Iceberg table {path} is no Parquet file.")
        yield task.file


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


def _newest_metadata(path: str, storage: Options) -> str:
    """The metadata file with the highest number in a table's folder."""
    filesystem, name = filesystem_of(path, storage)
    found = filesystem.get_file_info(pafs.FileSelector(f"{name}/metadata"))
    numbered = [(int(match[1]), match[0]) for file in found if (match := VERSION.fullmatch(file.base_name))]
    return f"{path.rstrip('/')}/metadata/{max(numbered)[1]}"


# ---- both


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
