"""A simulated replica: how it spends its time on the shards that it holds.

An entity flows through its slot at the replica's pace; shards take slots in the order in which they came; a shard uses
as many slots as it can to its end, its rows over its longest entity. A step on few slots costs less, down to
`STEP_COST_MIN` of a full one. Reading, writing and committing are taken to keep pace.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import Demand

STEP_COST_MIN = 1 / 16  # of a full step, however few slots are busy
ROWS_EPSILON = 0.5  # less than a row is none


@dataclass(frozen=True)
class ReplicaPace:
    """What a replica can do."""

    rows_per_s: float  # with all slots busy
    slots: int = 256
    room_rows: int = 8 << 20  # rows that it holds at once
    startup_s: float = 15.0
    checkpoint_s: float = 60.0  # most work that its death costs


@dataclass
class Held:
    """A shard in a replica."""

    shard: Shard
    attempt: int
    rows_left: float
    kept_rows: float  # rows left at the last checkpoint
    kept_s: float
    rows: float  # that it had left when the replica got it

    @property
    def slots(self) -> float:
        """Slots that it can use to its end."""
        return self.shard.rows / self.shard.longest_rows

    @property
    def done(self) -> bool:
        return self.rows_left < ROWS_EPSILON


@dataclass
class SimulatedReplica:
    """One replica; `at_s` is the moment until which its work is reckoned."""

    number: int
    pace: ReplicaPace
    share: float  # of the pace: less for a straggler
    at_s: float
    held: list[Held] = field(default_factory=list)
    busy_s: float = 0.0
    scored: float = 0.0  # rows
    idle: list[tuple[float, float]] = field(default_factory=list)  # from, to
    version: int = 0  # of what is expected of it: an older expectation no longer holds

    def take(self, held: Held) -> None:
        """Adds a shard; its work until now must be reckoned."""
        self.held.append(held)

    def advance(self, now_s: float) -> None:
        """Reckons the work until `now_s`."""
        spent_s = now_s - self.at_s
        if not self.held and spent_s > 0:
            self.idle.append((self.at_s, now_s))
        self.busy_s += spent_s if self.held else 0.0
        for held, speed in zip(self.held, self._speeds(), strict=True):
            scored = min(speed * spent_s, held.rows_left)
            held.rows_left -= scored
            self.scored += scored
            if now_s - held.kept_s >= self.pace.checkpoint_s:
                held.kept_rows, held.kept_s = held.rows_left, now_s
        self.at_s = now_s

    def next_s(self) -> float | None:
        """Seconds until a shard ends or has all its entities in slots; None where nothing is held."""
        waits = []
        for held, speed in zip(self.held, self._speeds(), strict=True):
            if speed > 0:
                waits.append(held.rows_left / speed)
                waiting_rows = held.rows_left - self._rows_in_slots(held)
                waits += [waiting_rows / speed] if waiting_rows > ROWS_EPSILON else []
        return max(min(waits), 1e-6) if waits else None

    def finished(self) -> list[Held]:
        """Takes out the shards that are done."""
        done = [held for held in self.held if held.done]
        self.held = [held for held in self.held if not held.done]
        return done

    def demand(self) -> Demand:
        """What the replica would say of itself."""
        at_hand = sum(held.rows_left / held.shard.longest_rows for held in self.held)  # entities, in slots too
        speeds = self._speeds()
        ahead = sum(
            speed <= 0 or held.rows_left > self._rows_in_slots(held) + ROWS_EPSILON
            for held, speed in zip(self.held, speeds, strict=True)
        )
        stream_rows = self.pace.room_rows // 8
        taken = sum(stream_rows if held.shard.streamed else held.shard.rows for held in self.held)
        wanted, room = int(2 * self.pace.slots - at_hand), self.pace.room_rows - taken
        return Demand(wanted, ahead, room, stream_rows, rows_scored=round(self.scored))

    def _rows_in_slots(self, held: Held) -> float:
        return min(held.slots, self.pace.slots) * held.shard.longest_rows

    def _speeds(self) -> list[float]:
        """Rows per second of each shard."""
        free, taken = float(self.pace.slots), []
        for held in self.held:
            taken.append(min(held.slots, free))
            free -= taken[-1]
        used = max(self.pace.slots - free, self.pace.slots * STEP_COST_MIN)
        return [slots * self.pace.rows_per_s * self.share / used for slots in taken]
