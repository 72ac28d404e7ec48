"""Which Arrow types hold the same kind of values, and which type holds those of several.

What it decides: whole numbers of any width and sign are one kind, and so are floats, decimals, moments (dates and
timestamps; with a zone they are another kind than without one), times of day, durations, bytes, and lists, structs and
maps of such. Whole numbers go with floats and with decimals. All else goes with nothing but itself: text is no number,
and a boolean is none either. All types are plain ones, see `core.times.plain_type`. Leaves values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from cluster.core.times import plain_type

Kinds: TypeAlias = Sequence[Any]  # Arrow's types: what attributes they have is known from what they are, at run time

_UNITS = ("ns", "us", "ms", "s")  # the finest first
_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}
_EXACT_BITS = {16: 11, 32: 24, 64: 53}  # of a float, by its width: so wide whole numbers are all among its values
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
_ANY_WHOLE = pa.decimal128(20, 0)  # holds whole numbers of 64 bits, signed or not
_types = pa.types


def common_types(kinds: Kinds) -> list[pa.DataType]:
    """The types that may hold the values of all kinds, the best one first; none where the kinds do not go together."""
    distinct = list(dict.fromkeys(kind for kind in kinds if not _types.is_null(kind)))
    if len(distinct) == 1:
        return distinct
    for family, common in _FAMILIES:
        if all(any(belongs(kind) for belongs in family) for kind in distinct):
            return common(distinct)
    return []


def holds(wanted: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a type holds every value of another one that goes with it, whatever it is."""
    if wanted == kind or _types.is_null(kind):
        return True
    if _types.is_decimal(wanted):
        whole, scale = _digits(kind)
        return bool(wanted.scale >= scale and wanted.precision - wanted.scale >= whole)
    if _types.is_integer(kind):
        return _holds_whole(wanted, kind)
    if _types.is_nested(wanted):
        pairs = zip(_inner_types(wanted), _inner_types(kind), strict=True)
        return all(holds(plain_type(outer), plain_type(inner)) for outer, inner in pairs)
    if _types.is_timestamp(wanted):
        return bool(_types.is_timestamp(kind) and kind.unit == wanted.unit)
    exact = (_types.is_floating, _types.is_large_binary, _types.is_date32, _types.is_time)
    return any(is_exact(wanted) for is_exact in exact)


def same_text(kinds: Kinds) -> bool:
    """Whether values of these types that are the same are spelt the same, so that one vocabulary knows them all."""
    spelt = (_types.is_integer, _types.is_large_string, _types.is_date)
    return len(set(kinds)) == 1 or any(all(belongs(kind) for kind in kinds) for belongs in spelt)


def _inner_types(kind: Any) -> list[pa.DataType]:
    """The types of the values within a list, a struct or a map."""
    if _types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [field.type for field in kind] if _types.is_struct(kind) else [kind.value_type]


def _holds_whole(wanted: pa.DataType, kind: pa.DataType) -> bool:
    signed = _types.is_signed_integer(kind)
    if _types.is_floating(wanted):
        return bool(kind.bit_width - signed <= _EXACT_BITS[wanted.bit_width])
    if _types.is_signed_integer(wanted):
        return kind.bit_width <= wanted.bit_width if signed else kind.bit_width < wanted.bit_width
    return not signed and kind.bit_width <= wanted.bit_width


def _whole(kinds: Kinds) -> list[pa.DataType]:
    signed = max((kind.bit_width for kind in kinds if _types.is_signed_integer(kind)), default=0)
    unsigned = max((kind.bit_width for kind in kinds if _types.is_unsigned_integer(kind)), default=0)
    if not signed:
        return [_UNSIGNED[unsigned]]
    bits = max(signed, 2 * unsigned)
    return [_SIGNED[bits]] if bits <= 64 else [pa.int64(), pa.uint64(), _ANY_WHOLE]


def _numbers(kinds: Kinds) -> list[pa.DataType]:
    widest = max(kind.bit_width for kind in kinds if _types.is_floating(kind))
    fitting = [_FLOATS[bits] for bits in _FLOATS if bits >= widest]
    return next(([wanted] for wanted in fitting if all(holds(wanted, kind) for kind in kinds)), [pa.float64()])


