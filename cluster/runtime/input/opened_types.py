"""Columns in types that Arrow can pick rows of and join across files, at any depth.

Decides what a column of the input is handed on as: a dictionary as its values, views as the text, bytes and lists that
they show, also those within lists, structs, maps and extensions. Of all else Arrow can pick rows, so it stays as it is.
"""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from cluster.core.arrow_types import ArrowArray, ArrowColumn, ArrowField


def opened_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the opened columns."""
    return pa.schema([field.with_type(_opened_whole(field.type)) for field in schema])


def opened_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table's columns in the types of an opened schema. Raises ArrowException where a value does not fit."""
    table = table if table.schema.equals(schema) else opened(table)
    return table if table.schema.equals(schema) else table.cast(schema)


def opened(table: pa.Table) -> pa.Table:
    """A table's columns, opened."""
    own = opened_schema(table.schema)
    if table.schema.equals(own):
        return table
    columns = [_column(column, field.type) for column, field in zip(table.columns, own, strict=True)]
    return pa.table(columns, schema=own)


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table without rows, also of types of which Arrow makes none."""
    return pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)


def _opened_whole(kind: pa.DataType) -> pa.DataType:
    return _opened_whole(kind.value_type) if pa.types.is_dictionary(kind) else _opened(kind)


def _opened(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):  # within another type; one whose values are no views stays
        values = _opened(kind.value_type)
        return kind if values == kind.value_type else values
    if isinstance(kind, pa.BaseExtensionType):
        return _opened_extension(kind)
    of_views: dict[pa.DataType, pa.DataType] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    if kind in of_views:
        return of_views[kind]
    if not kind.num_fields:
        return kind
    inside = [kind.field(place) for place in range(kind.num_fields)]
    opened = [field.with_type(_opened(field.type)) for field in inside]
    return kind if opened == inside else _with_fields(kind, opened)


def _opened_extension(kind: pa.BaseExtensionType) -> pa.DataType:
    storage = _opened(kind.storage_type)
    if storage == kind.storage_type:
        return kind
    return pa.json_(storage) if isinstance(kind, pa.JsonType) else storage


def _with_fields(kind: Any, fields: list[ArrowField]) -> pa.DataType:
    """A nested type with other fields; a view of lists becomes lists, since Arrow does not cast what lies in views."""
    if pa.types.is_struct(kind):
        return pa.struct(fields)
    if pa.types.is_map(kind):
        key, item = fields[0].type.field(0), fields[0].type.field(1)
        return cast(pa.DataType, pa.map_(key, item, kind.keys_sorted))
    if pa.types.is_fixed_size_list(kind):
        return cast(pa.DataType, pa.list_(fields[0], kind.list_size))
    large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    return pa.large_list(fields[0]) if large else pa.list_(fields[0])


def _column(column: ArrowColumn, kind: Any) -> ArrowColumn:
    if column.type == kind:
        return column
    if not column.type.num_fields and not isinstance(column.type, pa.BaseExtensionType):
        return column.cast(kind)
    return pa.chunked_array([_array(chunk, kind) for chunk in column.chunks], kind)


def _array(array: Any, kind: Any) -> ArrowArray:
    """An array in its opened type, level by level: Arrow's own cast of nested columns loses its way in views."""
    if array.type == kind:
        return cast(ArrowArray, array)
    if isinstance(array, pa.ExtensionArray):
        of_json = isinstance(kind, pa.BaseExtensionType)
        storage = _array(array.storage, kind.storage_type if of_json else kind)
        return pa.ExtensionArray.from_storage(kind, storage) if of_json else storage
    if pa.types.is_struct(array.type):
        children = [_array(array.field(place), kind.field(place).type) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if pa.types.is_fixed_size_list(array.type):
        begin = array.offset * kind.list_size
        values = _array(array.values[begin : begin + len(array) * kind.list_size], kind.value_type)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=array.is_null())
    if array.type.num_fields:
        return _map(array, kind) if pa.types.is_map(kind) else _lists(array, kind)
    return cast(ArrowArray, array.cast(kind))


def _lists(array: Any, kind: Any) -> ArrowArray:
    """Lists of any kind that have no fixed size."""
    ends = pc.cumulative_sum(pc.list_value_length(array).fill_null(0))
    offsets, values = pa.concat_arrays([pa.array([0], ends.type), ends]), pc.list_flatten(array)
    made = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return made.from_arrays(offsets, _array(values, kind.value_type), type=kind, mask=array.is_null())


def _map(array: Any, kind: Any) -> ArrowArray:
    offsets: Any = pa.array(array.offsets.to_numpy(), pa.int32())  # a copy: those of a slice take no mask beside them
    keys, items = _array(array.keys, kind.key_type), _array(array.items, kind.item_type)
    return cast(ArrowArray, pa.MapArray.from_arrays(offsets, keys, items, type=kind, mask=array.is_null()))
