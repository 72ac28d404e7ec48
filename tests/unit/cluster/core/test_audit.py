"""The arithmetic and the decisions of an audit: each finds what is wrong, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.audit import End, Tallies, Tally, audit_end, audit_files, audit_records
from cluster.core.commit import Fragment
from cluster.core.row_accounting import Coverage, Ledger, draw_entities, inside, number_entities
from cluster.core.settings import Fill, InputSettings, OutputSettings, StepSettings
from cluster.run_errors import RunFailed
from cluster.runtime.commit.run_request import REQUEST, RequestFile, read_request, write_request
from cluster.runtime.storage.local_store import LocalStore


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def fragment(shard: int, index: int, *, final: bool = False, **changes: Any) -> Fragment:
    name = f"part-{shard}-{index}.parquet"
    base = Fragment(shard, index, 1, final, name, f"{name}.1", 10, 1, "0", "1", "2")
    return replace(base, **changes)


def records_found(*records: Fragment, shards: int = 2) -> str | None:
    tally = Tally("records")
    audit_records(tally, shards, records)
    return tally.first


def test_records_that_follow_each_other_hold() -> None:
    assert records_found(fragment(0, 1, final=True), fragment(0, 0), fragment(1, 0)) is None
    assert records_found() is None


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([fragment(0, 1, final=True)], "expected 0 to 0"),
        ([fragment(0, 0), fragment(0, 2)], "expected 0 to 1"),
        ([fragment(0, 0, final=True), fragment(0, 1)], "records follow it"),
        ([fragment(2, 0)], "the plan has 2"),
        ([fragment(0, 0), fragment(1, 0, file="part-0-0.parquet")], "more than one record"),
    ],
)
def test_records_that_do_not_are_named(records: Sequence[Fragment], found: str) -> None:
    assert found in str(records_found(*records))


def test_files_without_a_record_are_named_and_counted() -> None:
    tally = Tally("files")
    audit_files(tally, ["c", "a", "b"], {"a", "gone"})
    assert (tally.counted, tally.failures, tally.first) == (3, 2, "b lies in the output, but no record names it")


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (End("done", 3, 3, success=True), None),
        (End("done", 3, 3, success=False), "_SUCCESS is not there"),
        (End("running", 3, 2, success=False), "not finished: 2 of 3"),
        (End("running", 3, 3, success=False), "not finished"),
        (End("quarantine", 3, 3, success=False), "more rows are in quarantine than allowed"),
        (End("done", 3, 2, success=True), "_SUCCESS is there, but"),
        (End("failed", 3, 3, success=True), "_SUCCESS is there, but"),
        (End("running", 0, 0, success=False), "not finished"),
    ],
    ids=str,
)
def test_a_run_is_finished_or_not(end: End, found: str | None) -> None:
    tally = Tally("finished")
    audit_end(tally, end)
    assert (tally.first is None) if found is None else (found in str(tally.first))


def test_checks_come_in_the_order_of_their_meanings() -> None:
    tallies = Tallies()
    for name in ("finished", "fragments", "records"):
        tallies[name].expect(name != "fragments", "gone")
    assert [(check.name, check.holds) for check in tallies.close()] == [
        ("records", True),
        ("fragments", False),
        ("finished", True),
    ]


def test_entities_are_numbered_by_all_their_columns() -> None:
    keys = pa.table({"a": ["x", "x", "y"], "b": [1, 2, 1]})
    rows = pa.table({"a": ["y", "x", "x", "y", None, "z"], "b": [1, 2, 1, 2, 1, 1]})
    assert number_entities(keys, rows).tolist() == [2, 1, 0, -1, -1, -1]
    assert number_entities(keys, rows.slice(0, 0)).tolist() == []
    assert number_entities(keys.select(["b"]).slice(1), rows.select(["b"])).tolist() == [1, 0, 1, 0, 1, 1]


ROWS = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=4)


@given(ROWS)
def test_a_ledger_gives_each_row_its_place(fragments: list[list[int]]) -> None:
    ledger, seen, last = Ledger(ints(9, 9, 9, 9)), [0, 0, 0, 0], [-1, -1, -1, -1]
    for number, entities in enumerate(fragments):
        position, apart = ledger.take(np.array(entities, np.int64), number)
        wanted, away = [], set()
        for entity in entities:
            wanted.append(seen[entity])
            seen[entity] += 1
            if last[entity] >= 0 and number - last[entity] > 1:
                away.add(entity)
        for entity in entities:
            last[entity] = number
        assert position.tolist() == wanted
        assert apart.tolist() == sorted(away)
    assert ledger.scored.tolist() == seen
    assert ledger.left.tolist() == [9 - rows for rows in seen]


def test_rows_in_no_shard_and_in_two_are_found() -> None:
    coverage = Coverage()
    coverage.add(ints(0, 0, 1), ints(2, 4, 0), ints(2, 3, 5))
    coverage.add(ints(1), ints(4), ints(3))
    twice, left = coverage.close(ints(10, 8, 2))
    assert twice.tolist() == [[1, 4, 5]]
    assert left.tolist() == [[0, 0, 2], [0, 7, 10], [1, 7, 8], [2, 0, 2]]
    assert inside(left, ints(0, 0, 0, 1, 1, 2), ints(1, 2, 9, 6, 7, 0)).tolist() == [
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert inside(left[:0], ints(0), ints(1)).tolist() == [False]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 9))
def test_a_draw_is_seeded_within_bounds_and_takes_whom_it_must(sizes: list[int], count: int, seed: int) -> None:
    known = [(shard, entity) for shard, size in enumerate(sizes) for entity in range(size)]
    wanted = [known[0], known[-1]] if known else []
    pairs = list(enumerate(sizes))
    drawn = draw_entities(pairs, wanted, count, np.random.default_rng(seed))
    flat = [(shard, entity) for shard, entities in drawn.items() for entity in entities]
    assert len(flat) == len(set(flat)) == min(count, len(known))
    assert set(flat) <= set(known)
    assert set(wanted[:count]) <= set(flat)
    assert drawn == draw_entities(pairs, wanted, count, np.random.default_rng(seed))


def request_file() -> RequestFile:
    return RequestFile(
        run_id="night",
        identity="abc",
        model_path="m.keras",
        model_fingerprint="f",
        input=InputSettings(
            path=("in",),
            entity=("a", "b"),
            time=("t",),
            features=(("rows", ("x", "y")), ("codes", ("c",))),
            since="2026-01-01",
            fill={"x": Fill(0.5), "y": Fill(previous=True), "c": Fill("w")},
            vocabulary={"c": ("v", "w")},
            keep=("k",),
        ),
        step=StepSettings(8, 16, jit=False),
        output=OutputSettings("out", ("s", "t"), rows_per_file=7),
    )


def test_a_request_comes_back_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert read_request(store) is None
    write_request(store, request_file())
    assert read_request(store) == request_file()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"input": 1, "step": {}, "output": {}}'])
def test_a_request_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    store = LocalStore(str(tmp_path))
    store.write(REQUEST, text.encode())
    with pytest.raises(RunFailed, match=r"request\.json cannot be understood"):
        read_request(store)
