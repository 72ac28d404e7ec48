"""An Iceberg table's metadata, opened as data: what a table says of itself never decides what runs or who is asked.

Whoever writes a table writes its properties too, and its library obeys them: they may name a class to import, a server,
a signer, a proxy or a token. So the metadata file is read here first, and of its properties only those go on that say
how rows are named. Whatever reaches a server comes from the caller's `properties`. Of the files that it names, none may
lie on a host of its own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.core.locations import NotALocation, Options, host_of, normalized
from cluster.run_errors import InputRefused

if TYPE_CHECKING:
    from pyiceberg.table import StaticTable

HARMLESS = frozenset({"schema.name-mapping.default", "write.format.default"})


def open_table(metadata_path: str, properties: Mapping[str, str], storage: Options) -> StaticTable:
    """The table of a metadata file, reached by `properties` alone."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.io import FileIO, InputFile, OutputFile, load_file_io
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import StaticTable

    class OwnPlaces(FileIO):
        """Opens the files of one table, on this machine and on the table's own host."""

        def new_input(self, location: str) -> InputFile:
            check_host(location, metadata_path, storage)
            return reached.new_input(location)

        def new_output(self, location: str) -> OutputFile:
            raise AssertionError(f"{location} would be written, and tables are read only")

        def delete(self, location: str | InputFile | OutputFile) -> None:
            raise AssertionError(f"{location} would be removed, and tables are read only")

    reached = load_file_io(dict(properties), metadata_path)
    metadata = FromInputFile.table_metadata(reached.new_input(metadata_path))
    kept = {name: value for name, value in metadata.properties.items() if name in HARMLESS}
    return StaticTable(
        identifier=("static-table", metadata_path),
        metadata=metadata.model_copy(update={"properties": kept}),
        metadata_location=metadata_path,
        io=OwnPlaces(dict(properties)),
        catalog=NoopCatalog("static-table"),
    )


def check_host(location: str, table: str, storage: Options) -> None:
    """Raises InputRefused where a file that a table names would be asked of a host that the table has chosen."""
    try:
        host = host_of(normalized(location, "/"), storage)
    except NotALocation as refusal:
        raise InputRefused(f"input.path: the table {table} names a file whose place {refusal}.") from None
    if host is not None and host != host_of(normalized(table, "/"), storage):
        raise InputRefused(
            f"input.path: the table {table} names a file on another host, {host}, which a table may not choose: name "
            f"a table that lies there in input.path, or rewrite this one's paths."
        )
