"""Who may write: the lock's decisions, one look at a time."""

from __future__ import annotations

from dataclasses import replace

from cluster.core.lock import (
    LOCK,
    STALE_S,
    Claim,
    Holder,
    Newcomer,
    Refuse,
    Sight,
    Take,
    Wait,
    beat_name,
    claim_name,
    highest,
    outdated,
)

CLAIM = Claim(3, Holder("host", "machine", 17, "4711", "run", "session", "2026-11-22T01:02:03+00:00"))


def seen(beat: bytes | None, now_s: float, claim: Claim | None = CLAIM, *, gone: bool = False) -> Sight:
    return Sight(claim, beat, now_s, gone)


def test_an_output_that_nobody_ever_held_is_taken_at_once() -> None:
    assert Newcomer().look(seen(None, 0.0, None)) == Take(1)


def test_a_released_lock_is_taken_at_once_under_the_next_number() -> None:
    assert Newcomer().look(seen(None, 0.0, CLAIM.released("now"))) == Take(4)


def test_the_lock_of_a_process_that_is_known_to_be_gone_is_taken_at_once() -> None:
    assert Newcomer().look(seen(b"9", 0.0, gone=True)) == Take(4)


def test_one_look_never_says_that_a_holder_is_dead_or_alive() -> None:
    assert Newcomer().look(seen(b"9", 1e9)) == Wait()


def test_a_beat_that_changes_refuses() -> None:
    newcomer = Newcomer()
    newcomer.look(seen(b"9", 0.0))
    assert newcomer.look(seen(b"9", 4.0)) == Wait()
    assert newcomer.look(seen(b"10", 5.0)) == Refuse(CLAIM)


def test_a_first_beat_is_a_sign_of_life() -> None:
    newcomer = Newcomer()
    newcomer.look(seen(None, 0.0))
    assert newcomer.look(seen(b"1", 1.0)) == Refuse(CLAIM)


def test_a_beat_that_stands_still_is_waited_for_and_then_taken_over() -> None:
    newcomer = Newcomer()
    assert newcomer.look(seen(b"9", 100.0)) == Wait()
    assert newcomer.look(seen(b"9", 100.0 + STALE_S - 0.1)) == Wait()
    assert newcomer.look(seen(b"9", 100.0 + STALE_S)) == Take(4)


def test_a_claim_without_any_beat_goes_stale_too() -> None:
    newcomer = Newcomer()
    newcomer.look(seen(None, 0.0))
    assert newcomer.look(seen(None, STALE_S)) == Take(4)


def test_a_beat_that_is_gone_is_no_sign_of_life() -> None:
    newcomer = Newcomer()
    newcomer.look(seen(b"9", 0.0))
    assert newcomer.look(seen(None, 1.0)) == Wait()


def test_a_new_holder_is_watched_from_its_first_sight() -> None:
    newcomer, other = Newcomer(), replace(CLAIM, number=4)
    newcomer.look(seen(b"9", 0.0))
    assert newcomer.look(seen(b"1", STALE_S, other)) == Wait()
    assert newcomer.look(seen(b"1", STALE_S + 1, other)) == Wait()
    assert newcomer.look(seen(b"1", 2 * STALE_S, other)) == Take(5)


def test_a_holder_that_releases_while_it_is_watched_lets_the_newcomer_in() -> None:
    newcomer = Newcomer()
    newcomer.look(seen(b"9", 0.0))
    assert newcomer.look(seen(None, 1.0, CLAIM.released("now"))) == Take(4)


def test_a_claim_reads_back_as_it_was_written() -> None:
    for claim in (CLAIM, CLAIM.released("now")):
        assert Claim.from_json(claim.to_json()) == claim


def test_the_highest_number_holds_however_the_listing_is_ordered() -> None:
    names = ["00000010.json", "00000009.json", "00000011.beat"]
    assert highest(names) == highest(names[::-1]) == 10
    assert highest([]) == highest(["00000001.beat"]) == 0


def test_what_is_below_the_number_that_holds_means_nothing() -> None:
    names = [name.rpartition("/")[2] for number in (9, 10, 11) for name in (claim_name(number), beat_name(number))]
    assert outdated(names, 10) == [claim_name(9), beat_name(9)]
    assert claim_name(9) == f"{LOCK}/00000009.json"
