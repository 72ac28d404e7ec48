"""Words of a vocabulary -> their codes: 1 and the place in the vocabulary, 0 for a word that is not in it.

Decides what the word of a value is: text and bytes as they are, compared byte by byte, so that what is no UTF-8 is a
word that no vocabulary has; a UUID in its usual spelling; numbers, dates and all else as Arrow writes them as text.
"""

from __future__ import annotations

from typing import cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowDictionary, ArrowValues
from cluster.core.times import as_plain
from cluster.core.value_texts import texts_of


def codes_of(values: ArrowValues, words: pa.StringArray) -> ArrowColumn:
    """The codes (row,) of values (row,); null where a value is."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    texts = _as_bytes(column)
    found = pc.index_in(texts, value_set=words.cast(pa.large_binary()))
    codes = cast(ArrowColumn, pc.add(found.fill_null(-1), 1))
    return codes if not texts.null_count else pc.if_else(texts.is_valid(), codes, pa.scalar(None, codes.type))


def _as_bytes(values: ArrowColumn) -> ArrowColumn:
    if isinstance(values.type, pa.UuidType):
        chunks = cast("list[ArrowDictionary]", as_plain(values).dictionary_encode().chunks)
        return pa.chunked_array(map(_spelt, chunks), pa.large_binary())
    plain, kind = as_plain(values), pa.types
    if kind.is_large_string(plain.type) or kind.is_large_binary(plain.type) or kind.is_fixed_size_binary(plain.type):
        return plain.cast(pa.large_binary())
    return _as_text(plain).cast(pa.large_binary())


def _as_text(plain: ArrowColumn) -> ArrowColumn:
    if pa.types.is_decimal32(plain.type) or pa.types.is_decimal64(plain.type):
        plain = plain.cast(pa.decimal128(38, plain.type.scale))  # Arrow has no texts of the small ones
    return texts_of(plain)


def _spelt(chunk: ArrowDictionary) -> ArrowArray:
    """UUIDs, each different one spelt once."""
    raw = cast("list[bytes]", chunk.dictionary.to_pylist())
    return pa.array([str(UUID(bytes=value)).encode() for value in raw], pa.large_binary()).take(chunk.indices)
