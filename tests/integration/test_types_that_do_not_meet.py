"""Types of one column that cannot be compared or held together: one sentence with both files, and what to do.

Where types alone do not tell, values do: whole numbers beyond a float64's, moments beyond nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.run_errors import InputRefused
from cluster.runtime.audit.audit import audit
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from tests.harness.commands import command
from tests.harness.differing import plain
from tests.harness.inprocess import Job, in_process, scores
from tests.models.keras_models import FIT, save

MODEL = save(FIT["lstm"]())
FEATURES = (("rows", ("f0", "f1", "f2")),)
ROWS = 4  # of one entity in a file
FAR_US = 253_402_300_799_000_000  # 9999-12-31T23:59:59, which nanoseconds do not hold
layouts = pytest.mark.parametrize("layout", ["clustered", "shuffle"])
orders = pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])


def write(folder: Path, *columns: dict[str, Any], statistics: bool = True) -> list[Path]:
    """Files of one entity, each with some columns in the place of, or beside, the ordinary ones."""
    paths = []
    (folder / "in").mkdir(parents=True)
    for place, own in enumerate(columns):
        table: dict[str, Any] = {
            "entity": pa.array(["e"] * ROWS),
            "time": pa.array(range(place * ROWS, (place + 1) * ROWS), pa.int64()),
            **{f"f{index}": pa.array(np.full(ROWS, 0.1 * index + place, np.float32)) for index in range(3)},
            "note": pa.array(range(ROWS)),
        }
        paths.append(folder / "in" / f"part-{place}.parquet")
        pq.write_table(pa.table({**table, **own}), paths[-1], write_statistics=statistics)
    return paths


def job(folder: Path, layout: str = "auto", **settings: Any) -> Job:
    asked = Job(MODEL, folder / "in", folder / "out", FEATURES, step=StepSettings(4, 4))
    return replace(asked, input={"keep": ("note",), "layout": layout, **settings})


def run(asked: Job) -> Any:
    """The output, audited."""
    score(asked.request(), open_cluster=in_process)
    assert [check for check in audit(LocalStore(str(asked.output))).checks if check.failures] == []
    return scores(asked.output)


def of(kind: Any, values: Sequence[int] = range(ROWS)) -> Any:
    """Small numbers as a column of any type."""
    if pa.types.is_boolean(kind):
        return pa.array([value % 2 == 1 for value in values])
    if pa.types.is_struct(kind):
        return pa.array([{kind.field(0).name: value} for value in values], kind)
    if pa.types.is_list(kind):
        return pa.array([[value] for value in values], kind)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array(values, width).cast(kind)
    return pa.array([str(value) for value in values]).cast(kind)


UTC = pa.timestamp("us", "UTC")
KEYS = [
    (pa.string(), pa.int64()),
    (pa.string(), pa.binary()),
    (pa.timestamp("us"), UTC),
    (pa.date32(), UTC),
    (pa.int64(), pa.date32()),
    (pa.bool_(), pa.int8()),
    (pa.decimal128(9, 0), pa.large_string()),
    (pa.int64(), pa.float64()),
    (pa.string(), pa.float32()),
    (pa.int32(), pa.list_(pa.int32())),
    (pa.time32("s"), pa.timestamp("s")),
]
TIMES = [
    (pa.timestamp("us"), UTC),
    (pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin")),
    (pa.date32(), UTC),
    (pa.timestamp("us"), pa.string()),
    (pa.int64(), pa.timestamp("us")),
    (pa.int32(), pa.string()),
    (pa.int64(), pa.float64()),
    (pa.date32(), pa.bool_()),
    (pa.int32(), pa.time32("s")),
]
NOTES = [
    (pa.string(), pa.int32()),
    (pa.bool_(), pa.int8()),
    (pa.date32(), pa.string()),
    (pa.int32(), pa.list_(pa.int32())),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
    (pa.binary(), pa.string()),
    (pa.float64(), pa.decimal128(9, 2)),
    (pa.timestamp("us"), UTC),
    (pa.duration("s"), pa.int64()),
]
APART = [(name, pair) for name, found in (("entity", KEYS), ("time", TIMES), ("note", NOTES)) for pair in found]


@layouts
@orders
@pytest.mark.parametrize(
    ("name", "kinds"), APART, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value))
)
def test_both_files_and_types_are_named(tmp_path: Path, name: str, kinds: Any, turned: bool, layout: str) -> None:
    paths = write(tmp_path, *({name: of(kind)} for kind in (kinds[::-1] if turned else kinds)))
    stored = [pq.read_schema(path).field(name).type for path in paths]
    with pytest.raises(InputRefused) as refused:
        score(job(tmp_path, layout).request(), open_cluster=in_process)
    sentence = str(refused.value)
    for path, kind in zip(paths, stored, strict=True):
        assert re.search(rf"{re.escape(str(kind))} in {path}\b", sentence)
    assert repr(name) in sentence
    assert "\n" not in sentence
    assert re.search("write (both|it)", sentence)
    assert not (tmp_path / "out" / "_slotcar" / "run.json").exists()


@pytest.mark.parametrize(("name", "kinds"), [APART[0], APART[2], APART[7], APART[-1]], ids=str)
def test_the_commands_say_the_same_and_start_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kinds: Any
) -> None:
    write(tmp_path, *({name: of(kind)} for kind in kinds))
    (tmp_path / "model.keras").write_bytes(MODEL)
    (tmp_path / "job.toml").write_text(
        '[model]\npath = "model.keras"\n[input]\npath = "in"\nentity = "entity"\ntime = "time"\n'
        'features = ["f0", "f1", "f2"]\n[output]\npath = "out"\nkeep = ["note"]\n'
    )
    with pytest.raises(InputRefused) as refused:
        score(job(tmp_path).request(), open_cluster=in_process)
    capsys.readouterr()
    assert command("plan", str(tmp_path / "job.toml")) == 2
    assert str(refused.value) in capsys.readouterr().err


# ---- values


@layouts
@orders
@pytest.mark.parametrize("statistics", [True, False])
def test_whole_numbers_beside_floats_are_kept_as_floats_where_all_are_exact(
    tmp_path: Path, statistics: bool, turned: bool, layout: str
) -> None:
    whole, real = pa.array([2**53, -(2**53), 7, None]), pa.array([0.5, None, -1.0, 2.0])
    columns = [{"note": whole}, {"note": real}]
    write(tmp_path, *(columns[::-1] if turned else columns), statistics=statistics)
    found = run(job(tmp_path, layout)).column("note")
    assert found.type == pa.float64()
    assert sorted(found.to_pylist(), key=str) == sorted(
        [*whole.cast(pa.float64()).to_pylist(), *real.to_pylist()], key=str
    )


@layouts
@orders
@pytest.mark.parametrize("statistics", [True, False])
def test_a_whole_number_that_no_float_is_ends_in_a_sentence_with_its_row(
    tmp_path: Path, statistics: bool, turned: bool, layout: str
) -> None:
    columns = [{"note": pa.array([1, 2, 2**53 + 1, 3])}, {"note": pa.array([0.5, 1, 2, 3])}]
    paths = write(tmp_path, *(columns[::-1] if turned else columns), statistics=statistics)
    with pytest.raises(InputRefused) as refused:
        run(job(tmp_path, layout))
    whole, real = paths[::-1] if turned else paths
    assert f"'note' is int64 in {whole} but double in {real}, and {2**53 + 1} in row 2 is no double" in str(
        refused.value
    )
    assert "leave the column out of output.keep" in str(refused.value)


@layouts
@orders
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("name", ["note", "time", "entity"])
def test_a_moment_beyond_nanoseconds_is_kept_where_the_others_are_whole_microseconds(
    tmp_path: Path, name: str, statistics: bool, turned: bool, layout: str
) -> None:
    early = pa.array([1_000, 2_000, 3_000, 4_000], pa.timestamp("ns"))
    late = pa.array([5, 6, 7, FAR_US], pa.timestamp("us"))
    columns = [{name: early}, {name: late}]
    write(tmp_path, *(columns[::-1] if turned else columns), statistics=statistics)
    found = run(job(tmp_path, layout)).column(name)
    assert found.type == pa.timestamp("us")
    assert sorted(plain(found)) == sorted([*plain(early), *plain(late)])


@layouts
@orders
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("name", ["note", "time", "entity"])
def test_moments_that_no_unit_holds_end_in_a_sentence(
    tmp_path: Path, name: str, statistics: bool, turned: bool, layout: str
) -> None:
    early, late = pa.array([1, 2, 3, 4], pa.timestamp("ns")), pa.array([5, FAR_US, 6, 7], pa.timestamp("us"))
    columns = [{name: early}, {name: late}]
    paths = write(tmp_path, *(columns[::-1] if turned else columns), statistics=statistics)
    with pytest.raises(InputRefused) as refused:
        run(job(tmp_path, layout))
    near, far = paths[::-1] if turned else paths
    assert f"'{name}' is timestamp[us] in {far} but timestamp[ns] in {near}, and " in str(refused.value)
    assert "9999-12-31 23:59:59 in row 1 is no timestamp[ns]" in str(refused.value)


@layouts
@orders
@pytest.mark.parametrize(
    "meeting",
    [
        ([-1, 2], [3, 2**63 - 1], pa.int64()),
        ([1, 2], [3, 2**64 - 1], pa.uint64()),
        ([-1, 2], [3, 2**64 - 1], pa.decimal128(20, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["note", "time", "entity"])
def test_whole_numbers_of_any_sign_meet_in_the_first_type_that_holds_them(
    tmp_path: Path, name: str, meeting: Any, turned: bool, layout: str
) -> None:
    signed, unsigned, wanted = meeting
    columns = [{name: pa.array(sorted(signed * 2), pa.int64())}, {name: pa.array(sorted(unsigned * 2), pa.uint64())}]
    write(tmp_path, *(columns[::-1] if turned else columns))
    if name == "time" and pa.types.is_decimal(wanted):
        with pytest.raises(InputRefused, match=rf"'time' is .*int64 .* and {2**64 - 1} in row 2 is no int64"):
            run(job(tmp_path, layout))
        return
    found = run(job(tmp_path, layout)).column(name)
    assert found.type == wanted
    assert sorted(map(int, found.to_pylist())) == sorted([*signed, *unsigned] * 2)


# ---- since and until


@layouts
def test_a_bound_without_a_zone_is_refused_where_zones_differ(tmp_path: Path, layout: str) -> None:
    hours = [of(pa.timestamp("us", zone), [0, 1, 2, 3]) for zone in ("UTC", "Europe/Berlin")]
    paths = write(tmp_path, *({"time": hour} for hour in hours))
    with pytest.raises(InputRefused) as refused:
        run(job(tmp_path, layout, until="2026-01-01"))
    for part in ("input.until is '2026-01-01' without a zone", f"UTC in {paths[0]}", f"Europe/Berlin in {paths[1]}"):
        assert part in str(refused.value)


@layouts
@pytest.mark.parametrize(
    ("zones", "until"),
    [(("UTC", "Europe/Berlin"), "1970-01-01T00:00:02+00:00"), (("UTC", "+00:00"), "1970-01-01T00:00:02")],
    ids=str,
)
def test_a_bound_is_one_moment_in_files_of_all_units_and_zones(
    tmp_path: Path, zones: Any, until: str, layout: str
) -> None:
    units = [(pa.timestamp("ns", zones[0]), 10**9), (pa.timestamp("ms", zones[1]), 10**3)]
    times = [
        of(kind, [start * tick for start in (place, 2 + place, 4 + place, 6 + place)])
        for place, (kind, tick) in enumerate(units)
    ]
    write(
        tmp_path, *({"time": time, "entity": pa.array([name] * ROWS)} for time, name in zip(times, "ab", strict=True))
    )
    found = run(job(tmp_path, layout, until=until))
    assert sorted(plain(found.column("time"))) == [0, 10**9]
    assert found.schema.field("time").type == pa.timestamp("ns", zones[0])