def _decimals(kinds: Kinds) -> list[pa.DataType]:
    digits = [_digits(kind) for kind in kinds]
    scale = max(scale for _, scale in digits)
    precision = scale + max(whole for whole, _ in digits)
    if precision > 76:
        return []
    return [pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)]


def _digits(kind: pa.DataType) -> tuple[int, int]:
    """The digits before and behind the point that a decimal or a whole number may have."""
    if _types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return len(str(2 ** (kind.bit_width - _types.is_signed_integer(kind)))), 0


def _bytes(kinds: Kinds) -> list[pa.DataType]:
    return [pa.large_binary()]


def _moments(kinds: Kinds) -> list[pa.DataType]:
    stamps = [kind for kind in kinds if _types.is_timestamp(kind)]
    if not stamps:
        return [pa.date32()]
    zones = [kind.tz for kind in stamps if kind.tz is not None]
    if zones and len(zones) < len(kinds):
        return []
    return [pa.timestamp(unit, zones[0] if zones else None) for unit in _units(stamps)]


def _units(kinds: Kinds) -> list[Any]:
    there = {kind.unit for kind in kinds}
    return [unit for unit in _UNITS if unit in there]


def _times_of_day(kinds: Kinds) -> list[pa.DataType]:
    finest = _units(kinds)[0]
    return [pa.time64(finest) if finest in ("ns", "us") else pa.time32(finest)]


def _spans(kinds: Kinds) -> list[pa.DataType]:
    return [pa.duration(unit) for unit in _units(kinds)]


def _lists(kinds: Kinds) -> list[pa.DataType]:
    inner = _inner([kind.value_type for kind in kinds])
    sizes = {kind.list_size if _types.is_fixed_size_list(kind) else -1 for kind in kinds}
    if inner is None:
        return []
    if len(sizes) == 1 and sizes != {-1}:
        return [pa.list_(inner, sizes.pop())]
    large = any(_types.is_large_list(kind) or _types.is_large_list_view(kind) for kind in kinds)
    return [pa.large_list(inner) if large else pa.list_(inner)]


def _structs(kinds: Kinds) -> list[pa.DataType]:
    names = [[field.name for field in kind] for kind in kinds]
    if any(found != names[0] for found in names) or len(set(names[0])) < len(names[0]):
        return []
    inner = [_inner([kind.field(name).type for kind in kinds]) for name in names[0]]
    known = [kind for kind in inner if kind is not None]
    return [pa.struct(list(zip(names[0], known, strict=True)))] if len(known) == len(inner) else []


def _maps(kinds: Kinds) -> list[pa.DataType]:
    key, item = (_inner([getattr(kind, part) for kind in kinds]) for part in ("key_type", "item_type"))
    return [] if key is None or item is None else [pa.map_(key, item)]


def _inner(kinds: Kinds) -> pa.DataType | None:
    """The type of values within others; where all agree just that."""
    found: list[pa.DataType] = (
        [kinds[0]] if len(set(kinds)) == 1 else common_types([plain_type(kind) for kind in kinds])
    )
    return found[0] if found else None


_LISTS = (
    _types.is_list,
    _types.is_large_list,
    _types.is_list_view,
    _types.is_large_list_view,
    _types.is_fixed_size_list,
)
# In this order: what belongs to several families is of the first one.
_FAMILIES: tuple[tuple[tuple[Callable[[Any], bool], ...], Callable[[Kinds], list[pa.DataType]]], ...] = (
    ((_types.is_integer,), _whole),
    ((_types.is_integer, _types.is_floating), _numbers),
    ((_types.is_integer, _types.is_decimal), _decimals),
    ((_types.is_large_binary, _types.is_fixed_size_binary), _bytes),
    ((_types.is_date, _types.is_timestamp), _moments),
    ((_types.is_time,), _times_of_day),
    ((_types.is_duration,), _spans),
    (_LISTS, _lists),
    ((_types.is_struct,), _structs),
    ((_types.is_map,), _maps),
)
