"""The scheduler: events in, actions out.

What it decides: which replica gets which shard and when, which staged fragments are committed, what becomes of a dead
replica's shards, and when the run is over. A shard is leased under an attempt number that only grows; a fragment of an
older attempt is discarded by its number. Shards are handed out in plan order, longest entities first, to whoever has
fewer than `LEAD` of them ahead, or fewer entities at hand than would fill its slots and each of them once again: no
slot waits for one, and the rest is left for whoever wants it first. Within a band of the plan each replica has a
stretch of neighbours, whose rows lie together; one that is through with its own takes from the end of what is left.
Beyond its share of the rows that are left only the replica with the fewest left gets more, so that the one that starts
first does not take what the others could do, and no very long entity keeps slots idle that could step it beside
another. A row is left until its replica says that it is scored: shards end by the dozen, and until they are committed
one replica that is a moment ahead of another would seem to hold next to nothing. Among many replicas some are slow, so
there only a part of a share is handed out ahead: what a slow one sits on, the others would wait for.

The cluster may be smaller than what was asked for, grow and shrink. Shares are reckoned with the replicas that step and
those that have room to come, so that nobody waits for one that cannot be placed. A replica whose node is about to leave
gets nothing more, and its successor starts at once. A node that leaves says little about the shards it had:
`LEAVES_PER_DEATH` such losses weigh as much as one death.

It knows no clock, no file and no Ray; its memory follows shards and replicas, never entities.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.actions import Action, Assign, Commit, Discard, Fail, Finish, Quarantine, StartReplica
from cluster.core.schedule.events import (
    ClusterChanged,
    Demand,
    Event,
    FragmentStaged,
    ReplicaLeaving,
    ReplicaLost,
    ReplicaReady,
    ReplicaReported,
    ShardBroken,
)
from cluster.core.schedule.remaining_rows import RemainingRows

LEAD = 2  # one that goes into slots, one that is read meanwhile
MANY_REPLICAS = 16
SHARE_PARTS = 4  # of a replica's share of the rows that are left, among many, one is handed out ahead
LEAVES_PER_DEATH = 5


@dataclass
class _Replica:
    ready: bool = False
    leaving: bool = False  # its node is about to go
    shards: set[int] = field(default_factory=set)  # its leases
    rows: int = 0  # rows of its leases
    scored: int = 0  # rows that it says it has scored, of all that it was ever given
    scored_before: int = 0  # those of them that belong to no lease any more

    @property
    def rows_scored(self) -> int:
        """Rows of its leases that are scored."""
        return min(max(self.scored - self.scored_before, 0), self.rows)

    @property
    def rows_left(self) -> int:
        """Those that are not."""
        return self.rows - self.rows_scored


class Scheduler:
    """Invariants: a shard is queued, leased to exactly one replica, or done; `attempts` never falls."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        replicas: int,
        max_attempts: int,
        done: Collection[int] = (),
        committed: Collection[tuple[int, int]] = (),
    ) -> None:
        self._shards = {shard.index: shard for shard in shards}
        self._target = replicas
        self._room: int | None = None  # replicas that the cluster can hold; None while nobody has said
        self._max_attempts = max_attempts
        self._done = set(done)
        self._fragments = Counter(shard for shard, _ in committed)  # shard -> fragments committed, without a gap
        self._committed_rows: Counter[int] = Counter()  # shard under lease -> rows of its attempt's fragments
        self._queue = sorted(index for index in self._shards if index not in self._done)
        self._bands = _bands(shards)
        self._rows_open = sum(self._shards[index].rows for index in self._queue)  # of shards that are not done
        self._rows_scored = 0  # of those, by the replicas that have them
        self._leases: dict[int, int] = {}  # shard -> replica
        self.attempts: dict[int, int] = {}  # shard -> number of its newest attempt
        self._losses: Counter[int] = Counter()  # shard -> what it has cost: a death LEAVES_PER_DEATH, a leave 1
        self._replicas: dict[int, _Replica] = {}
        self._loads = RemainingRows()  # of the replicas that step and stay
        self._leaving_count = 0
        self._replica_count = 0
        self._start_deaths = 0
        self.replica_deaths = 0
        self.finished = False

    def start(self) -> list[Action]:
        """The first actions."""
        if not self._queue:
            self.finished = True
            return [Finish()]
        return [self._start_replica() for _ in range(self._target)]

    def handle(self, event: Event) -> list[Action]:
        """What follows from `event`."""
        if self.finished:
            return []
        match event:
            case ReplicaReady(replica, demand) | ReplicaReported(replica, demand):
                return self._feed(replica, demand)
            case FragmentStaged():
                return self._staged(event)
            case ReplicaLost():
                return self._lost(event)
            case ReplicaLeaving(replica, _):
                return self._leaving(replica)
            case ClusterChanged(room, wanted):
                self._room, self._target = room, max(wanted, 1)
                return self._fill_up()
            case ShardBroken(_, cause, again):
                return self._fail(cause, again=again)

    @property
    def shards_done(self) -> int:
        """Shards that are wholly committed."""
        return len(self._done)

    def is_done(self, shard: int) -> bool:
        """True when a shard is wholly committed."""
        return shard in self._done

    @property
    def replicas_ready(self) -> int:
        """Replicas that can step."""
        return sum(replica.ready for replica in self._replicas.values())

    @property
    def replicas_wanted(self) -> int:
        """Replicas that the run is to have."""
        return self._target

    def check(self) -> None:
        """Asserts the invariants; tests call it after every transition."""
        queued, leased = set(self._queue), set(self._leases)
        assert len(queued) == len(self._queue), "a shard is queued twice"
        assert self._queue == sorted(self._queue), "the queue is out of order"
        assert not queued & leased, f"queued and leased: {queued & leased}"
        assert not (queued | leased) & self._done, "a done shard is still to do"
        assert queued | leased | self._done == set(self._shards), "a shard is lost"
        for index, number in self._leases.items():
            assert index in self._replicas[number].shards, f"shard {index} is leased to a replica that has it not"
        for replica in self._replicas.values():
            assert replica.rows == sum(self._shards[index].rows for index in replica.shards), "rows do not add up"
        assert self._leaving_count == sum(replica.leaving for replica in self._replicas.values()), "leaving miscounted"
        stepping = {number: r.rows_left for number, r in self._replicas.items() if r.ready and not r.leaving}
        self._loads.check(stepping)
        assert self.finished or self._staying_count >= self._target, "a replica is missing and none was started"
        assert self._rows_open == sum(self._shards[index].rows for index in queued | leased), "open rows do not add up"
        scored = sum(replica.rows_scored for replica in self._replicas.values())
        assert self._rows_scored == scored, "scored rows do not add up"
        assert set(self._committed_rows) <= leased, "rows are kept of a shard that nobody holds"

    def _start_replica(self) -> StartReplica:
        number = self._replica_count
        self._replica_count += 1
        self._replicas[number] = _Replica()
        return StartReplica(number)

    def _fill_up(self) -> list[Action]:
        """Starts what is missing; the runtime places it when there is room."""
        return [self._start_replica() for _ in range(self._target - self._staying_count)]

    @property
    def _staying_count(self) -> int:
        return len(self._replicas) - self._leaving_count

    def _leaving(self, number: int) -> list[Action]:
        replica = self._replicas.get(number)
        if replica is not None and not replica.leaving:
            replica.leaving = True
            self._leaving_count += 1
            self._loads.remove(number)
        return self._fill_up()

    def _feed(self, number: int, demand: Demand) -> list[Action]:
        replica = self._replicas.get(number)
        if replica is None:
            return []
        replica.ready = True
        if replica.leaving:
            return []
        self._reckon(number, scored=demand.rows_scored)
        wanted, ahead, room = demand.wanted_entities, demand.shards_ahead, demand.rows_free
        actions: list[Action] = []
        while self._queue and (wanted > 0 or ahead < LEAD):
            place = self._next(number)
            shard = self._shards[self._queue[place]]
            needed = demand.stream_rows if shard.streamed else shard.rows
            if replica.shards and (needed > room or not self._is_fair(number, shard)):
                break
            actions.append(self._lease(number, self._queue.pop(place)))
            wanted, ahead, room = wanted - shard.entities, ahead + 1, room - needed
        return actions

    def _next(self, number: int) -> int:
        """Where in the queue the replica's next shard stands."""
        first, behind = self._bands[self._shards[self._queue[0]].band]
        parts, part = self._target, number % self._target
        begin, end = (first + (behind - first) * border // parts for border in (part, part + 1))
        place = bisect_left(self._queue, begin)
        if place < len(self._queue) and self._queue[place] < end:
            return place
        return bisect_left(self._queue, behind) - 1

    def _is_fair(self, number: int, shard: Shard) -> bool:
        rows = self._replicas[number].rows_left
        # Who steps, and who has room to come; those have no row yet.
        stepping, staying = len(self._loads), self._staying_count
        count = max(stepping, staying if self._room is None else min(self._room, staying))
        left, parts = self._rows_open - self._rows_scored, count * (SHARE_PARTS if count >= MANY_REPLICAS else 1)
        ahead = -(-left // parts)
        return rows + shard.rows <= ahead or rows <= (self._loads.least() if count == stepping else 0)

    def _lease(self, number: int, index: int) -> Assign:
        self._replicas[number].shards.add(index)
        self._reckon(number, rows=self._shards[index].rows)
        self._leases[index] = number
        self.attempts[index] = self.attempts.get(index, 0) + 1
        return Assign(number, index, self.attempts[index], self._fragments[index])

    def _staged(self, event: FragmentStaged) -> list[Action]:
        fragment = event.fragment
        newest = self.attempts.get(fragment.shard, 0)
        if fragment.attempt != newest or self._leases.get(fragment.shard) != event.replica:
            return [
                Discard(fragment, f"attempt {fragment.attempt} of shard {fragment.shard} is stale: {newest} is newest")
            ]
        committed = self._fragments[fragment.shard]
        if fragment.index < committed:
            return [Discard(fragment, "committed already")]
        assert fragment.index == committed, (
            f"fragment {fragment.index} of shard {fragment.shard} comes before {committed}"
        )
        self._fragments[fragment.shard] += 1
        self._committed_rows[fragment.shard] += fragment.rows
        self._start_deaths = 0  # whatever kills replicas at their start, it does not kill all
        actions: list[Action] = [Commit(fragment)]
        if fragment.final:
            self._release(fragment.shard)
            actions += self._settle(fragment.shard)
        return actions

    def _settle(self, index: int) -> list[Action]:
        """A shard that nobody holds needs nothing more."""
        self._done.add(index)
        self._rows_open -= self._shards[index].rows
        self.finished = len(self._done) == len(self._shards)
        return [Finish()] if self.finished else []

    def _release(self, index: int) -> None:
        number = self._leases.pop(index)
        self._replicas[number].shards.remove(index)
        self._reckon(number, rows=-self._shards[index].rows, released=self._committed_rows.pop(index))

    def _reckon(self, number: int, *, rows: int = 0, released: int = 0, scored: int = 0) -> None:
        """A replica has `rows` more in leases, and in these `released` scored ones fewer; it has `scored` in all."""
        replica = self._replicas[number]
        self._rows_scored -= replica.rows_scored
        replica.rows += rows
        replica.scored_before += released
        replica.scored = max(replica.scored, scored)  # an old report may come once more
        self._rows_scored += replica.rows_scored
        if replica.ready and not replica.leaving:
            self._loads.put(number, replica.rows_left)

    def _lost(self, event: ReplicaLost) -> list[Action]:
        replica = self._replicas.pop(event.replica, None)
        if replica is None:
            return []
        self.replica_deaths += 1
        self._leaving_count -= replica.leaving
        self._rows_scored -= replica.rows_scored
        self._loads.remove(event.replica)
        actions: list[Action] = []
        for index in sorted(replica.shards):
            del self._leases[index]
            self._committed_rows.pop(index, None)
            self._losses[index] += 1 if event.with_node else LEAVES_PER_DEATH
            if self._losses[index] < self._max_attempts * LEAVES_PER_DEATH:
                insort(self._queue, index)
            else:
                actions += self._give_up(index, event.cause)
        if self.finished:
            return actions
        if not replica.ready and not event.with_node:
            self._start_deaths += 1
            if self._start_deaths >= self._max_attempts * self._target:
                return self._fail(
                    f"{self._start_deaths} replicas died before their first step, the last one of: {event.cause}"
                )
        return actions + self._fill_up()

    def _give_up(self, index: int, cause: str) -> list[Action]:
        """A shard that has cost `max_attempts` replicas must not cost the others theirs."""
        why = f"the shard lost {self.attempts[index]} replicas, the last one to: {cause}"
        return [Quarantine(index, self.attempts[index], self._fragments[index], why), *self._settle(index)]

    def _fail(self, cause: str, *, again: bool | None = False) -> list[Action]:
        self.finished = True
        return [Fail(cause, again)]


def _bands(shards: Sequence[Shard]) -> dict[int, tuple[int, int]]:
    """Per band the first of its shards, and the one behind the last."""
    indices: dict[int, list[int]] = {}
    for shard in shards:
        indices.setdefault(shard.band, []).append(shard.index)
    return {band: (min(found), max(found) + 1) for band, found in indices.items()}
