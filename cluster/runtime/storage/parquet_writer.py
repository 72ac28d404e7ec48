"""pyarrow's writer of a Parquet file that is written part by part into a store, with the types that it really takes.

It decides nothing. The stubs of pyarrow do not know of options for some columns only: what they lack is put right here,
in one place.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.settings import Compression
from cluster.runtime.storage.store import Output, as_file


class ParquetOptions(TypedDict, total=False):
    """Arguments of pq.ParquetWriter."""

    compression: Compression | dict[str, Compression]  # of all columns, or by column
    use_dictionary: bool | list[str]  # for all columns or none, or for some
    write_statistics: bool | list[str]  # likewise
    store_schema: bool
    version: Literal["2.6"]


def parquet_writer(file: Output, schema: pa.Schema, **options: Unpack[ParquetOptions]) -> pq.ParquetWriter:
    """A writer of tables, which is a context; it leaves `file` open when it is closed."""
    return pq.ParquetWriter(as_file(file), schema, **options)  # type: ignore[arg-type]  # as said above
