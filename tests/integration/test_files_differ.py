"""Files of one input whose columns have different types: they are scored, kept and audited as if each were alone.

Every case has a pair of types for each column. Two nights have a file of the first types and one of the second, in one
order and in the other; the second night goes on from the first. All pairs come in half of the cases, with one layout or
with the other; the rest take long.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.plan.plan_files import read_plan
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from jobs.commands.verify import run as verify
from tests.harness.differing import (
    DAYS,
    ENTITIES,
    FEATURES,
    NAMES,
    ONE,
    SETTINGS,
    Types,
    alone,
    scored,
    truth,
    write_file,
)
from tests.harness.inprocess import Job, in_process
from tests.harness.truth import TOLERANCE
from tests.models.keras_models import FIT, save

MODEL = save(FIT["several_codes_per_row"]())
TEXT = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
WHOLE = (pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64())
BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())
PLAIN = (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.date32())
ZONES = (("us", "UTC"), ("ns", "+00:00"), ("ms", "Etc/UTC"), ("us", "Europe/Berlin"), ("ns", "-03:30"))
ZONED = tuple(pa.timestamp(unit, zone) for unit, zone in ZONES)
EXACT = (pa.decimal128(5, 0), pa.int32(), pa.decimal128(20, 2))
NUMBERS = (
    *(pa.bool_(), pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal128(10, 2), pa.decimal256(40, 5), pa.null(), None),
)
CODES = (pa.bool_(), pa.int8(), pa.uint32(), pa.int64(), pa.null(), None)
WORDS = (pa.string(), pa.int32(), pa.bool_(), pa.date32(), pa.null(), None)
STRUCTS = (pa.struct([("a", pa.int16())]), pa.struct([("a", pa.int64())]))
LISTS = (pa.list_(pa.int32()), pa.large_list(pa.int64()))
KEPT = (pa.int8(), pa.uint16(), pa.int64(), pa.float64())
NOTES = (TEXT, WHOLE, BYTES, PLAIN, ZONED, KEPT, EXACT, LISTS, STRUCTS, (pa.time32("s"), pa.time64("ns")))


def pairs(*families: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    return [pair for family in families for pair in permutations(family, 2)]


NULLS = pairs(*((pa.null(), kind) for kind in (pa.string(), pa.int32(), pa.date32(), pa.float64(), STRUCTS[0])))
A_NULL_CAME = [(pa.int8(), pa.float64()), (pa.float64(), pa.int64()), (pa.float32(), pa.uint32())]
PAIRS = {  # columns that share them -> pairs of types
    ("f0", "f1", "f2"): pairs(NUMBERS),
    ("code",): [*pairs(CODES), *A_NULL_CAME],
    ("word",): pairs(WORDS, TEXT),
    ("key", "part"): pairs(TEXT, WHOLE, BYTES, PLAIN, ZONED, EXACT),
    ("time", "tick"): pairs(TEXT, WHOLE, PLAIN, ZONED),
    ("n0", "n1", "n2", "n3"): [*pairs(*NOTES), *NULLS],
}
CASES = max(-(-len(found) // len(names)) for names, found in PAIRS.items())


def types_of_case(number: int) -> tuple[Types, Types]:
    """The types of the first and of the second kind of file."""
    chosen = {
        name: found[(number * len(names) + place) % len(found)]
        for names, found in PAIRS.items()
        for place, name in enumerate(names)
    }
    return {name: chosen[name][0] for name in NAMES}, {name: chosen[name][1] for name in NAMES}


def night(folder: Path, number: int, kinds: tuple[Types, ...], layout: str, read: str | None) -> list[Path]:
    """Scores and audits a night of files of these types; returns them."""
    paths = [folder / f"in{number}" / f"part-{place}.parquet" for place in range(len(kinds))]
    for place, types in enumerate(kinds):
        write_file(paths[place], types, (2 * number + place) * DAYS, mixed=layout == "interleaved")
    state = {"write": folder / f"state{number}", **({"read": folder / read} if read else {})}
    job = Job(MODEL, folder / f"in{number}", folder / f"out{number}", FEATURES, step=StepSettings(4, 3))
    job = replace(job, input=SETTINGS, state=state, run_id=f"night{number}")
    (folder / "model.keras").write_bytes(MODEL)
    record = score(replace(job.request(), model_path=str(folder / "model.keras")), open_cluster=in_process)
    assert record["rows_scored"] == len(kinds) * ENTITIES * DAYS
    assert read_plan(LocalStore(str(job.output))).layout == layout
    found = verify(job.output, ENTITIES, alone)
    assert [(check.name, check.first) for check in found.checks if not check.holds] == []
    assert found.difference is not None
    assert found.difference <= TOLERANCE
    return paths


def expect_truth(folder: Path, files: list[Path], nights: int) -> None:
    """All scores of all nights are those of one series over all files, and what is kept is what each file has."""
    wanted, found = truth(MODEL, files), {}
    for number in range(nights):
        found.update(scored(folder / f"out{number}"))
    assert found.keys() == wanted.keys()
    assert [found[place][1] for place in wanted] == [wanted[place][1] for place in wanted]
    assert max(abs(found[place][0] - wanted[place][0]) for place in wanted) <= TOLERANCE


@pytest.mark.parametrize(
    ("number", "layout"),
    [
        pytest.param(number, layout, marks=() if (number + turn) % 2 else (pytest.mark.soak,))
        for number in range(CASES)
        for turn, layout in enumerate(("clustered", "interleaved"))
    ],
)
def test_files_that_differ_are_scored_as_each_alone(tmp_path: Path, number: int, layout: str) -> None:
    first, second = types_of_case(number)
    files = night(tmp_path, 0, (first, second), layout, None)
    files += night(tmp_path, 1, (second, first), layout, "state0")
    expect_truth(tmp_path, files, 2)


NIGHTS = max(-(-len(PAIRS[names]) // len(names)) for names in (("key", "part"), ("time", "tick")))


@pytest.mark.parametrize(
    ("number", "layout"),
    [
        pytest.param(number, layout, marks=() if (number + turn) % 2 else (pytest.mark.soak,))
        for number in range(NIGHTS)
        for turn, layout in enumerate(("clustered", "interleaved"))
    ],
)
def test_a_night_goes_on_from_keys_and_times_of_other_types(tmp_path: Path, number: int, layout: str) -> None:
    kinds = [
        {**ONE, **{name: types[name] for name in ("key", "part", "time", "tick")}} for types in types_of_case(number)
    ]
    files = night(tmp_path, 0, (kinds[0],), layout, None)
    files += night(tmp_path, 1, (kinds[1],), layout, "state0")
    files += night(tmp_path, 2, (kinds[0],), layout, "state1")
    expect_truth(tmp_path, files, 3)
