"""Faults in the bytes of a Parquet file: flipped bits, lengths that lie, ranges that are gone, parts of other files.

Each takes a file's bytes, those of another valid file, and a seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.inputs import thrift

Generator = np.random.Generator
Mutation = Callable[[bytes, bytes, Generator], bytes]
SIZES = (0, -1, 1, 2, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**32, 1000, 65_536)


def _place(size: int, draw: Generator) -> int:
    return int(draw.integers(max(size, 1)))


def flip_a_bit(content: bytes, other: bytes, draw: Generator) -> bytes:
    at = _place(len(content), draw)
    return content[:at] + bytes([content[at] ^ 1 << int(draw.integers(8))]) + content[at + 1 :]


def flip_a_bit_of_the_footer(content: bytes, other: bytes, draw: Generator) -> bytes:
    at = len(content) - 1 - _place(min(len(content), _footer_bytes(content) + 8), draw)
    return content[:at] + bytes([content[at] ^ 1 << int(draw.integers(8))]) + content[at + 1 :]


def put_a_byte(content: bytes, other: bytes, draw: Generator) -> bytes:
    at = _place(len(content), draw)
    return content[:at] + bytes([int(draw.choice([0, 255, 127, 128, int(draw.integers(256))]))]) + content[at + 1 :]


def cut_off(content: bytes, other: bytes, draw: Generator) -> bytes:
    return content[: _place(len(content), draw)]


def cut_out(content: bytes, other: bytes, draw: Generator) -> bytes:
    at = _place(len(content), draw)
    return content[:at] + content[at + int(draw.integers(1, 40)) :]


def put_in(content: bytes, other: bytes, draw: Generator) -> bytes:
    at = _place(len(content), draw)
    return content[:at] + draw.bytes(int(draw.integers(1, 40))) + content[at:]


def zero_out(content: bytes, other: bytes, draw: Generator) -> bytes:
    at, size = _place(len(content), draw), int(draw.integers(1, 200))
    return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :]


def lie_about_the_footer(content: bytes, other: bytes, draw: Generator) -> bytes:
    size = int(draw.choice([0, 1, 2**31 - 1, 2**32 - 1, max(_footer_bytes(content) + int(draw.integers(-9, 9)), 0)]))
    return content[:-8] + size.to_bytes(4, "little") + content[-4:]


def change_the_magic(content: bytes, other: bytes, draw: Generator) -> bytes:
    magic = bytes(draw.choice([b"PARE", b"PAR2", b"\0\0\0\0"]))
    return content[:-4] + magic if draw.integers(2) else magic + content[4:]


def put_another_footer(content: bytes, other: bytes, draw: Generator) -> bytes:
    return content[: len(content) - 8 - _footer_bytes(content)] + other[len(other) - 8 - _footer_bytes(other) :]


def put_another_body(content: bytes, other: bytes, draw: Generator) -> bytes:
    border = int(draw.integers(4, max(5, len(content) - 8 - _footer_bytes(content))))
    return content[:border] + other[border : len(content)] + content[max(border, len(other)) :]


def lie_in_the_footer(content: bytes, other: bytes, draw: Generator) -> bytes:
    """A whole number of the footer is another one."""
    footer = thrift.footer_of(content)
    fields, number = _drawn(_numbers(footer), draw)
    value = fields[number][1]
    thrift.set_whole(fields, number, _other(value, draw))
    return thrift.with_footer(content, footer)


def lose_a_field(content: bytes, other: bytes, draw: Generator) -> bytes:
    footer = thrift.footer_of(content)
    fields, number = _drawn([(fields, number) for fields in _structs(footer) for number in fields], draw)
    del fields[number]
    return thrift.with_footer(content, footer)


def swap_columns(content: bytes, other: bytes, draw: Generator) -> bytes:
    """Two columns of a row group change places in the footer."""
    footer = thrift.footer_of(content)
    groups = thrift.row_groups(footer)
    chunks = groups[_place(len(groups), draw)][thrift.COLUMNS][1][1]
    first, second = int(draw.integers(len(chunks))), int(draw.integers(len(chunks)))
    chunks[first], chunks[second] = chunks[second], chunks[first]
    return thrift.with_footer(content, footer)


def double_a_row_group(content: bytes, other: bytes, draw: Generator) -> bytes:
    footer = thrift.footer_of(content)
    groups = thrift.row_groups(footer)
    groups.append(groups[_place(len(groups), draw)])
    return thrift.with_footer(content, footer)


def lie_in_a_page(content: bytes, other: bytes, draw: Generator) -> bytes:
    """A whole number of a page's header is another one; what comes behind it moves where it takes another length."""
    metas = [
        chunk[thrift.META][1] for group in thrift.row_groups(thrift.footer_of(content)) for chunk in _chunks(group)
    ]
    meta = metas[_place(len(metas), draw)]
    at = meta[thrift.DATA_PAGE][1]
    header, behind = thrift.read_struct(content, at)
    fields, number = _drawn(_numbers(header), draw)
    thrift.set_whole(fields, number, _other(fields[number][1], draw))
    return content[:at] + thrift.write_struct(header) + content[behind:]


MUTATIONS: tuple[Mutation, ...] = (
    flip_a_bit,
    flip_a_bit_of_the_footer,
    put_a_byte,
    cut_off,
    cut_out,
    put_in,
    zero_out,
    lie_about_the_footer,
    change_the_magic,
    put_another_footer,
    put_another_body,
    lie_in_the_footer,
    lie_in_the_footer,
    lose_a_field,
    swap_columns,
    double_a_row_group,
    lie_in_a_page,
    lie_in_a_page,
)


def mutated(content: bytes, other: bytes, draw: Generator) -> tuple[bytes, list[str]]:
    """One to three faults, one after the other, and what they are called; one that finds no place does nothing."""
    names = []
    for _ in range(int(draw.choice([1, 1, 1, 2, 3]))):
        mutation = MUTATIONS[_place(len(MUTATIONS), draw)]
        try:
            content = mutation(content, other, draw)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, StopIteration):
            continue  # what the faults before it have left is no Parquet any more
        names.append(mutation.__name__)
    return content, names


def _other(value: int, draw: Generator) -> int:
    near = value + int(draw.choice([-1, 1, -8, 8]))
    return int(draw.choice([*map(str, SIZES), str(near), str(2 * value), str(-value)]))


def _footer_bytes(content: bytes) -> int:
    return int.from_bytes(content[-8:-4], "little")


def _drawn(values: list[Any], draw: Generator) -> Any:
    return values[_place(len(values), draw)]


def _chunks(group: thrift.Struct) -> list[thrift.Struct]:
    chunks: list[thrift.Struct] = group[thrift.COLUMNS][1][1]
    return chunks


def _structs(fields: thrift.Struct) -> list[thrift.Struct]:
    """The struct and all below it."""
    found = [fields]
    for kind, value in fields.values():
        if kind == thrift.STRUCT:
            found += _structs(value)
        elif kind == thrift.LIST and value[0] == thrift.STRUCT:
            for one in value[1]:
                found += _structs(one)
    return found


def _numbers(fields: thrift.Struct) -> list[tuple[thrift.Struct, int]]:
    """Where whole numbers stand, in the struct and below it."""
    return [
        (inner, number)
        for inner in _structs(fields)
        for number, (kind, _) in inner.items()
        if kind in (thrift.I16, thrift.I32, thrift.I64)
    ]
