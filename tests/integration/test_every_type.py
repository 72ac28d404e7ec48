"""Keys, times, features and kept columns of every type, by every road that they take.

What a walk does and what it checks is in `tests.harness.every_road`. Each type walks shuffled, and in one other layout
in turn. Replicas have no pandas, which Arrow asks for some times: so the walks of times and of kept columns are walked
again in a process without it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes.cramped import cramp
from tests.harness.every_road import LAYOUTS, Spelling, go
from tests.inputs.series import replace
from tests.integration.test_train import lay_out, table_with_targets, trained
from tests.paths import ROOT

Column = Callable[[Any], Any]
SECONDS = 1_700_000_000
LAST_SECOND = 253_402_300_799  # of the year 9999
FIRST_SECOND = -62_135_596_800  # of the year 1


def whole(kind: Any, begin: int = 0, step: int = 1) -> Column:
    """Numbers from `begin` on as a type that is made of whole numbers."""
    width = kind.bit_width if pa.types.is_temporal(kind) else 64
    return lambda number: pa.array(number * step + begin, pa.int32() if width == 32 else pa.int64()).cast(kind)


def bytes_of(kind: Any) -> Column:
    return lambda number: pa.array([bytes([0, 255, int(one)]) for one in number], kind)


def text_of(kind: Any) -> Column:
    return lambda number: pa.array([f"ü{one}" for one in number]).cast(kind)


def decimals(kind: Any) -> Column:
    return lambda number: pa.array([Decimal(int(one)) - Decimal("1.25") for one in number], kind)


def within(kind: Any, storage: Column) -> Column:
    """An extension type."""
    return lambda number: pa.ExtensionArray.from_storage(kind, storage(number))


def spelt(pattern: str, kind: Any = None) -> Column:
    """Texts with the number in them."""
    return lambda number: pa.array([pattern.format(int(one)) for one in number], kind or pa.string())


uuids = within(
    pa.uuid(), lambda number: pa.array([UUID(int=(int(one) << 64) + 255).bytes for one in number], pa.binary(16))
)
objects = within(pa.json_(), spelt('{{"id": {}}}'))

KEYS: dict[str, Column] = {
    "text": text_of(pa.string()),
    "large text": text_of(pa.large_string()),
    "text view": spelt("ü{}", pa.string_view()),
    "dictionary of text": lambda number: text_of(pa.string())(number).dictionary_encode(),
    "dictionary of numbers": lambda number: pa.array(number).dictionary_encode(),
    "bytes": bytes_of(pa.binary()),
    "large bytes": bytes_of(pa.large_binary()),
    "bytes view": bytes_of(pa.binary_view()),
    "three bytes": bytes_of(pa.binary(3)),
    "uuid": uuids,
    "json": objects,
    "large json": within(pa.json_(pa.large_string()), spelt('"x{}"', pa.large_string())),
    "json view": within(pa.json_(pa.string_view()), spelt('"x{}"', pa.string_view())),
    "bool8": within(pa.bool8(), lambda number: pa.array(number, pa.int8())),
    "unknown extension": within(pa.opaque(pa.int32(), "kind", "vendor"), whole(pa.int32())),
    **{str(kind): decimals(kind) for kind in (pa.decimal32(5, 2), pa.decimal64(15, 2), pa.decimal128(25, 2))},
    "decimal256": decimals(pa.decimal256(55, 2)),
    "day": whole(pa.date32()),
    "day of the year 15659": whole(pa.date32(), 5_000_000),
    "day in milliseconds": whole(pa.date64(), 0, 86_400_000),
    "time of day in seconds": whole(pa.time32("s"), 3600),
    "time of day in nanoseconds": whole(pa.time64("ns"), 1),
    "nanoseconds": whole(pa.timestamp("ns"), 5),
    "milliseconds": whole(pa.timestamp("ms"), 5),
    "behind 9999 in Tokyo": whole(pa.timestamp("us", "Asia/Tokyo"), LAST_SECOND * 10**6),
    "zone as Java spells it": whole(pa.timestamp("us", "GMT+05:30"), 5),
    "year 148107": whole(pa.timestamp("us"), 2**62),
    **{str(kind): whole(kind) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64())},
    "uint64 behind int64": lambda number: pa.array([2**63 + int(one) for one in number], pa.uint64()),
}
ZONES = ("UTC", "Europe/Berlin", "+05:30", "GMT+05:30", "Z", "-0800", "utc", "UTC+1", "PST", "Mars/Olympus")
TIMES: dict[str, Column] = {
    **{unit: whole(pa.timestamp(unit), SECONDS * 10**power) for unit, power in (("s", 0), ("ms", 3), ("us", 6))},
    "nanoseconds": whole(pa.timestamp("ns"), SECONDS * 10**9 + 1, 10**9 + 1),
    "nanoseconds in a zone": whole(pa.timestamp("ns", "Z"), SECONDS * 10**9 + 1),
    **{f"zone {zone}": whole(pa.timestamp("us", zone), SECONDS * 10**6) for zone in ZONES},
    "the end of 9999": whole(pa.timestamp("us"), LAST_SECOND * 10**6 - 5, 10**6),
    "the end of 9999 in Tokyo": whole(pa.timestamp("us", "Asia/Tokyo"), LAST_SECOND * 10**6 - 8),
    "milliseconds taken for seconds": whole(pa.timestamp("ms"), SECONDS * 10**6),
    "before the year 1": whole(pa.timestamp("us"), FIRST_SECOND * 10**6 - 4),
    "the year 1 in New York": whole(pa.timestamp("us", "America/New_York"), FIRST_SECOND * 10**6),
    "the first of all": whole(pa.timestamp("us"), -(2**63) + 1),
    "days": whole(pa.date32()),
    "days of the year 15659": whole(pa.date32(), 5_000_000),
    "the last days of all": whole(pa.date32(), 2**31 - 20),
    "ISO text": spelt("2026-11-20T05:{:02d}:00Z"),
    "ISO text as a view": spelt("2026-11-20 05:{:02d}+0100", pa.string_view()),
    "a dictionary of ISO text": lambda place: spelt("2026-11-20T05:{:02d}")(place).dictionary_encode(),
    "the basic form": spelt("20261120T05{:02d}00Z"),
    "commas and small letters": spelt("2026-11-20t05:00:00,{:03d}z"),
    "weeks": spelt("2026-W{}-1") and (lambda place: spelt("2026-W{}-1")(place + 10)),
    "Go's zero and on": lambda place: spelt("{:04d}-01-01T00:00:00Z")(place + 1),
    ".NET's last ticks": spelt("9999-12-31T23:59:59.999999{}"),
    **{str(kind): whole(kind) for kind in (pa.int8(), pa.uint16(), pa.int64())},
    "uint64 behind int64": lambda place: pa.array([2**63 + int(one) for one in place], pa.uint64()),
    "within an unknown extension": within(pa.opaque(pa.timestamp("us"), "kind", "vendor"), whole(pa.timestamp("us"))),
}
INT96 = {"write": {"use_deprecated_int96_timestamps": True}, "read": {"coerce_int96_timestamp_unit": "us"}}


# ---- kept columns


def strings(kind: Any) -> Column:
    """Texts, some of them null."""
    return lambda row: pa.array([f"s{one}" if one % 4 else None for one in row], kind)


def lists(inner: Column, made: Any = pa.ListArray, places: Any = None) -> Column:
    """None to two values a row, and some nulls."""
    places = places or pa.int32()

    def make(row: Any) -> Any:
        ends = np.concatenate([[0], np.cumsum(row % 3)])
        values, nothing = inner(np.arange(ends[-1])), pa.array(row % 5 == 4)
        if made in (pa.ListViewArray, pa.LargeListViewArray):
            return made.from_arrays(pa.array(ends[:-1], places), pa.array(row % 3, places), values, mask=nothing)
        return made.from_arrays(pa.array(ends, places), values, mask=nothing)

    return make


def pairs(inner: Column) -> Column:
    return lambda row: pa.FixedSizeListArray.from_arrays(inner(np.repeat(row, 2)), 2, mask=pa.array(row % 5 == 4))


def structs(**fields: Column) -> Column:
    def make(row: Any) -> Any:
        return pa.StructArray.from_arrays(
            [inner(row) for inner in fields.values()], names=list(fields), mask=pa.array(row % 5 == 4)
        )

    return make


def maps(kind: Any) -> Column:
    return lambda row: pa.array(
        [[(f"k{one}", f"v{one}")] * (int(one) % 3) if one % 5 != 4 else None for one in row], pa.map_(kind, kind)
    )


def tensors(row: Any) -> Any:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(row, 4).astype(np.float32)), 4)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 2)), values)


views = strings(pa.string_view())
odd = whole(pa.timestamp("ns", "Europe/Berlin"), 1, 1001)
NESTED: dict[str, Column] = {
    "lists of numbers": lists(whole(pa.int64())),
    "lists of views": lists(views),
    "large lists of views": lists(views, pa.LargeListArray, pa.int64()),
    "views of lists": lists(whole(pa.int64()), pa.ListViewArray),
    "views of lists of views": lists(views, pa.ListViewArray),
    "views of large lists of views": lists(views, pa.LargeListViewArray, pa.int64()),
    "lists of lists of views": lists(lists(views)),
    "lists of UUIDs": lists(uuids),
    "lists of JSON": lists(lambda row: pa.ExtensionArray.from_storage(pa.json_(), strings(pa.string())(row))),
    "lists of dictionaries": lists(lambda row: strings(pa.string())(row).dictionary_encode()),
    "lists of short decimals": lists(decimals(pa.decimal32(5, 2))),
    "lists of odd nanoseconds": lists(odd),
    "lists of far days": lists(whole(pa.date32(), 5_000_000)),
    "lists of nothing": lists(lambda row: pa.nulls(len(row))),
    "pairs of numbers": pairs(whole(pa.int64())),
    "pairs of views": pairs(views),
    "pairs of UUIDs": pairs(uuids),
    "structs": structs(text=views, id=uuids, list=lists(views), view=lists(views, pa.ListViewArray)),
    "structs of times": structs(
        odd=odd, far=whole(pa.timestamp("s"), LAST_SECOND * 10), zone=whole(pa.timestamp("us", "Mars/Olympus"))
    ),
    "maps": maps(pa.string()),
    "maps of views": maps(pa.string_view()),
    "tensors": tensors,
    "lists of tensors": lists(tensors),
    "structs of tensors": structs(tensor=tensors),
}
FLAT: dict[str, Column] = {
    **{f"key {name}": made for name, made in KEYS.items()},
    **{f"time {name}": made for name, made in TIMES.items() if name != "the last days of all"},
    "nothing": lambda row: pa.nulls(len(row)),
    "half a float": lambda row: pa.array(row.astype(np.float16)),
    "a float that may be none": lambda row: pa.array(np.where(row % 2, row, np.nan)),
    "spans": whole(pa.duration("ns"), 1),
    "spans of seconds": whole(pa.duration("s"), 1),
    "a boolean": lambda row: pa.array(row % 2 == 1),
}
OTHERS = [layout for layout in LAYOUTS if layout != "mixed"]


def walked(kinds: dict[str, Column]) -> Any:
    """Each kind shuffled, and in one of the other layouts in turn."""
    turns = [(name, layout) for name, layout in zip(kinds, cycle(OTHERS), strict=False)]
    return pytest.mark.parametrize(("name", "layout"), [*turns, *((name, "mixed") for name in kinds)])


@walked(KEYS)
def test_keys_of_every_type_walk_every_road(tmp_path: Path, name: str, layout: str) -> None:
    go(tmp_path, Spelling(key=KEYS[name]), layout)


@walked(TIMES)
def test_times_of_every_type_walk_every_road(tmp_path: Path, name: str, layout: str) -> None:
    go(tmp_path, Spelling(time=TIMES[name]), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [FLAT, NESTED], ids=["flat", "nested"])
def test_kept_columns_of_every_type_walk_every_road(tmp_path: Path, kept: dict[str, Column], layout: str) -> None:
    go(tmp_path, Spelling(kept=kept), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_times_of_96_bits_walk_every_road(tmp_path: Path, layout: str) -> None:
    """Keys, times and kept columns, on both sides of what nanoseconds hold: no other time comes out."""
    far = whole(pa.timestamp("us"), LAST_SECOND * 10**6 - 7, 10**6)
    old = whole(pa.timestamp("us"), -5_364_662_400 * 10**6)
    go(
        tmp_path,
        Spelling(key=old, time=far, kept={"far": far, "lists": lists(far), "in": structs(old=old)}, **INT96),
        layout,
    )


def test_kept_columns_are_merged_from_runs_where_memory_is_small(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cramp(patch, sort_bytes=600)
        go(tmp_path, Spelling(key=uuids, time=odd, kept=NESTED), "mixed")


@pytest.mark.parametrize("name", ["uuid", "decimal32(5, 2)", "json"])
def test_a_training_takes_keys_and_times_of_any_type(tmp_path: Path, name: str) -> None:
    """The same weights, tidy and shuffled, as where keys are text and times whole microseconds."""
    found = []
    for folder, column, time in (("plain", KEYS["text"], None), ("tidy", KEYS[name], odd), ("mixed", KEYS[name], odd)):
        table = table_with_targets([9, 8, 7])
        number = np.array([int(key[1:]) for key in table.column("entity").to_pylist()])
        table = replace(table, "entity", column(number))
        table = table if time is None else replace(table, "time", time(np.arange(table.num_rows)))
        order = np.random.default_rng(1).permutation(24) if folder == "mixed" else np.arange(24)
        (tmp_path / folder).mkdir()
        found.append(trained(lay_out(tmp_path / folder, table.take(pa.array(order)))))
    assert len({report.model_fingerprint for report in found}) == 1
    assert [report.rows_trained_on for report in found] == [24] * 3


def test_all_of_it_holds_where_there_is_no_pandas() -> None:
    """As in a replica: Arrow then refuses nanoseconds that are no whole microseconds."""
    names = "test_kept_columns or test_times_of_96_bits or nanoseconds or 9999 or Java"
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.harness.no_pandas",
        "-k",
        f"({names}) and mixed",
    ]
    command = [sys.executable, "-m", "pytest", str(Path(__file__).relative_to(ROOT)), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
