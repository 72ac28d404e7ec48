"""What a listing means after a crash, decided from the records alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.core.commit import COMMITS, QUARANTINE, SNAPSHOTS, STAGED, Fragment, Listing, fragment_name, recover


def fragment(shard: int = 0, index: int = 0, **changes: Any) -> Fragment:
    name = fragment_name("run", shard, index)
    whole = Fragment(shard, index, 1, True, name, f"{name}.1", 5, 2, "sum", "2026-01-01", "2026-01-02")
    return replace(whole, **changes)


def with_quarantine(shard: int = 0) -> Fragment:
    name = fragment_name("run", shard, 0)
    return fragment(shard, quarantine_file=name, quarantine_staged=f"quarantine-{name}.1", rows_quarantined=3)


def test_a_record_reads_back_as_it_was_written() -> None:
    assert Fragment.from_json(with_quarantine().to_json()) == with_quarantine()


def test_names_sort_by_shard_and_fragment_and_carry_no_attempt() -> None:
    names = [fragment_name("run", shard, index) for shard in (2, 10) for index in (2, 10)]
    assert names == sorted(names)
    assert replace(fragment(), attempt=7).record_name == fragment().record_name == f"{COMMITS}/000000-00000.json"


def test_the_quarantine_is_published_before_the_scores() -> None:
    name = fragment_name("run", 0, 0)
    assert with_quarantine().moves() == (
        (f"{STAGED}/quarantine-{name}.1", f"{QUARANTINE}/{name}"),
        (f"{STAGED}/{name}.1", name),
    )


def test_a_fragment_without_rows_moves_nothing() -> None:
    assert fragment(file=None, staged=None).moves() == ()


def test_an_empty_output_has_nothing_to_recover() -> None:
    found = recover([], Listing([]))
    assert (found.publish, found.remove, found.done, found.committed) == ((), (), frozenset(), frozenset())


def test_staged_without_a_record_is_removed() -> None:
    found = recover([], Listing([], ["part-a.1", "part-b.2"]))
    assert found.remove == (f"{STAGED}/part-a.1", f"{STAGED}/part-b.2")
    assert found.committed == frozenset()


def test_recorded_but_not_published_is_published_and_its_staged_file_kept() -> None:
    one = fragment()
    found = recover([one], Listing([], [one.staged or "", "part-of-a-dead-attempt.2"]))
    assert found.publish == (one,)
    assert found.remove == (f"{STAGED}/part-of-a-dead-attempt.2",)
    assert (found.done, found.committed) == ({0}, {(0, 0)})


def test_published_is_left_alone_and_what_is_still_staged_of_it_goes() -> None:
    one = fragment()
    found = recover([one], Listing([one.file or ""], [one.staged or ""]))
    assert (found.publish, found.remove) == ((), (f"{STAGED}/{one.staged}",))


@pytest.mark.parametrize("published", [0, 1])
def test_a_fragment_published_by_half_is_published_again(published: int) -> None:
    one = with_quarantine()
    there = [final for _, final in one.moves()][published : published + 1]
    assert recover([one], Listing(there)).publish == (one,)


def test_a_published_file_without_a_record_is_removed() -> None:
    stray = fragment_name("run", 3, 0)
    assert recover([fragment()], Listing([fragment().file or "", stray])).remove == (stray,)


def test_a_shard_is_done_with_its_final_record_only() -> None:
    begin = fragment(1, final=False)
    found = recover([begin, fragment(2, 0, final=False), fragment(2, 1)], Listing([]))
    assert found.done == {2}
    assert found.committed == {(1, 0), (2, 0), (2, 1)}


def test_only_the_newest_snapshot_of_a_shard_is_kept() -> None:
    records = [fragment(0, 0, final=False, snapshot="a"), fragment(0, 1, final=False, snapshot="b"), fragment(1)]
    found = recover(records, Listing([record.file or "" for record in records], [], ["a", "b", "c"]))
    assert found.remove == (f"{SNAPSHOTS}/a", f"{SNAPSHOTS}/c")


def test_recovery_does_not_depend_on_the_order_of_listings() -> None:
    records = [fragment(0, 0, final=False, snapshot="a"), fragment(0, 1, final=False, snapshot="b"), fragment(1)]
    one, other = (
        recover(records, Listing(["x", "y"], ["s", "t"], ["a", "b"])),
        recover(records[::-1], Listing(["y", "x"], ["t", "s"], ["b", "a"])),
    )
    assert set(one.publish) == set(other.publish)
    assert (one.remove, one.done, one.committed) == (other.remove, other.done, other.committed)


def test_a_leftover_stays_while_a_record_may_still_come_to_name_it() -> None:
    """Its driver may have been taken for dead in the middle of the commit."""
    mine, other = fragment(0, 0, final=False), f"{fragment_name('run', 0, 1)}.2"
    snapshot = "000000-00001.parquet.1-2"
    assert recover([mine], Listing([mine.file or ""], [other], [snapshot])).remove == ()
    recorded = recover([mine, fragment(0, 1, final=False)], Listing([mine.file or ""], [other], [snapshot]))
    ended = recover([fragment(0, 0)], Listing([mine.file or ""], [other], [snapshot]))
    assert recorded.remove == ended.remove == (f"{STAGED}/{other}", f"{SNAPSHOTS}/{snapshot}")
