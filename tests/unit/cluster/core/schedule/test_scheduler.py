"""The scheduler: who gets which shard and when, what is committed, and what a death leads to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from cluster.core.commit import Fragment
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Action, Assign, Commit, Discard, Fail, Finish, Quarantine, StartReplica
from cluster.core.schedule.events import (
    ClusterChanged,
    Demand,
    FragmentStaged,
    ReplicaLeaving,
    ReplicaLost,
    ReplicaReady,
    ReplicaReported,
    ShardBroken,
)
from cluster.core.schedule.scheduler import LEAD, LEAVES_PER_DEATH, Scheduler

NOTHING = Demand(wanted_entities=0, shards_ahead=LEAD, rows_free=10**9)
HUNGRY = Demand(wanted_entities=10**6, shards_ahead=0, rows_free=10**9)
LOW = Demand(wanted_entities=0, shards_ahead=0, rows_free=10**9)  # every slot fed, nothing ahead


def shards(*rows: int, streamed: Collection[int] = (), bands: Sequence[int] | None = None) -> list[Shard]:
    """Shards of `rows` rows, each of 10 entities, or of one where it is streamed; each is a band of its own."""
    return [
        Shard(index, 1 if index in streamed else 10, count, count, index in streamed, bands[index] if bands else index)
        for index, count in enumerate(rows)
    ]


def started(
    rows: Sequence[int], *, replicas: int = 1, max_attempts: int = 3, streamed: Collection[int] = ()
) -> Scheduler:
    scheduler = Scheduler(shards(*rows, streamed=streamed), replicas=replicas, max_attempts=max_attempts)
    scheduler.start()
    return scheduler


def staged(shard: int, attempt: int = 1, index: int = 0, *, final: bool = True, rows: int = 1) -> Fragment:
    return Fragment(shard, index, attempt, final, "file", "staged", rows, 1, "", None, None)


def assigned(actions: Sequence[Action]) -> list[int]:
    return [action.shard for action in actions if isinstance(action, Assign)]


def test_as_many_replicas_start_as_are_wanted() -> None:
    scheduler = Scheduler(shards(5, 5), replicas=3, max_attempts=3)
    assert scheduler.start() == [StartReplica(0), StartReplica(1), StartReplica(2)]
    assert scheduler.replicas_ready == 0


def test_a_run_with_nothing_left_finishes_without_replicas() -> None:
    scheduler = Scheduler(shards(5, 5), replicas=3, max_attempts=3, done=[0, 1])
    assert scheduler.start() == [Finish()]
    assert (scheduler.finished, scheduler.shards_done) == (True, 2)


def test_shards_start_in_plan_order_under_attempt_1() -> None:
    scheduler = started([9, 8, 7])
    assert scheduler.handle(ReplicaReady(0, HUNGRY)) == [Assign(0, 0, 1), Assign(0, 1, 1), Assign(0, 2, 1)]
    assert scheduler.replicas_ready == 1


def one_by_one(scheduler: Scheduler, order: Sequence[int]) -> list[int]:
    """The shards that replicas get who take them in this order, each one at a time."""
    one = Demand(wanted_entities=1, shards_ahead=LEAD - 1, rows_free=10**9)
    return [shard for number in order for shard in assigned(scheduler.handle(ReplicaReported(number, one)))]


def test_within_a_band_each_replica_has_neighbours() -> None:
    scheduler = Scheduler(shards(*[9] * 8, bands=[0] * 6 + [1] * 2), replicas=2, max_attempts=3)
    scheduler.start()
    assert one_by_one(scheduler, [0, 1, 0, 1, 0, 1]) == [0, 3, 1, 4, 2, 5]
    assert one_by_one(scheduler, [1, 0]) == [7, 6]


def test_who_is_through_with_its_own_shards_takes_the_last_of_the_band() -> None:
    scheduler = Scheduler(shards(*[9] * 8, bands=[0] * 8), replicas=2, max_attempts=3)
    scheduler.start()
    scheduler.handle(ClusterChanged(room=1, wanted=2))
    assert one_by_one(scheduler, [0] * 8) == [0, 1, 2, 3, 7, 6, 5, 4]


def test_done_shards_are_not_handed_out_again() -> None:
    scheduler = Scheduler(shards(9, 8, 7), replicas=1, max_attempts=3, done=[1])
    scheduler.start()
    assert assigned(scheduler.handle(ReplicaReady(0, HUNGRY))) == [0, 2]


def test_a_fed_replica_gets_shards_ahead_and_no_more() -> None:
    scheduler = started([1] * 10)
    assert assigned(scheduler.handle(ReplicaReady(0, LOW))) == list(range(LEAD))
    assert scheduler.handle(ReplicaReported(0, NOTHING)) == []


def test_free_slots_are_fed_by_as_many_shards_as_their_entities_fill() -> None:
    scheduler = started([1] * 10)
    demand = Demand(wanted_entities=35, shards_ahead=0, rows_free=10**9)
    assert assigned(scheduler.handle(ReplicaReady(0, demand))) == [0, 1, 2, 3]


def test_a_replica_gets_what_it_has_room_for() -> None:
    scheduler = started([5] * 10)
    assert assigned(scheduler.handle(ReplicaReady(0, Demand(1000, 0, rows_free=14)))) == [0, 1]


def test_an_idle_replica_gets_a_shard_whatever_room_it_tells() -> None:
    assert assigned(started([5] * 10).handle(ReplicaReady(0, Demand(0, 0, rows_free=0)))) == [0]


def test_a_streamed_shard_needs_the_room_of_its_pieces_and_not_of_its_rows() -> None:
    scheduler = started([1000, 900, 800, 5, 5], streamed={0, 1, 2})
    demand = Demand(wanted_entities=1000, shards_ahead=0, rows_free=100, stream_rows=40)
    assert assigned(scheduler.handle(ReplicaReady(0, demand))) == [0, 1]


def test_long_entities_step_beside_each_other_though_one_alone_is_a_share() -> None:
    scheduler = started([30, 28, 26, 8, 8], replicas=2, streamed={0, 1, 2})
    assert assigned(scheduler.handle(ReplicaReady(0, HUNGRY))) == [0]
    assert assigned(scheduler.handle(ReplicaReady(1, HUNGRY))) == [1, 2]
    assert assigned(scheduler.handle(ReplicaReported(0, HUNGRY))) == [3, 4]


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_the_first_replica_takes_no_more_than_its_share(replicas: int) -> None:
    scheduler = started([10] * 30, replicas=replicas)
    counts = [len(assigned(scheduler.handle(ReplicaReady(number, HUNGRY)))) for number in range(replicas)]
    assert counts == [30 // replicas] * replicas


def test_a_share_is_of_the_rows_that_are_left() -> None:
    scheduler = started([10] * 8, replicas=2)
    assert assigned(scheduler.handle(ReplicaReady(0, HUNGRY))) == [0, 1, 2, 3]
    for shard in (0, 1, 2, 3):
        scheduler.handle(FragmentStaged(0, staged(shard)))
    assert assigned(scheduler.handle(ReplicaReported(0, HUNGRY))) == [4, 5]


def test_rows_that_are_scored_are_not_left_though_their_shard_is_not_committed() -> None:
    scheduler = started([10] * 9, replicas=2)
    for number in (0, 1):
        assert len(assigned(scheduler.handle(ReplicaReady(number, replace(HUNGRY, wanted_entities=40))))) == 4
    scored = replace(HUNGRY, rows_scored=30)
    scheduler.handle(ReplicaReported(1, replace(NOTHING, rows_scored=35)))
    assert scheduler.handle(ReplicaReported(0, scored)) == []  # the other one has fewer left
    scheduler.check()
    for shard in (0, 1, 2):
        scheduler.handle(FragmentStaged(0, staged(shard, rows=10)))
        scheduler.check()
    assert scheduler.handle(ReplicaReported(0, scored)) == []  # that they are committed changes nothing
    assert assigned(scheduler.handle(ReplicaReported(1, HUNGRY))) == [8]  # an old report does not undo a newer one
    scheduler.check()


def test_what_a_dead_replica_has_scored_is_left_again() -> None:
    scheduler = started([10] * 4, replicas=2)
    assert len(assigned(scheduler.handle(ReplicaReady(0, HUNGRY)))) == 2
    scheduler.handle(ReplicaReported(0, replace(NOTHING, rows_scored=20)))
    scheduler.handle(FragmentStaged(0, staged(0, final=False, rows=5)))
    scheduler.check()
    scheduler.handle(ReplicaLost(0, "killed"))
    scheduler.check()
    assert assigned(scheduler.handle(ReplicaReady(1, HUNGRY))) == [0, 1]


def test_a_staged_fragment_is_committed_and_the_last_one_finishes_the_run() -> None:
    scheduler = started([5, 5])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    first, second = staged(1), staged(0)
    assert scheduler.handle(FragmentStaged(0, first)) == [Commit(first)]
    assert (scheduler.is_done(1), scheduler.is_done(0), scheduler.finished) == (True, False, False)
    assert scheduler.handle(FragmentStaged(0, second)) == [Commit(second), Finish()]
    assert scheduler.finished


def test_a_shard_is_done_with_its_final_fragment_only() -> None:
    scheduler = started([5])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    begin, end = staged(0, final=False), staged(0, index=1)
    assert scheduler.handle(FragmentStaged(0, begin)) == [Commit(begin)]
    assert not scheduler.is_done(0)
    assert scheduler.handle(FragmentStaged(0, end)) == [Commit(end), Finish()]


def test_nothing_follows_once_a_run_is_over() -> None:
    scheduler = started([5])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    scheduler.handle(FragmentStaged(0, staged(0)))
    assert scheduler.handle(ReplicaLost(0, "late")) == []
    assert scheduler.handle(FragmentStaged(0, staged(0))) == []


# ---- deaths


def test_a_dead_replicas_shards_go_back_in_plan_order_and_a_new_one_starts() -> None:
    scheduler = started([9, 8, 7, 6], replicas=2)
    assert assigned(scheduler.handle(ReplicaReady(0, HUNGRY))) == [0]
    assert scheduler.handle(ReplicaLost(0, "killed")) == [StartReplica(2)]
    assert scheduler.replica_deaths == 1
    assert scheduler.handle(ReplicaReady(1, HUNGRY))[0] == Assign(1, 0, 2)


def test_a_late_answer_of_a_dead_replica_is_discarded_by_number() -> None:
    scheduler = started([9, 8], replicas=2)
    scheduler.handle(ReplicaReady(0, HUNGRY))
    scheduler.handle(ReplicaLost(0, "killed"))
    scheduler.handle(ReplicaReady(1, HUNGRY))
    late, good = staged(0, attempt=1), staged(0, attempt=2)
    (action,) = scheduler.handle(FragmentStaged(0, late))
    assert action == Discard(late, "attempt 1 of shard 0 is stale: 2 is newest")
    assert scheduler.handle(FragmentStaged(1, good)) == [Commit(good)]


def test_a_late_answer_is_discarded_also_while_nobody_has_the_shard() -> None:
    scheduler = started([9])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    scheduler.handle(ReplicaLost(0, "killed"))
    assert isinstance(scheduler.handle(FragmentStaged(0, staged(0)))[0], Discard)


def test_an_answer_that_comes_twice_is_committed_once() -> None:
    scheduler = started([9, 8])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    assert isinstance(scheduler.handle(FragmentStaged(0, staged(0)))[0], Commit)
    assert isinstance(scheduler.handle(FragmentStaged(0, staged(0)))[0], Discard)
    assert scheduler.shards_done == 1


def test_an_attempt_goes_on_behind_what_is_committed() -> None:
    scheduler = Scheduler(shards(9), replicas=1, max_attempts=3, committed=[(0, 0), (0, 1)])
    scheduler.start()
    assert scheduler.handle(ReplicaReady(0, HUNGRY)) == [Assign(0, 0, 1, fragments=2)]
    third, end = staged(0, index=2, final=False), staged(0, index=3)
    assert scheduler.handle(FragmentStaged(0, third)) == [Commit(third)]
    assert scheduler.handle(ReplicaLost(0, "killed")) == [StartReplica(1)]
    assert scheduler.handle(ReplicaReady(1, HUNGRY)) == [Assign(1, 0, 2, fragments=3)]
    assert isinstance(scheduler.handle(FragmentStaged(0, end))[0], Discard)


def test_what_is_committed_is_not_committed_again() -> None:
    scheduler = Scheduler(shards(9), replicas=1, max_attempts=3, committed=[(0, 0)])
    scheduler.start()
    scheduler.handle(ReplicaReady(0, HUNGRY))
    again = staged(0, final=False)
    assert scheduler.handle(FragmentStaged(0, again)) == [Discard(again, "committed already")]
    end = staged(0, index=1)
    assert scheduler.handle(FragmentStaged(0, end)) == [Commit(end), Finish()]


def test_a_death_that_is_told_twice_counts_once() -> None:
    scheduler = started([9])
    assert scheduler.handle(ReplicaLost(0, "killed")) == [StartReplica(1)]
    assert scheduler.handle(ReplicaLost(0, "killed")) == []
    assert scheduler.replica_deaths == 1


def test_a_dead_replicas_demand_is_not_met() -> None:
    scheduler = started([9])
    scheduler.handle(ReplicaLost(0, "killed"))
    assert scheduler.handle(ReplicaReported(0, HUNGRY)) == []


def test_a_broken_shard_fails_the_run_with_its_cause() -> None:
    scheduler = started([9])
    scheduler.handle(ReplicaReady(0, HUNGRY))
    assert scheduler.handle(ShardBroken(0, "a file is broken")) == [Fail("a file is broken")]
    assert scheduler.finished


def test_a_shard_that_costs_too_many_replicas_is_given_up_and_the_others_finish() -> None:
    scheduler = started([9, 8], max_attempts=2)
    actions: list[Action] = []
    for number in range(2):
        scheduler.handle(ReplicaReady(number, Demand(0, LEAD - 1, 0)))
        actions = scheduler.handle(ReplicaLost(number, f"killed {number}"))
    assert actions == [Quarantine(0, 2, 0, "the shard lost 2 replicas, the last one to: killed 1"), StartReplica(2)]
    assert scheduler.is_done(0)
    assert scheduler.handle(ReplicaReady(2, HUNGRY)) == [Assign(2, 1, 1)]
    assert scheduler.handle(FragmentStaged(2, staged(1)))[-1] == Finish()


def test_a_run_whose_last_shard_is_given_up_is_finished() -> None:
    scheduler = started([9], max_attempts=1)
    scheduler.handle(ReplicaReady(0, HUNGRY))
    assert [type(action) for action in scheduler.handle(ReplicaLost(0, "killed"))] == [Quarantine, Finish]


def test_replicas_that_die_before_their_first_step_end_the_run() -> None:
    scheduler = started([9], replicas=2, max_attempts=2)
    outcomes = [scheduler.handle(ReplicaLost(number, "no memory")) for number in range(4)]
    assert [type(actions[0]) for actions in outcomes] == [StartReplica, StartReplica, StartReplica, Fail]
    assert outcomes[-1] == [Fail("4 replicas died before their first step, the last one of: no memory")]


def test_a_replica_that_dies_later_is_none_of_them() -> None:
    scheduler = started([9, 8], replicas=3, max_attempts=2)
    scheduler.handle(ReplicaReady(0, Demand(0, LEAD - 1, 0)))
    for number in (1, 2):
        scheduler.handle(ReplicaLost(number, "no memory"))
    scheduler.handle(ClusterChanged(room=1, wanted=1))  # so many deaths would be too many for it
    assert Fail not in map(type, scheduler.handle(ReplicaLost(0, "killed")))


# ---- clusters that grow and shrink


def test_nobody_waits_for_replicas_that_have_no_room() -> None:
    scheduler = started([10] * 30, replicas=3)
    assert scheduler.handle(ClusterChanged(room=1, wanted=3)) == []
    assert len(assigned(scheduler.handle(ReplicaReady(0, HUNGRY)))) == 30


def test_those_that_have_room_to_come_keep_their_share() -> None:
    scheduler = started([10] * 30, replicas=3)
    scheduler.handle(ClusterChanged(room=2, wanted=3))
    assert len(assigned(scheduler.handle(ReplicaReady(0, HUNGRY)))) == 15


def test_nodes_that_arrive_bring_replicas_and_take_their_share() -> None:
    scheduler = started([10] * 30)
    scheduler.handle(ReplicaReady(0, Demand(0, LEAD - 1, 0)))
    assert scheduler.handle(ClusterChanged(room=3, wanted=3)) == [StartReplica(1), StartReplica(2)]
    assert scheduler.replicas_wanted == 3
    assert len(assigned(scheduler.handle(ReplicaReady(1, HUNGRY)))) == 10
    assert scheduler.handle(ClusterChanged(room=3, wanted=3)) == []


def test_what_is_no_longer_wanted_is_not_started_again() -> None:
    scheduler = started([10] * 30, replicas=3)
    assert scheduler.handle(ClusterChanged(room=1, wanted=1)) == []
    assert scheduler.handle(ReplicaLost(1, "gone", with_node=True)) == []
    assert scheduler.handle(ReplicaLost(2, "gone", with_node=True)) == []
    assert scheduler.handle(ReplicaLost(0, "gone", with_node=True)) == [StartReplica(3)]


def test_a_replica_that_is_about_to_go_gets_nothing_more_and_is_replaced_at_once() -> None:
    scheduler = started([9, 8, 7])
    assert assigned(scheduler.handle(ReplicaReady(0, Demand(0, LEAD - 1, 0)))) == [0]
    assert scheduler.handle(ReplicaLeaving(0, "drained")) == [StartReplica(1)]
    assert scheduler.handle(ReplicaLeaving(0, "drained")) == []
    assert scheduler.handle(ReplicaReported(0, HUNGRY)) == []
    done = staged(0)
    assert scheduler.handle(FragmentStaged(0, done)) == [Commit(done)]
    assert scheduler.handle(ReplicaLost(0, "gone", with_node=True)) == []
    assert assigned(scheduler.handle(ReplicaReady(1, HUNGRY))) == [1, 2]


def test_leaves_weigh_less_than_deaths_and_are_not_free() -> None:
    scheduler = started([9], max_attempts=1)
    for number in range(LEAVES_PER_DEATH - 1):
        scheduler.handle(ReplicaReady(number, HUNGRY))
        assert scheduler.handle(ReplicaLost(number, "gone", with_node=True)) == [StartReplica(number + 1)]
    scheduler.handle(ReplicaReady(LEAVES_PER_DEATH - 1, HUNGRY))
    actions = scheduler.handle(ReplicaLost(LEAVES_PER_DEATH - 1, "gone", with_node=True))
    assert [type(action) for action in actions] == [Quarantine, Finish]


def test_nodes_that_leave_before_the_first_step_do_not_end_the_run() -> None:
    scheduler = started([9], max_attempts=1)
    for number in range(9):
        assert scheduler.handle(ReplicaLost(number, "gone", with_node=True)) == [StartReplica(number + 1)]


def test_deaths_before_the_first_step_are_forgotten_while_others_get_on() -> None:
    scheduler = started([9, 8, 7], replicas=2, max_attempts=2)
    scheduler.handle(ReplicaReady(0, HUNGRY))
    for number in range(1, 4):
        scheduler.handle(ReplicaLost(number, "no memory"))
    scheduler.handle(FragmentStaged(0, staged(0)))
    assert scheduler.handle(ReplicaLost(4, "no memory")) == [StartReplica(5)]
